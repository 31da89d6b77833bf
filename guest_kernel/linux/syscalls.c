/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The same functions as user/lib/syscalls.c, by what Linux calls them: as many as user/bin/measure.c and the library
 * below it need.  Each is one system call, where the teaching kernel's is one, so that the two may be compared.
 */
#include <user.h>

enum {
    LINUX_read = 0, LINUX_write = 1, LINUX_open = 2, LINUX_close = 3, LINUX_mmap = 9, LINUX_munmap = 11, LINUX_brk = 12,
    LINUX_access = 21, LINUX_pipe = 22, LINUX_getpid = 39, LINUX_fork = 57, LINUX_execve = 59, LINUX_exit_group = 231,
    LINUX_wait4 = 61, LINUX_unlink = 87,
};

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
    long result;

    asm volatile("syscall"
                 : "=a"(result)
                 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
}

#define CALL0(name) call(LINUX_##name, 0, 0, 0, 0, 0, 0)
#define CALL1(name, a) call(LINUX_##name, (long)(a), 0, 0, 0, 0, 0)
#define CALL2(name, a, b) call(LINUX_##name, (long)(a), (long)(b), 0, 0, 0, 0)
#define CALL3(name, a, b, c) call(LINUX_##name, (long)(a), (long)(b), (long)(c), 0, 0, 0)

void exit(int code)
{
    for (;;)
        CALL1(exit_group, code);
}

int fork(void) { return (int)CALL0(fork); }
int getpid(void) { return (int)CALL0(getpid); }
int exec(const char *path, char *const argv[]) { return (int)CALL3(execve, path, argv, NULL); }

int wait(int pid, int *status, int flags)
{
    int word = 0, died = (int)call(LINUX_wait4, pid, (long)&word, flags, 0, 0, 0);

    if (status && died > 0)
        *status = word & 0x7f ? STATUS_KILLED : word >> 8 & 0xff;
    return died;
}

void *sbrk(long increment)
{
    static long end;
    long old = end ? end : (end = CALL1(brk, 0));

    if (!increment)
        return (void *)old;
    if (CALL1(brk, old + increment) != old + increment)
        return (void *)(long)-ENOMEM;
    end = old + increment;
    return (void *)old;
}

void *mmap(size_t length)
{
    enum { PROT_READ = 1, PROT_WRITE = 2, MAP_PRIVATE = 2, MAP_ANONYMOUS = 32 };

    return (void *)call(LINUX_mmap, 0, (long)length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

int munmap(void *start, size_t length) { return (int)CALL2(munmap, start, length); }

int open(const char *path, int mode)
{
    enum { WRONLY = 1, RDWR = 2, CREAT = 0100 };
    int access = !(mode & O_WRITE) ? 0 : mode & O_READ ? RDWR : WRONLY;

    return (int)CALL3(open, path, access | (mode & O_CREATE ? CREAT : 0), 0644);
}

int close(int fd) { return (int)CALL1(close, fd); }
long read(int fd, void *to, size_t n) { return CALL3(read, fd, to, n); }
long write(int fd, const void *from, size_t n) { return CALL3(write, fd, from, n); }
int pipe(int fds[2]) { return (int)CALL1(pipe, fds); }
int unlink(const char *path) { return (int)CALL1(unlink, path); }

/* Only whether it is there: nobody asks for more. */
int stat(const char *path, struct file_info *info)
{
    info->size = 0;
    info->kind = KIND_FILE;
    return (int)CALL2(access, path, 0);
}

/* What the teaching kernel does for `measure` at its own privilege, no other kernel will. */
long privileged(int op, u64 count)
{
    (void)op;
    (void)count;
    return -ENODEV;
}

/* init.c: the machine off. */
void power_off(void)
{
    enum { LINUX_reboot = 169 };

    call(LINUX_reboot, 0xfee1dead, 672274793, 0x4321fedc, 0, 0, 0);
}
