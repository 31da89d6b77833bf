/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * spin [seconds]: keep the CPU busy, for ever or so long, without a single system call in the loop.
 */
#include <user.h>

int main(int argc, char **argv)
{
    u64 end = argc > 1 ? uptime() + (u64)atol(argv[1]) * 1000000000 : ~0UL;
    volatile u64 turns = 0;

    do
        for (u64 i = 0; i < 10000000; i++)
            turns++;
    while (end == ~0UL || uptime() < end);
    printf("%lu turns\n", turns);
    return 0;
}
