/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Into the kernel: `syscall` with the number in %rax. It destroys %rcx and %r11.
 */
#include <user.h>

static long call(long number, long a, long b, long c)
{
    long result;

    asm volatile("syscall" : "=a"(result) : "0"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

#define CALL0(name) call(SYS_##name, 0, 0, 0)
#define CALL1(name, a) call(SYS_##name, (long)(a), 0, 0)
#define CALL2(name, a, b) call(SYS_##name, (long)(a), (long)(b), 0)
#define CALL3(name, a, b, c) call(SYS_##name, (long)(a), (long)(b), (long)(c))

void exit(int code)
{
    for (;;)
        CALL1(exit, code);
}

int fork(void) { return (int)CALL0(fork); }
int exec(const char *path, char *const argv[]) { return (int)CALL2(exec, path, argv); }
int wait(int pid, int *status, int flags) { return (int)CALL3(wait, pid, status, flags); }
int kill(int pid) { return (int)CALL1(kill, pid); }
int getpid(void) { return (int)CALL0(getpid); }
int yield(void) { return (int)CALL0(yield); }
int sleep_ns(u64 nanoseconds) { return (int)CALL1(sleep, nanoseconds); }
int setgroup(int pid, int group) { return (int)CALL2(setgroup, pid, group); }
int ps(struct process_info *list, int room) { return (int)CALL2(ps, list, room); }

void *sbrk(long increment) { return (void *)CALL1(sbrk, increment); }
void *mmap(size_t length) { return (void *)CALL1(mmap, length); }
int munmap(void *start, size_t length) { return (int)CALL2(munmap, start, length); }

int open(const char *path, int mode) { return (int)CALL2(open, path, mode); }
int close(int fd) { return (int)CALL1(close, fd); }
long read(int fd, void *to, size_t n) { return CALL3(read, fd, to, n); }
long write(int fd, const void *from, size_t n) { return CALL3(write, fd, from, n); }
long seek(int fd, long offset, int whence) { return CALL3(seek, fd, offset, whence); }
int dup(int fd) { return (int)CALL1(dup, fd); }
int dup2(int fd, int wanted) { return (int)CALL2(dup2, fd, wanted); }
int pipe(int fds[2]) { return (int)CALL1(pipe, fds); }
int unlink(const char *path) { return (int)CALL1(unlink, path); }
int mkdir(const char *path) { return (int)CALL1(mkdir, path); }
int readdir(int fd, struct directory_entry *entry) { return (int)CALL2(readdir, fd, entry); }
int stat(const char *path, struct file_info *info) { return (int)CALL2(stat, path, info); }
int chdir(const char *path) { return (int)CALL1(chdir, path); }
int getcwd(char *to, size_t room) { return (int)CALL2(getcwd, to, room); }
int tty(int command, long argument) { return (int)CALL2(tty, command, argument); }

u64 uptime(void) { return (u64)CALL0(uptime); }
u64 time(void) { return (u64)CALL0(time); }
int memory(struct memory_info *info) { return (int)CALL1(memory, info); }
long dmesg(size_t from, char *to, size_t n) { return CALL3(dmesg, from, to, n); }
int machine(struct machine_info *info) { return (int)CALL1(machine, info); }
long privileged(int op, u64 count) { return CALL2(privileged, op, count); }
int shutdown(int how) { return (int)CALL1(shutdown, how); }
int sync(void) { return (int)CALL0(sync); }
int mount(const char *device, const char *directory, int flags) { return (int)CALL3(mount, device, directory, flags); }
int umount(const char *directory) { return (int)CALL1(umount, directory); }
int mounts(unsigned which, struct mount_info *info) { return (int)CALL2(mounts, which, info); }
