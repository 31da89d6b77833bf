/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Dice that fall the same everywhere, for requests nobody would think of. All answers together make a number, and it
 * has to be the one they made on a real Xen 4.17 (Debian's, under QEMU). On the command line "seed=N" throws other dice,
 * and "dice=1" shows each answer, to be compared.
 */
#include "test.h"

static unsigned long seed;

unsigned dice(unsigned sides)
{
    seed = seed * 6364136223846793005UL + 1442695040888963407UL;
    return (unsigned)(seed >> 33) % sides;
}

void throw_dice(long (*one)(unsigned what), unsigned kinds, unsigned rounds, const unsigned long *xens, unsigned known)
{
    unsigned long show = fact("dice"), first = fact("seed") ? fact("seed") : 1, answers = 0;

    seed = first;
    for (unsigned round = 0; round < rounds; round++) {
        unsigned what = dice(kinds);
        long result = one(what);

        answers = (answers ^ (unsigned long)result) * 0x100000001b3UL;
        if (show)
            say("%u: %u %ld\n", round, what, result);
    }
    say("answers=%lx\n", answers);
    if (first < known)
        check(answers == xens[first]);
}
