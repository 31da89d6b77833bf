/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a process of Linux does with a disk, timed: a static program for the guest, run by the benchmark's init.
 *
 *     disk all DEVICE [MS]       every operation below: "NAME=NS/OPERATIONS/ALL"
 *     disk stream DEVICE [MS]    only reads of 1 MiB past the page cache, for MS milliseconds (0: for ever)
 *     disk calls MS              no disk at all, but system calls: the median of batches of a millisecond
 *
 * Through the page cache: 8 MiB by 128 KiB, read after the device's cached pages were dropped, or written and flushed.
 * Past it (O_DIRECT): 1 MiB at a time from one end to the other, and 4 KiB at places that xorshift chooses: one at a time,
 * or 32 under way (the kernel's own asynchronous I/O, io_submit). Each is repeated for MS milliseconds. It is the mean
 * that counts: a disk is shared, and its waits belong to it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MIB (1UL << 20)
#define CHUNK (128UL << 10)
#define CACHED (8 * MIB)
#define PAGE 4096UL
#define DEPTH 32
#define BATCHES 100000

typedef unsigned long ns;

static int cached, direct;
static unsigned long size; /* of the device */
static char *buffer;       /* DEPTH pages, and at least a MiB */
static unsigned long seed = 88172645463325252UL;

static ns now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (ns)t.tv_sec * 1000000000UL + (ns)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static unsigned long somewhere(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % (size / PAGE) * PAGE;
}

static void transfer(int file, int is_write, unsigned long at, unsigned long length)
{
    long done = is_write ? pwrite(file, buffer, length, at) : pread(file, buffer, length, at);

    if (done != (long)length)
        die("a transfer");
}

/* -- the operations: each is done once ---------------------------------------------------------------------------- */
static void through_cache(int is_write)
{
    if (ioctl(cached, BLKFLSBUF))
        die("BLKFLSBUF");
    for (unsigned long at = 0; at < CACHED; at += CHUNK)
        transfer(cached, is_write, at, CHUNK);
    if (is_write && fsync(cached))
        die("fsync");
}

static void whole_mib(int is_write)
{
    static unsigned long at;

    transfer(direct, is_write, at, MIB);
    at = (at + MIB) % size;
}

static void one_page(int is_write)
{
    transfer(direct, is_write, somewhere(), PAGE);
}

static void many_pages(int is_write)
{
    static aio_context_t context;
    static struct iocb requests[DEPTH], *list[DEPTH];
    struct io_event events[DEPTH];
    long done;

    if (!context && syscall(SYS_io_setup, DEPTH, &context))
        die("io_setup");
    for (int i = 0; i < DEPTH; i++) {
        requests[i] = (struct iocb){
            .aio_lio_opcode = is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD, .aio_fildes = direct,
            .aio_buf = (unsigned long)(buffer + i * PAGE), .aio_nbytes = PAGE, .aio_offset = somewhere(),
        };
        list[i] = &requests[i];
    }
    if (syscall(SYS_io_submit, context, DEPTH, list) != DEPTH)
        die("io_submit");
    done = syscall(SYS_io_getevents, context, DEPTH, DEPTH, events, NULL);
    if (done != DEPTH)
        die("io_getevents");
    for (int i = 0; i < DEPTH; i++)
        if (events[i].res != (long)PAGE)
            die("an asynchronous transfer");
}

static const struct {
    const char *name;
    void (*once)(int is_write);
    int is_write, each; /* how many operations once is */
} operations[] = {
    { "cached_read", through_cache, 0, CACHED / MIB },
    { "cached_write", through_cache, 1, CACHED / MIB },
    { "direct_read", whole_mib, 0, 1 },
    { "direct_write", whole_mib, 1, 1 },
    { "page_read", one_page, 0, 1 },
    { "page_write", one_page, 1, 1 },
    { "pages_read", many_pages, 0, DEPTH },
    { "pages_write", many_pages, 1, DEPTH },
};

static void all(ns for_ns)
{
    for (unsigned i = 0; i < sizeof operations / sizeof *operations; i++) {
        unsigned long count = 0;
        ns began, took;

        operations[i].once(operations[i].is_write); /* everything it touches was touched */
        began = now();
        do {
            operations[i].once(operations[i].is_write);
            count += operations[i].each;
            took = now() - began;
        } while (took < for_ns);
        printf("%s=%lu/%lu/%lu\n", operations[i].name, took, count, count);
    }
}

static int compare(const void *a, const void *b)
{
    ns x = *(const ns *)a, y = *(const ns *)b;

    return (x > y) - (x < y);
}

/* A process that is not running learns nothing of it: of the batches it is the median that counts. */
static void calls(ns for_ns)
{
    static ns batches[BATCHES];
    unsigned long each = 1, count = 0;
    ns began, end = now() + for_ns;

    for (ns took = 0; took < 1000000; each *= 2) {
        began = now();
        for (unsigned long i = 0; i < each; i++)
            syscall(SYS_getppid);
        took = now() - began;
    }
    each /= 2;
    while (now() < end && count < BATCHES) {
        began = now();
        for (unsigned long i = 0; i < each; i++)
            syscall(SYS_getppid);
        batches[count++] = now() - began;
    }
    qsort(batches, count, sizeof *batches, compare);
    printf("calls=%lu/%lu/%lu\n", batches[count / 2], each, each * count);
}

static void stream(ns for_ns)
{
    unsigned long count = 0;
    ns began = now(), took;

    puts("streaming");
    fflush(stdout);
    do {
        whole_mib(0);
        count++;
        took = now() - began;
    } while (!for_ns || took < for_ns);
    printf("stream=%lu/%lu/%lu\n", took, count, count);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    ns for_ns = 1000000UL * strtoul(argc > 2 ? argv[argc - 1] : "0", NULL, 0);

    if (!strcmp(what, "calls")) {
        calls(for_ns);
        return 0;
    }
    if (argc < 4 || (cached = open(argv[2], O_RDWR)) < 0 || (direct = open(argv[2], O_RDWR | O_DIRECT)) < 0)
        die("disk all|stream DEVICE MS");
    if (ioctl(cached, BLKGETSIZE64, &size) || size < CACHED)
        die("the device is too small");
    buffer = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (buffer == MAP_FAILED)
        die("mmap");
    if (!strcmp(what, "all"))
        all(for_ns);
    else
        stream(for_ns);
    return 0;
}
