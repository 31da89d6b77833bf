/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * dd [if=FILE] [of=FILE] [bs=N] [count=N] [skip=N] [seek=N] [iflag=direct] [oflag=direct] [conv=fsync,notrunc]
 *
 * Copies count blocks of bs bytes (512), and says how many, and how fast.  N may end in k, M or G.  `direct`: each
 * block goes to the disk, or comes from it, by itself, past the kernel's buffers.  `fsync`: the copy is safe when dd
 * ends.
 */
#include <user.h>

static struct {
    const char *input, *output;
    long block, count, skip, seek;
    int input_flags, output_flags, sync, keep;
} options = { .block = 512, .count = -1 };

static long number(const char *text)
{
    const char *unit = text;
    long value = atol(text);

    while (*unit >= '0' && *unit <= '9')
        unit++;
    if (unit == text || (*unit && (!strchr("kKMG", *unit) || unit[1])))
        fail("dd: '%s' is no number\n", text);
    return value << (*unit == 'G' ? 30 : *unit == 'M' ? 20 : *unit ? 10 : 0);
}

static void flag(const char *name, const char *value)
{
    if (!strcmp(name, "conv") && !strcmp(value, "fsync"))
        options.sync = 1;
    else if (!strcmp(name, "conv") && !strcmp(value, "notrunc"))
        options.keep = 1;
    else if (strcmp(name, "conv") && !strcmp(value, "direct"))
        *(name[0] == 'i' ? &options.input_flags : &options.output_flags) |= O_DIRECT;
    else
        fail("dd: there is no %s=%s\n", name, value);
}

static void option(char *text)
{
    char *value = strchr(text, '=');

    if (!value)
        fail("dd: what is '%s'? if=, of=, bs=, count=, skip=, seek=, iflag=direct, oflag=direct, conv=fsync\n", text);
    *value++ = 0;
    if (!strcmp(text, "if"))
        options.input = value;
    else if (!strcmp(text, "of"))
        options.output = value;
    else if (!strcmp(text, "bs"))
        options.block = number(value);
    else if (!strcmp(text, "count"))
        options.count = number(value);
    else if (!strcmp(text, "skip"))
        options.skip = number(value);
    else if (!strcmp(text, "seek"))
        options.seek = number(value);
    else if (!strcmp(text, "iflag") || !strcmp(text, "oflag") || !strcmp(text, "conv")) {
        while (value) {
            char *next = strchr(value, ',');

            if (next)
                *next++ = 0;
            flag(text, value);
            value = next;
        }
    } else
        fail("dd: there is no %s=\n", text);
}

static int open_at(const char *path, int mode, long position, int otherwise)
{
    int fd = path ? open(path, mode) : otherwise;
    long error = fd;

    if (fd >= 0 && position)
        error = seek(fd, position, SEEK_SET);
    if (error < 0)
        fail("dd: %s: %s\n", path ? path : "standard input or output", error_text(error));
    return fd;
}

static void report(long whole, long part, long bytes, u64 nanoseconds)
{
    u64 rate = nanoseconds ? (u64)bytes * 1000000 / (nanoseconds / 1000 + 1) / 1024 : 0;

    fprintf(2, "%ld+%d records\n%ld bytes, %lu.%06lu s, %lu KiB/s\n", whole, part > 0, bytes, nanoseconds / 1000000000,
            nanoseconds / 1000 % 1000000, rate);
}

int main(int argc, char **argv)
{
    long whole = 0, part = 0, error = 0;
    const char *where = "";
    char *bytes;
    int from, to;
    u64 start;

    for (int i = 1; i < argc; i++)
        option(argv[i]);
    bytes = options.block > 0 ? malloc(options.block) : NULL;
    if (!bytes)
        fail("dd: bs=%ld: not that many\n", options.block);
    from = open_at(options.input, O_READ | options.input_flags, options.skip * options.block, 0);
    if (!options.keep && !options.seek)
        options.output_flags |= O_TRUNCATE;
    to = open_at(options.output, O_WRITE | O_CREATE | options.output_flags, options.seek * options.block, 1);
    start = uptime();
    while (!error && !part && options.count != whole) {
        long n = 0, got = 1;

        while (n < options.block && (got = read(from, bytes + n, options.block - n)) > 0)
            n += got;
        if (got < 0)
            error = got, where = "reading";
        for (long done = 0; done < n;) {
            long put = write(to, bytes + done, n - done);

            if (put <= 0) {
                error = put ? put : -ENOSPC, where = "writing";
                n = done;
                break;
            }
            done += put;
        }
        if (n == options.block)
            whole++;
        else
            part = n;
        if (!n)
            break;
    }
    if (!error && options.sync && (error = sync()))
        where = "syncing";
    report(whole, part, whole * options.block + part, uptime() - start);
    if (error < 0)
        fail("dd: %s: %s\n", where, error_text(error));
    return 0;
}
