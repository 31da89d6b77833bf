/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a process of Linux does all day, timed: a static program for the guest, run by the benchmark's init.
 *
 *     micro operations [MS [BATCHES]]      every operation below: "NAME=NS/OPERATIONS/ALL", the shortest of the batches,
 *                                          and how many of them were done in all
 *     micro loops COUNT...                 the compute loops of guest_kernel/bench: "begin=NAME", "NAME=TICKS/COUNT"
 *     micro exit                           nothing: what `exec` is timed with
 *
 * An operation is repeated for about MS milliseconds, BATCHES times. The shortest batch counts: it is the host's other
 * work, not the guest's, that this keeps out, for the guest's own ticks are in each of them.
 *
 * System calls are made as such, not through the C library, which would add some of its own (to a signal, two).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define FEW_PAGES 64UL
#define FAULTED_PAGES 1024UL
#define LONG_TRIES 3 /* of a compute loop, as in rows.py */
#define LONGEST 400000000UL /* rounds of a batch, however short they are */

typedef unsigned long ns;

static char *self; /* the path of this program */
static int zero, to_child[2], from_child[2];
static char *page;

static ns now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (ns)t.tv_sec * 1000000000UL + (ns)t.tv_nsec;
}

static ns shorter(ns a, ns b)
{
    return a < b ? a : b;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static char *map(unsigned long pages)
{
    char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        die("mmap");
    madvise(at, pages * PAGE, MADV_NOHUGEPAGE);
    return at;
}

static void touch(char *at, unsigned long pages)
{
    for (unsigned long n = 0; n < pages; n++)
        *(volatile char *)(at + n * PAGE) = 1;
}

/* -- the operations: each does `count` of them and says how long that took ------------------------------------ */
#define TIMED(count, body) \
    ns began = now(); \
    for (unsigned long i = 0; i < (count); i++) { \
        body; \
    } \
    return now() - began

static ns xorshift(unsigned long count)
{
    unsigned long x = 88172645463325252UL;
    ns began = now();

    for (unsigned long i = 0; i < count; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    __asm__ volatile("" : : "r"(x));
    return now() - began;
}

static ns system_call(unsigned long count)
{
    TIMED(count, syscall(SYS_getppid));
}

static ns read_zero(unsigned long count)
{
    char byte;

    TIMED(count, syscall(SYS_read, zero, &byte, 1));
}

static void handler(int number)
{
    (void)number;
}

static ns signal_self(unsigned long count)
{
    pid_t pid = getpid();

    TIMED(count, syscall(SYS_kill, pid, SIGUSR1));
}

static void wait_for(pid_t child)
{
    int status;

    if (child < 0)
        die("fork");
    if (waitpid(child, &status, 0) != child || status != 0)
        die("a child failed");
}

static ns fork_exit(unsigned long count)
{
    TIMED(count, {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        wait_for(child);
    });
}

static ns fork_exec(unsigned long count)
{
    char *arguments[] = { self, "exit", NULL }, *environment[] = { NULL };

    TIMED(count, {
        pid_t child = fork();
        if (child == 0) {
            execve(self, arguments, environment);
            _exit(1);
        }
        wait_for(child);
    });
}

static ns ping_pong(unsigned long count)
{
    char byte = 0;

    TIMED(count, {
        if (write(to_child[1], &byte, 1) != 1 || read(from_child[0], &byte, 1) != 1)
            die("pipe");
    });
}

static ns map_touch_unmap(unsigned long count)
{
    TIMED(count, {
        char *at = map(FEW_PAGES);
        touch(at, FEW_PAGES);
        munmap(at, FEW_PAGES * PAGE);
    });
}

static ns page_fault(unsigned long count) /* whatever else the mapping costs is outside */
{
    ns took = 0;

    for (unsigned long left = count; left;) {
        unsigned long pages = left < FAULTED_PAGES ? left : FAULTED_PAGES;
        char *at = map(pages);
        ns began = now();

        touch(at, pages);
        took += now() - began;
        munmap(at, pages * PAGE);
        left -= pages;
    }
    return took;
}

static ns protect(unsigned long count)
{
    TIMED(count, mprotect(page, PAGE, i & 1 ? PROT_READ | PROT_WRITE : PROT_READ));
}

static ns yield(unsigned long count)
{
    TIMED(count, syscall(SYS_sched_yield));
}

static const struct {
    const char *name;
    ns (*run)(unsigned long count);
} operations[] = {
    { "xorshift", xorshift },     { "getppid", system_call },   { "read_zero", read_zero },
    { "signal", signal_self },    { "fork", fork_exit },        { "exec", fork_exec },
    { "pipe", ping_pong },        { "mmap", map_touch_unmap },  { "page_fault", page_fault },
    { "mprotect", protect },      { "sched_yield", yield },
};

/* Who answers the pipe; it ends when the other end closes. */
static pid_t start_answering(void)
{
    pid_t child;

    if (pipe(to_child) || pipe(from_child))
        die("pipe");
    child = fork();
    if (child == 0) {
        char byte;

        close(to_child[1]);
        while (read(to_child[0], &byte, 1) == 1)
            if (write(from_child[1], &byte, 1) != 1)
                break;
        _exit(0);
    }
    close(to_child[0]);
    close(from_child[1]);
    return child;
}

static void time_operations(unsigned long batch_ns, unsigned long batches)
{
    signal(SIGUSR1, handler);
    zero = open("/dev/zero", O_RDONLY);
    if (zero < 0)
        die("/dev/zero");
    page = map(1);
    touch(page, 1);
    for (unsigned n = 0; n < sizeof(operations) / sizeof(operations[0]); n++) {
        ns (*run)(unsigned long) = operations[n].run;
        pid_t answering = run == ping_pong ? start_answering() : 0;
        unsigned long count = 1, all = 1;
        ns took, best = -1UL;

        run(1); /* what only the first of them costs */
        for (;; count *= 4) {
            took = shorter(run(count), run(count));
            all += 2 * count;
            if (took >= batch_ns / 4 || count >= LONGEST / 4)
                break;
        }
        count = count * batch_ns / (took ? took : 1);
        if (count < 2)
            count = 2;
        for (unsigned long i = 0; i < batches; i++, all += count)
            best = shorter(best, run(count));
        if (answering) {
            close(to_child[1]);
            wait_for(answering);
        }
        printf("%s=%lu/%lu/%lu\n", operations[n].name, best, count, all);
    }
}

/* -- the compute loops: guest_kernel/bench/lib/loops.S --------------------------------------------------------- */
typedef void loop(unsigned long count);
extern loop loop_xorshift, loop_branchy, loop_callret, loop_loads, loop_movsq;
extern unsigned long run_timed(loop *loop, unsigned long count);

static const struct {
    const char *name;
    loop *loop;
} loops[] = {
    { "xorshift", loop_xorshift }, { "branchy", loop_branchy }, { "callret", loop_callret },
    { "loads", loop_loads },       { "movsq", loop_movsq },
};

static void time_loops(char **counts, int given)
{
    for (int n = 0; n < given && n < (int)(sizeof(loops) / sizeof(loops[0])); n++) {
        unsigned long count = strtoul(counts[n], NULL, 10);

        for (int i = 0; i < LONG_TRIES; i++) {
            printf("begin=%s\n", loops[n].name);
            usleep(5000); /* the line is out, and the ticks that were missed meanwhile are over */
            run_timed(loops[n].loop, count / 64 + 1); /* translated, and the TLB filled */
            printf("%s=%lu/%lu\n", loops[n].name, run_timed(loops[n].loop, count), count);
        }
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    setvbuf(stdout, NULL, _IOLBF, 0);
    self = argv[0];
    if (!strcmp(what, "exit"))
        return 0;
    if (!strcmp(what, "operations"))
        time_operations((argc > 2 ? strtoul(argv[2], NULL, 10) : 20) * 1000000UL, argc > 3 ? strtoul(argv[3], NULL, 10) : 10);
    else if (!strcmp(what, "loops"))
        time_loops(argv + 2, argc - 2);
    else
        return 2;
    return 0;
}
