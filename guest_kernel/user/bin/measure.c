/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * measure NAME [COUNT]: does one kind of operation COUNT times between two marks, for somebody outside who counts what
 * happens meanwhile; nothing here looks at a clock.  Whatever an operation touches was touched before the first mark,
 * and each checks that its work was done: the last line is "NAME: ok COUNT", or says what went wrong.
 *
 * The first names are Adams and Agesen's (ASPLOS 2006), the others lmbench's; `measure` alone lists them.
 */
#include <user.h>

#define PAGE 4096
#define NOT_HERE (-ENODEV)

/* A call of nothing, at the one address that the watcher knows. */
asm(".section .mark, \"ax\", @progbits\n"
    "mark:\n"
    "    ret\n"
    ".text\n");
void mark(u64 kind);

static int in_kernel(int op, u64 count) { return (int)privileged(op | PRIVILEGED_MARKED, count) < 0 ? -1 : 0; }

/* -- one system call, one fault ------------------------------------------------------------------------------------ */

static int null_call(u64 count)
{
    int pid = getpid(), good = 1;

    mark(MARK_BEGIN);
    for (u64 i = 0; i < count; i++)
        good &= getpid() == pid;
    mark(MARK_END);
    return good ? 0 : -1;
}

/* Have the kernel's pages been used before, all that an operation may want of them. */
static int touched_before(u64 pages)
{
    volatile u8 *memory = mmap(pages * PAGE);

    if ((long)memory < 0)
        return -1;
    for (u64 i = 0; i < pages; i++)
        memory[i * PAGE] = 1;
    return munmap((void *)memory, pages * PAGE);
}

/* First touches of fresh memory. */
static int page_faults(u64 count)
{
    int unready = touched_before(count + 16);
    volatile u8 *memory = mmap((count + 2) * PAGE);
    u64 bad = (u64)unready;

    if ((long)memory < 0)
        return -1;
    for (u64 i = 0; i < 2; i++)
        memory[(count + i) * PAGE]++; /* the tables on the way */
    mark(MARK_BEGIN);
    for (u64 i = 0; i < count; i++)
        memory[i * PAGE] = 1;
    mark(MARK_END);
    for (u64 i = 0; i < count; i++)
        bad += memory[i * PAGE] != 1;
    return bad || munmap((void *)memory, (count + 2) * PAGE) ? -1 : 0;
}

/* Writes to pages shared since a fork, by whom nobody shares them with any more: the protection changes, no more. */
static int protection_faults(u64 count)
{
    volatile u8 *memory = mmap((count + 2) * PAGE);
    int status = 0, pid;
    u64 bad = 0;

    if ((long)memory < 0)
        return -1;
    for (u64 i = 0; i < count + 2; i++)
        memory[i * PAGE] = (u8)i;
    pid = fork();
    if (pid == 0)
        exit(3);
    if (wait(pid, &status, 0) != pid || status != 3)
        return -1;
    memory[count * PAGE]++;
    mark(MARK_BEGIN);
    for (u64 i = 0; i < count; i++)
        memory[i * PAGE]++;
    mark(MARK_END);
    for (u64 i = 0; i < count; i++)
        bad += memory[i * PAGE] != (u8)(i + 1);
    return bad || munmap((void *)memory, (count + 2) * PAGE) ? -1 : 0;
}

static int map_and_unmap(void)
{
    volatile u8 *memory = mmap(16 * PAGE);

    if ((long)memory < 0)
        return -1;
    for (int page = 0; page < 16; page++)
        if (memory[page * PAGE]++)
            return -1;
    return munmap((void *)memory, 16 * PAGE);
}

/* -- processes ----------------------------------------------------------------------------------------------------- */

static int fork_and_wait(void)
{
    int status = 0, pid = fork();

    if (pid == 0)
        exit(42);
    return pid > 0 && wait(pid, &status, 0) == pid && status == 42 ? 0 : -1;
}

static int run(const char *path, char *const argv[], int expected)
{
    int status = 0, pid = fork();

    if (pid == 0) {
        exec(path, argv);
        exit(99);
    }
    return pid > 0 && wait(pid, &status, 0) == pid && status == expected ? 0 : -1;
}

static int exec_and_wait(void)
{
    char *argv[] = { "false", NULL };

    return run("/bin/false", argv, 1);
}

static int shell(void)
{
    char *argv[] = { "sh", "-c", "/bin/false", NULL };

    return run("/bin/sh", argv, 1);
}

static int often(int (*operation)(void), u64 count)
{
    int bad = operation() | operation();

    mark(MARK_BEGIN);
    for (u64 i = 0; i < count; i++)
        bad |= operation();
    mark(MARK_END);
    return bad ? -1 : 0;
}

static int mmaps(u64 count) { return often(map_and_unmap, count); }
static int forks(u64 count) { return often(fork_and_wait, count); }
static int execs(u64 count) { return often(exec_and_wait, count); }
static int shells(u64 count) { return often(shell, count); }

/* -- files: made, and removed --------------------------------------------------------------------------------------- */

static int make(u64 number)
{
    char path[32];
    int fd;

    sprintf(path, "/tmp/m%lu", number);
    fd = open(path, O_WRITE | O_CREATE);
    return fd < 0 || close(fd) ? -1 : 0;
}

static int take_away(u64 number)
{
    char path[32];
    struct file_info info;

    sprintf(path, "/tmp/m%lu", number);
    return unlink(path) || stat(path, &info) != -ENOENT ? -1 : 0;
}

static int files(u64 count, int counted_is_making)
{
    int bad = make(count) | take_away(count);

    if (counted_is_making)
        mark(MARK_BEGIN);
    for (u64 i = 0; i < count; i++)
        bad |= make(i);
    mark(counted_is_making ? MARK_END : MARK_BEGIN);
    for (u64 i = 0; i < count; i++)
        bad |= take_away(i);
    if (!counted_is_making)
        mark(MARK_END);
    return bad ? -1 : 0;
}

static int file_creates(u64 count) { return files(count, 1); }
static int file_deletes(u64 count) { return files(count, 0); }

/* -- context switches: a token goes round a ring of processes ------------------------------------------------------- */

#define MOST 16

static u8 *work;
static size_t work_size;

static u8 touch_all(void)
{
    u8 sum = 0;

    for (size_t i = 0; i < work_size; i += 64)
        sum += work[i]++;
    return sum;
}

/* Pass on what comes, until nothing can come any more. */
static void pass_on(int from, int to)
{
    u8 token;

    while (read(from, &token, 1) == 1) {
        touch_all();
        token++;
        if (write(to, &token, 1) != 1)
            exit(1);
    }
    exit(0);
}

static int round_trip(int first, int last, u8 processes)
{
    u8 token = 7;

    touch_all();
    return write(first, &token, 1) == 1 && read(last, &token, 1) == 1 && token == (u8)(7 + processes - 1) ? 0 : -1;
}

/* One switch is one process passing the token on: `count` is rounded up to whole rounds. */
static int ring(u64 count, int processes, size_t size)
{
    int first[2], next[2], last, pids[MOST], bad = 0, status;
    u64 rounds = (count + (u64)processes - 1) / (u64)processes;

    work_size = size;
    work = size ? malloc(size) : NULL;
    if (pipe(first))
        return -1;
    last = first[0];
    for (int i = 1; i < processes; i++) {
        if (pipe(next))
            return -1;
        pids[i] = fork();
        if (pids[i] == 0) {
            close(first[1]);
            close(next[0]);
            pass_on(last, next[1]);
        }
        close(last);
        close(next[1]);
        last = next[0];
    }
    for (int i = 0; i < 3; i++)
        bad |= round_trip(first[1], last, (u8)processes);
    mark(MARK_BEGIN);
    for (u64 i = 0; i < rounds; i++)
        bad |= round_trip(first[1], last, (u8)processes);
    mark(MARK_END);
    close(first[1]); /* each ends when what it reads from does */
    for (int i = 1; i < processes; i++)
        bad |= wait(pids[i], &status, 0) != pids[i] || status;
    close(last);
    if (work)
        free(work);
    return bad ? -1 : 0;
}

static int ring_2_0(u64 count) { return ring(count, 2, 0); }
static int ring_2_16(u64 count) { return ring(count, 2, 16 << 10); }
static int ring_2_64(u64 count) { return ring(count, 2, 64 << 10); }
static int ring_8_16(u64 count) { return ring(count, 8, 16 << 10); }
static int ring_8_64(u64 count) { return ring(count, 8, 64 << 10); }
static int ring_16_16(u64 count) { return ring(count, 16, 16 << 10); }
static int ring_16_64(u64 count) { return ring(count, 16, 64 << 10); }

/* A byte to another process and back. */
static int pipes(u64 count) { return ring(count * 2, 2, 0); }

/* -- a disk, past the kernel's buffers ------------------------------------------------------------------------------ */

#define SECTOR 512
#define AHEAD (128 << 10) /* of the disk is used before: its buffers, its descriptors, its grants */

static int open_disk(int mode)
{
    static const char *const paths[] = { "/dev/xvda", "/dev/hda", "/dev/vda" };

    for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
        int fd = open(paths[i], mode | O_DIRECT);

        if (fd >= 0)
            return fd;
    }
    return NOT_HERE;
}

/* Each sector of the disk begins with its number, and that is what we write into it; to be read, it is spoilt. */
static void prepare(u8 *buffer, size_t size, u64 first, int writing)
{
    for (size_t at = 0; at < size; at += SECTOR)
        *(u64 *)(buffer + at) = writing ? first + at / SECTOR : ~0UL;
}

static int is_right(const u8 *buffer, size_t size, u64 first)
{
    for (size_t at = 0; at < size; at += SECTOR)
        if (*(const u64 *)(buffer + at) != first + at / SECTOR)
            return 0;
    return 1;
}

static int move(int fd, u8 *buffer, size_t size, int writing)
{
    return (writing ? write(fd, buffer, size) : read(fd, buffer, size)) != (long)size;
}

/* Pieces of the disk, one behind the other; the first ones before the first mark. */
static int disk_pieces(u64 count, size_t size, int writing)
{
    u64 before = (AHEAD + size - 1) / size;
    int fd = open_disk(writing ? O_WRITE : O_READ), bad;
    u8 *buffer;

    if (fd < 0)
        return fd;
    bad = touched_before((3 * count * size + 4 * AHEAD) / PAGE); /* our buffer's pages, and the kernel's */
    buffer = mmap(count * size);
    if ((long)buffer < 0)
        return -1;
    for (u64 i = 0; i < before; i++) {
        prepare(buffer, size, i * size / SECTOR, writing);
        bad |= move(fd, buffer, size, writing);
    }
    prepare(buffer, count * size, before * size / SECTOR, writing);
    mark(MARK_BEGIN);
    for (u64 i = 0; i < count; i++)
        bad |= move(fd, buffer + i * size, size, writing);
    mark(MARK_END);
    bad |= !is_right(buffer, count * size, before * size / SECTOR);
    return close(fd) || bad ? -1 : 0;
}

static int read_4k(u64 count) { return disk_pieces(count, 4 << 10, 0); }
static int read_64k(u64 count) { return disk_pieces(count, 64 << 10, 0); }
static int write_4k(u64 count) { return disk_pieces(count, 4 << 10, 1); }
static int write_64k(u64 count) { return disk_pieces(count, 64 << 10, 1); }
static int stream_1m(u64 count) { return disk_pieces(count, 1 << 20, 0); }

/* -- the table ------------------------------------------------------------------------------------------------------ */

static int kernel_in(u64 count) { return in_kernel(PRIVILEGED_PORT_READ, count); }
static int kernel_cr8(u64 count) { return in_kernel(PRIVILEGED_CR8_WRITE, count); }
static int kernel_calls(u64 count) { return in_kernel(PRIVILEGED_CALL_RETURN, count); }
static int kernel_faults(u64 count) { return in_kernel(PRIVILEGED_PAGE_FAULT, count); }
static int kernel_divides(u64 count) { return in_kernel(PRIVILEGED_DIVIDE_ERROR, count); }
static int kernel_ptes(u64 count) { return in_kernel(PRIVILEGED_PTE_UPDATE, count); }

static const struct {
    const char *name;
    int (*run)(u64 count);
    u64 count;
    int needs; /* an operation of the kernel's that not every column has, plus one */
} benches[] = {
    { "syscall", null_call, 256, 0 },
    { "in", kernel_in, 256, PRIVILEGED_PORT_READ + 1 },
    { "cr8wr", kernel_cr8, 256, PRIVILEGED_CR8_WRITE + 1 },
    { "callret", kernel_calls, 256, 0 },
    { "pgfault", kernel_faults, 256, 0 },
    { "divzero", kernel_divides, 256, 0 },
    { "ptemod", kernel_ptes, 256, 0 },
    { "null-call", null_call, 256, 0 },
    { "fork", forks, 16, 0 },
    { "exec", execs, 16, 0 },
    { "sh", shells, 8, 0 },
    { "ctx-2p-0k", ring_2_0, 128, 0 },
    { "ctx-2p-16k", ring_2_16, 128, 0 },
    { "ctx-2p-64k", ring_2_64, 128, 0 },
    { "ctx-8p-16k", ring_8_16, 128, 0 },
    { "ctx-8p-64k", ring_8_64, 128, 0 },
    { "ctx-16p-16k", ring_16_16, 128, 0 },
    { "ctx-16p-64k", ring_16_64, 128, 0 },
    { "mmap", mmaps, 16, 0 },
    { "prot-fault", protection_faults, 64, 0 },
    { "page-fault", page_faults, 64, 0 },
    { "pipe", pipes, 64, 0 },
    { "file-create", file_creates, 32, 0 },
    { "file-delete", file_deletes, 32, 0 },
    { "read-4k", read_4k, 16, 0 },
    { "read-64k", read_64k, 4, 0 },
    { "write-4k", write_4k, 16, 0 },
    { "write-64k", write_64k, 4, 0 },
    { "stream-1m", stream_1m, 1, 0 },
};

int main(int argc, char **argv)
{
    for (unsigned i = 0; i < ARRAY_SIZE(benches); i++) {
        u64 count = argc > 2 ? (u64)atol(argv[2]) : benches[i].count;

        if (argc < 2) {
            printf("%s %lu\n", benches[i].name, benches[i].count);
            continue;
        }
        if (strcmp(argv[1], benches[i].name))
            continue;
        if (!count || count > 100000)
            fail("%s: a count from 1 to 100000, not %s", argv[1], argv[2]);
        if (benches[i].needs && privileged(benches[i].needs - 1, 1) == NOT_HERE) {
            printf("%s: none\n", argv[1]);
            return 0;
        }
        switch (benches[i].run(count)) {
        case 0:
            printf("%s: ok %lu\n", argv[1], count);
            return 0;
        case NOT_HERE:
            printf("%s: none\n", argv[1]);
            return 0;
        }
        printf("%s: failed\n", argv[1]);
        return 1;
    }
    if (argc < 2)
        return 0;
    fail("measure: there is no %s; `measure` alone lists what there is", argv[1]);
}
