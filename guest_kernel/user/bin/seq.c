/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * seq [from] to
 */
#include <user.h>

int main(int argc, char **argv)
{
    if (argc < 2)
        fail("usage: seq [from] to\n");
    for (long i = argc > 2 ? atol(argv[1]) : 1, to = atol(argv[argc - 1]); i <= to; i++)
        printf("%ld\n", i);
    return 0;
}
