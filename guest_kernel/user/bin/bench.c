/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench [names]: what operations cost, in nanoseconds each, as key=value lines. Each benchmark checks that the work was
 * really done; if not, its value is "failed" and the program fails. What the machine has not, like grants on bare
 * hardware, is "none".
 *
 * Results are means over a number of operations that is the same everywhere, so that counts can be compared.
 */
#include <user.h>

#define PAGE 4096

/* Each returns nanoseconds for `count` operations, or a negative number. */

static long time_syscall(u64 count)
{
    int pid = getpid();
    u64 start = uptime();

    for (u64 i = 0; i < count; i++)
        if (getpid() != pid)
            return -1;
    return (long)(uptime() - start);
}

static long time_page_fault(u64 count)
{
    volatile u8 *memory = mmap(count * PAGE);
    u64 start, sum = 0, took;

    if ((long)memory < 0)
        return -1;
    start = uptime();
    for (u64 i = 0; i < count; i++)
        sum += memory[i * PAGE]++;
    took = uptime() - start;
    for (u64 i = 0; i < count; i++)
        sum += memory[i * PAGE] != 1;
    munmap((void *)memory, count * PAGE);
    return sum ? -1 : (long)took;
}

/* After a fork, a write by either side makes a copy. */
static long time_cow_fault(u64 count)
{
    volatile u8 *memory = mmap(count * PAGE);
    int fds[2], status, pid;
    long took = -1;

    for (u64 i = 0; i < count; i++)
        memory[i * PAGE] = (u8)i;
    pipe(fds);
    pid = fork();
    if (pid == 0) {
        u64 start = uptime();

        for (u64 i = 0; i < count; i++)
            memory[i * PAGE]++;
        took = (long)(uptime() - start);
        for (u64 i = 0; i < count; i++)
            if (memory[i * PAGE] != (u8)(i + 1))
                took = -1;
        write(fds[1], &took, sizeof(took));
        exit(0);
    }
    read(fds[0], &took, sizeof(took));
    wait(pid, &status, 0);
    for (u64 i = 0; i < count; i++)
        if (memory[i * PAGE] != (u8)i)
            took = -1;
    close(fds[0]);
    close(fds[1]);
    munmap((void *)memory, count * PAGE);
    return took;
}

static long time_mmap(u64 count)
{
    u64 start = uptime();

    for (u64 i = 0; i < count; i++) {
        volatile u8 *memory = mmap(16 * PAGE);

        if ((long)memory < 0)
            return -1;
        for (int page = 0; page < 16; page++)
            if (memory[page * PAGE]++)
                return -1;
        if (munmap((void *)memory, 16 * PAGE))
            return -1;
    }
    return (long)(uptime() - start);
}

static long time_fork(u64 count)
{
    u64 start = uptime();

    for (u64 i = 0; i < count; i++) {
        int status = 0, pid = fork();

        if (pid == 0)
            exit(42);
        if (pid < 0 || wait(pid, &status, 0) != pid || status != 42)
            return -1;
    }
    return (long)(uptime() - start);
}

static long time_exec(u64 count)
{
    char *argv[] = { "false", NULL };
    u64 start = uptime();

    for (u64 i = 0; i < count; i++) {
        int status = 0, pid = fork();

        if (pid == 0) {
            exec("/bin/false", argv);
            exit(2);
        }
        if (pid < 0 || wait(pid, &status, 0) != pid || status != 1)
            return -1;
    }
    return (long)(uptime() - start);
}

/* A byte goes to another process and comes back, one larger: two switches and four system calls. */
static long time_switch(u64 count)
{
    int there[2], back[2], status = 0, pid;
    u8 byte = 0;
    u64 start;
    long took = 0;

    pipe(there);
    pipe(back);
    pid = fork();
    if (pid == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) {
            byte++;
            write(back[1], &byte, 1);
        }
        exit(7);
    }
    start = uptime();
    for (u64 i = 0; i < count / 2 && took >= 0; i++)
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1 || byte != (u8)(i + 1))
            took = -1;
    if (took >= 0)
        took = (long)(uptime() - start);
    for (int i = 0; i < 2; i++) {
        close(there[1 - i]);
        close(back[1 - i]);
    }
    wait(pid, &status, 0);
    return status == 7 ? took : -1;
}

static long time_file(u64 count)
{
    static char block[PAGE], again[PAGE];
    u64 start = uptime();

    memset(block, 'x', sizeof(block));
    for (u64 i = 0; i < count; i++) {
        int fd = open("/tmp/bench", O_READ | O_WRITE | O_CREATE);

        if (fd < 0 || write(fd, block, PAGE) != PAGE || seek(fd, 0, SEEK_SET) || read(fd, again, PAGE) != PAGE ||
            memcmp(block, again, PAGE) || close(fd) || unlink("/tmp/bench"))
            return -1;
    }
    return (long)(uptime() - start);
}

static long null_call(u64 count) { return privileged(PRIVILEGED_NULL_CALL, count); }
static long pte_update(u64 count) { return privileged(PRIVILEGED_PTE_UPDATE, count); }
static long pte_batch(u64 count) { return privileged(PRIVILEGED_PTE_BATCH, count); }
static long event(u64 count) { return privileged(PRIVILEGED_EVENT, count); }
static long grant_copy(u64 count) { return privileged(PRIVILEGED_GRANT_COPY, count); }
static long grant_map(u64 count) { return privileged(PRIVILEGED_GRANT_MAP, count); }

static const struct {
    const char *name;
    long (*run)(u64 count);
    u64 count;
} benchmarks[] = {
    { "null_hypercall", null_call, 10000 },
    { "syscall", time_syscall, 10000 },
    { "page_fault", time_page_fault, 1024 },
    { "cow_fault", time_cow_fault, 512 },
    { "mmap_touch16_munmap", time_mmap, 64 },
    { "fork_exit_wait", time_fork, 64 },
    { "fork_exec_wait", time_exec, 64 },
    { "context_switch", time_switch, 2000 },
    { "file_create_write_read_delete", time_file, 100 },
    { "pte_update", pte_update, 2048 },
    { "pte_update_batched", pte_batch, 8192 },
    { "event_to_self", event, 1000 },
    { "grant_copy", grant_copy, 1000 },
    { "grant_map_unmap", grant_map, 1000 },
};

static int wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], name))
            return 1;
    return argc < 2;
}

int main(int argc, char **argv)
{
    int status = 0, ran = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(benchmarks); i++) {
        long took;

        if (!wanted(benchmarks[i].name, argc, argv))
            continue;
        ran++;
        took = benchmarks[i].run(benchmarks[i].count);
        if (took == -ENODEV) {
            printf("%s=none\n", benchmarks[i].name);
        } else if (took < 0) {
            printf("%s=failed\n", benchmarks[i].name);
            status = 1;
        } else {
            printf("%s=%ld\n", benchmarks[i].name, took / (long)benchmarks[i].count);
        }
    }
    if (!ran) {
        fprintf(2, "bench: no such benchmark; there are:");
        for (unsigned i = 0; i < ARRAY_SIZE(benchmarks); i++)
            fprintf(2, " %s", benchmarks[i].name);
        fprintf(2, "\n");
        status = 2;
    }
    return status;
}
