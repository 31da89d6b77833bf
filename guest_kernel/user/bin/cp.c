/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * cp FILE FILE
 */
#include <user.h>

static int must(long result, const char *name)
{
    if (result < 0)
        fail("cp: %s: %s\n", name, error_text(result));
    return (int)result;
}

int main(int argc, char **argv)
{
    static char bytes[16384];
    int from, to;
    long n;

    if (argc != 3)
        fail("usage: cp FILE FILE\n");
    from = must(open(argv[1], O_READ), argv[1]);
    to = must(open(argv[2], O_WRITE | O_CREATE | O_TRUNCATE), argv[2]);
    while ((n = must(read(from, bytes, sizeof(bytes)), argv[1])) > 0)
        if (must(write(to, bytes, n), argv[2]) < n)
            fail("cp: %s: %s\n", argv[2], error_text(-ENOSPC));
    return 0;
}
