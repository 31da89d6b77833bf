/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * usertest [names]: the promises of the kernel, one function each, checked from outside.
 */
#include <user.h>

#define PAGE 4096

#define check(condition) \
    do { \
        if (!(condition)) \
            fail("usertest: %s: line %d: not so: %s\n", __func__, __LINE__, #condition); \
    } while (0)

static int status_of(int pid)
{
    int status = -1;

    check(wait(pid, &status, 0) == pid);
    return status;
}

/* A child writes; the parent keeps what it had. And the other way round. */
static void copy_on_write(void)
{
    static volatile int data[3 * PAGE / sizeof(int)];
    int pid;

    for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
        data[i] = (int)i;
    pid = fork();
    if (pid == 0) {
        for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
            if (data[i] != (int)i)
                exit(1);
            else
                data[i] = -1;
        exit(0);
    }
    data[5] = 55;
    check(status_of(pid) == 0);
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
        check(data[i] == (i == 5 ? 55 : (int)i));
}

/* Grandchildren share one page among many; each copy is its own. */
static void copy_on_write_deep(void)
{
    volatile int *shared = mmap(PAGE);
    int depth = 0, pid;

    *shared = 0;
    while (depth < 6 && (pid = fork()) == 0)
        depth++, *shared += 1;
    if (depth == 6)
        exit(*shared == 6 ? 0 : 1);
    check(*shared == depth);
    int status = status_of(pid);

    if (depth)
        exit(status);
    check(status == 0);
    munmap((void *)shared, PAGE);
}

static void pipes(void)
{
    int fds[2], pid;
    u32 sum = 0;
    u8 bytes[1000];
    long n;

    check(pipe(fds) == 0);
    pid = fork();
    if (pid == 0) { /* more than the pipe holds, in odd pieces */
        close(fds[0]);
        for (int i = 0; i < 100; i++) {
            memset(bytes, i, sizeof(bytes));
            if (write(fds[1], bytes, 997) != 997)
                exit(1);
        }
        exit(0);
    }
    close(fds[1]);
    u64 total = 0;

    while ((n = read(fds[0], bytes, 313)) > 0) {
        total += n;
        for (long i = 0; i < n; i++)
            sum += bytes[i];
    }
    check(n == 0 && total == 99700 && sum == 997 * 4950);
    check(status_of(pid) == 0);
    close(fds[0]);

    check(pipe(fds) == 0);
    close(fds[0]);
    check(write(fds[1], "x", 1) == -EPIPE);
    close(fds[1]);
}

static void files(void)
{
    char text[32];
    static char big[3 * PAGE + 17], again[sizeof(big)];
    int fd;

    check(open("/tmp/no", O_READ) == -ENOENT);
    fd = open("/tmp/file", O_READ | O_WRITE | O_CREATE | O_TRUNCATE);
    check(fd > 0 && write(fd, "hello, file", 11) == 11);
    check(seek(fd, 7, SEEK_SET) == 7 && read(fd, text, sizeof(text)) == 4 && !memcmp(text, "file", 4));
    check(read(fd, text, 1) == 0);
    for (unsigned i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * 7);
    check(seek(fd, 1000, SEEK_SET) == 1000 && write(fd, big, sizeof(big)) == sizeof(big));
    check(seek(fd, 1000, SEEK_SET) == 1000 && read(fd, again, sizeof(again)) == sizeof(again));
    check(!memcmp(big, again, sizeof(big)));
    check(seek(fd, 500, SEEK_SET) == 500 && read(fd, text, 1) == 1 && text[0] == 0); /* a hole */
    check(unlink("/tmp/file") == 0 && open("/tmp/file", O_READ) == -ENOENT);
    check(seek(fd, 0, SEEK_SET) == 0 && read(fd, text, 5) == 5); /* open, so still there */
    check(close(fd) == 0 && close(fd) == -EBADF);

    check(mkdir("/tmp/d") == 0 && mkdir("/tmp/d") == -EEXIST);
    close(open("/tmp/d/x", O_WRITE | O_CREATE));
    check(unlink("/tmp/d") == -ENOTEMPTY && unlink("/tmp/d/x") == 0 && unlink("/tmp/d") == 0);

    /* A file of the boot archive becomes one's own when written to. */
    fd = open("/etc/motd", O_READ | O_WRITE);
    check(read(fd, text, 1) == 1 && seek(fd, 0, SEEK_SET) == 0);
    check(write(fd, text, 1) == 1);
    close(fd);
}

static void descriptors(void)
{
    int fd = open("/etc/motd", O_READ), copy = dup(fd);
    char a, b;

    check(copy > fd && read(fd, &a, 1) == 1 && read(copy, &b, 1) == 1); /* one position between them */
    check(seek(fd, 0, SEEK_CUR) == 2);
    check(dup2(fd, 9) == 9 && close(9) == 0 && close(copy) == 0 && close(fd) == 0);
    check(read(77, &a, 1) == -EBADF && write(fd, &a, 1) == -EBADF);
    for (fd = 0; fd >= 0;)
        fd = open("/dev/null", O_READ);
    check(fd == -EMFILE);
    for (fd = 3; fd < 16; fd++)
        close(fd);
}

/* The kernel does not trust addresses. */
static void bad_addresses(void)
{
    static const u64 bad[] = { 0, 8, 0x3fffffffffUL, 0x7fffffffffffUL, 0x800000000000UL, 0xffff800000000000UL,
                               0xffff880000000000UL, 0xffffffff80100000UL, ~0UL - 4 };
    int fd = open("/etc/motd", O_READ), fds[2];

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        check(read(fd, (void *)bad[i], 8) == -EFAULT);
        check(open((char *)bad[i], O_READ) == -EFAULT);
        check(exec("/bin/true", (char **)bad[i]) == -EFAULT);
        check(pipe((int *)bad[i]) == -EFAULT);
        check(ps((struct process_info *)bad[i], 4) == -EFAULT);
    }
    check(read(fd, (void *)bad_addresses, 8) == -EFAULT); /* our own code is not for writing */
    check(pipe(fds) == 0 && write(fds[1], (void *)bad[3], 8) == -EFAULT);
    close(fds[0]);
    close(fds[1]);
    close(fd);
}

static int dies(void (*crime)(void))
{
    int pid = fork();

    if (pid == 0) {
        crime();
        exit(0);
    }
    return status_of(pid);
}

static void write_null(void) { *(volatile int *)8 = 1; }
static void write_code(void) { *(volatile int *)(u64)write_null = 1; }
static void write_kernel(void) { *(volatile int *)0xffffffff80102000UL = 1; }
static void read_kernel(void) { (void)*(volatile int *)0xffff880000000000UL; }
static void read_hypervisor_only(void) { (void)*(volatile int *)0xffff830000000000UL; }
static void divide(void) { asm volatile("xorl %%ecx, %%ecx; divl %%ecx" : : : "eax", "ecx", "edx"); }
static void halt(void) { asm volatile("hlt"); }
static void disable_interrupts(void) { asm volatile("cli"); }
static void read_port(void) { asm volatile("inb $0x80, %%al" : : : "eax"); }
static void load_page_table(void) { asm volatile("movq %%rax, %%cr3" : : "a"(0)); }
static void call_interrupt(void) { asm volatile("int $32"); }
static void break_point(void) { asm volatile("int3"); }
static void bad_opcode(void) { asm volatile("ud2"); }
static void run_data(void)
{
    static u8 code[] = { 0xc3 };

    ((void (*)(void))code)();
}

static void crimes(void)
{
    check(dies(write_null) == STATUS_FAULT + 14);
    check(dies(write_code) == STATUS_FAULT + 14);
    check(dies(write_kernel) == STATUS_FAULT + 14);
    check(dies(read_kernel) == STATUS_FAULT + 14);
    check(dies(read_hypervisor_only) == STATUS_FAULT + 14);
    check(dies(divide) == STATUS_FAULT + 0);
    check(dies(halt) == STATUS_FAULT + 13);
    check(dies(disable_interrupts) == STATUS_FAULT + 13);
    check(dies(read_port) == STATUS_FAULT + 13);
    check(dies(load_page_table) == STATUS_FAULT + 13);
    check(dies(call_interrupt) == STATUS_FAULT + 13);
    check(dies(break_point) == STATUS_FAULT + 3); /* the one exception that programs may raise by themselves */
    check(dies(bad_opcode) == STATUS_FAULT + 6);
    check(dies(run_data) == STATUS_FAULT + 14);
}

static void heap(void)
{
    u8 *end = sbrk(0), *grown = sbrk(5 * PAGE);
    void *pieces[50];

    check(grown == end && sbrk(0) == end + 5 * PAGE);
    for (int i = 0; i < 5 * PAGE; i++) {
        check(grown[i] == 0);
        grown[i] = (u8)i;
    }
    check(sbrk(-5 * PAGE) == end + 5 * PAGE && sbrk(0) == end);
    check((long)sbrk(1L << 40) == -ENOMEM);

    for (int round = 0; round < 20; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
            size_t n = 16 + (i * 37 + round * 101) % 3000;

            check((pieces[i] = malloc(n)));
            memset(pieces[i], (int)i, n);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
            check(*(u8 *)pieces[i] == i);
        for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
            free(pieces[(i * 7) % ARRAY_SIZE(pieces)]);
    }
}

static void unmapped(void) { *(volatile u8 *)0x10003000UL = 1; }

static void maps(void)
{
    u8 *a = mmap(8 * PAGE), *b;
    struct memory_info before, after;

    check(a == (u8 *)0x10000000);
    memset(a, 1, 8 * PAGE);
    memory(&before);
    check(munmap(a + 3 * PAGE, 2 * PAGE) == 0); /* a hole in the middle */
    memory(&after);
    check(after.free_pages == before.free_pages + 2);
    check(a[3 * PAGE - 1] == 1 && a[5 * PAGE] == 1);
    check(dies(unmapped) == STATUS_FAULT + 14);
    b = mmap(2 * PAGE); /* fills it again, with fresh zeroes */
    check(b == a + 3 * PAGE && b[0] == 0 && b[2 * PAGE - 1] == 0);
    check(munmap(a, 8 * PAGE) == 0);
    check(munmap(a + 1, PAGE) == -EINVAL && (long)mmap(0) == -EINVAL && (long)mmap(1L << 40) == -EINVAL);
}

/* x87 and SSE registers are a process's own, though they change hands only when touched. */
static void floating_point(void)
{
    int pids[3];

    for (int i = 0; i < 3; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            u64 in = (u64)i * 1111 + 5, out = 0;
            long sum = 0, one = 1;

            asm volatile("movq %0, %%xmm3; fildq %1" : : "r"(in), "m"(sum));
            for (int round = 0; round < 200; round++) {
                asm volatile("fildq %0; faddp" : : "m"(one));
                if (round % 10 == 0)
                    yield();
            }
            asm volatile("movq %%xmm3, %0" : "=r"(out));
            asm volatile("fistpq %0" : "=m"(sum));
            exit(out == in && sum == 200 ? 0 : 1);
        }
    }
    for (int i = 0; i < 3; i++)
        check(status_of(pids[i]) == 0);
}

static void sleeping(void)
{
    u64 start = uptime(), took;

    check(sleep_ns(30000000) == 0);
    took = uptime() - start;
    check(took >= 30000000 && took < 2000000000);
}

/* A busy process does not keep others from running, or from killing it. */
static void preemption(void)
{
    int busy = fork();
    u64 start;

    if (busy == 0)
        for (;;)
            ;
    start = uptime();
    for (int i = 0; i < 3; i++)
        check(sleep_ns(5000000) == 0);
    check(uptime() - start < 5000000000);
    check(kill(busy) == 0 && status_of(busy) == STATUS_KILLED);
    check(kill(busy) == -ESRCH && kill(1) == -EPERM);
}

/* Every register survives ticks, faults and switches. */
static void registers(void)
{
    int busy = fork();
    u64 sum = 0;

    if (busy == 0)
        for (;;)
            ;
    for (u64 i = 0; i < 20; i++) {
        u64 a = i, b = ~i, c = i << 7, count = 1000000;

        asm volatile("movq %1, %%r8; movq %2, %%r9; movq %3, %%r15\n"
                     "1: leaq (%%r8,%%r9), %%r11; leaq (%%r11,%%r15), %0\n"
                     "decq %4; jnz 1b"
                     : "=&r"(sum), "+r"(a), "+r"(b), "+r"(c), "+r"(count)
                     :
                     : "r8", "r9", "r11", "r15");
        check(sum == i + ~i + (i << 7));
    }
    kill(busy);
    check(status_of(busy) == STATUS_KILLED);
}

static void programs(void)
{
    char *no[] = { "no", NULL }, *echo[] = { "sh", "-c", "echo one two | wc > /tmp/out; false || exit 5", NULL };
    char text[16];
    int pid = fork(), fd;

    check(exec("/bin/no", no) == -ENOENT && exec("/etc/motd", no) == -ENOEXEC && exec("/bin", no) == -EISDIR);
    if (pid == 0) {
        exec("/bin/sh", echo);
        exit(99);
    }
    check(status_of(pid) == 5);
    fd = open("/tmp/out", O_READ);
    check(read(fd, text, sizeof(text)) == 6 && !memcmp(text, "1 2 8\n", 6));
    close(fd);
    unlink("/tmp/out");
}

static void deep_stack(void)
{
    char big[200 * PAGE], *far = big; /* touched from the far end: demand-zero anywhere in the stack's area */

    asm volatile("" : "+r"(far)); /* the compiler shall not know that this is an array nobody else sees */
    far[0] = 1;
    asm volatile("" : "+r"(far) : : "memory");
    check(far[0] == 1 && far[100 * PAGE] == 0);
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    { "copy_on_write", copy_on_write },
    { "copy_on_write_deep", copy_on_write_deep },
    { "pipes", pipes },
    { "files", files },
    { "descriptors", descriptors },
    { "bad_addresses", bad_addresses },
    { "crimes", crimes },
    { "heap", heap },
    { "maps", maps },
    { "floating_point", floating_point },
    { "sleeping", sleeping },
    { "preemption", preemption },
    { "registers", registers },
    { "programs", programs },
    { "deep_stack", deep_stack },
};

int main(int argc, char **argv)
{
    for (unsigned i = 0; i < ARRAY_SIZE(tests); i++) {
        int wanted = argc < 2, status, pid;

        for (int a = 1; a < argc; a++)
            wanted |= !strcmp(argv[a], tests[i].name);
        if (!wanted)
            continue;
        pid = fork(); /* each in a process of its own: what it leaves behind goes with it */
        if (pid == 0) {
            tests[i].run();
            exit(0);
        }
        status = status_of(pid);
        printf("%s: %s\n", tests[i].name, status ? "FAILED" : "ok");
        if (status)
            return 1;
    }
    printf("usertest: ok\n");
    return 0;
}
