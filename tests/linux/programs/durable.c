/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * durable DIRECTORY: which records of an earlier life are there, and then new ones, until somebody pulls the plug.
 *
 * A record is 1000 bytes that follow from its number, so that it crosses sectors and blocks. It is appended and flushed
 * (fsync), and only then acknowledged: "acknowledged N". Every eighth is told in another way as well: a new file with
 * its number takes the place of an older one (rename), and the directory is flushed; then "renamed N".
 *
 * First it says what it found: "records N", the number of whole records before the first that is wrong, and "name N".
 * What is behind the last whole record was not acknowledged, and is cut off.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECORD = 1000, EACH = 8 };

static void fail(const char *what)
{
    printf("durable: %s: %m\n", what);
    exit(1);
}

/* The bytes of a record: its number, and what xorshift makes of it. */
static void fill(uint64_t *record, uint64_t number)
{
    uint64_t x = number * 0x9e3779b97f4a7c15u + 1;

    for (int i = 0; i < RECORD / 8; i++) {
        record[i] = i ? x : number;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
}

static void rename_to(uint64_t number, int directory)
{
    char text[32];
    int file = openat(directory, "new", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int length = snprintf(text, sizeof text, "%lu", number);

    if (file < 0 || write(file, text, length) != length || fsync(file) || close(file))
        fail("new");
    if (renameat(directory, "new", directory, "name") || fsync(directory))
        fail("name");
    printf("renamed %lu\n", number);
}

static void say_name(int directory)
{
    char text[32] = "0";
    int file = openat(directory, "name", O_RDONLY);

    if (file >= 0 && read(file, text, sizeof text - 1) < 0)
        fail("name");
    printf("name %s\n", text);
}

int main(int argc, char **argv)
{
    uint64_t record[RECORD / 8], found[RECORD / 8], number = 0;
    int directory = open(argc > 1 ? argv[1] : ".", O_RDONLY | O_DIRECTORY);
    int file = openat(directory, "records", O_RDWR | O_CREAT, 0644);

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (file < 0)
        fail("records");
    for (;; number++) {
        fill(record, number);
        if (read(file, found, RECORD) != RECORD || memcmp(found, record, RECORD))
            break;
    }
    printf("records %lu\n", number);
    say_name(directory);
    if (ftruncate(file, number * RECORD))
        fail("ftruncate");
    for (;; number++) {
        fill(record, number);
        if (pwrite(file, record, RECORD, number * RECORD) != RECORD || fsync(file))
            fail("records");
        printf("acknowledged %lu\n", number);
        if (number % EACH == 0)
            rename_to(number, directory);
    }
}
