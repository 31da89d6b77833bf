/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * sleep seconds: a fraction after a point is allowed.
 */
#include <user.h>

int main(int argc, char **argv)
{
    u64 nanoseconds = argc > 1 ? (u64)atol(argv[1]) * 1000000000 : 0, unit = 100000000;
    const char *point = argc > 1 ? strchr(argv[1], '.') : NULL;

    for (; point && *++point; unit /= 10)
        nanoseconds += (u64)(*point - '0') * unit;
    return sleep_ns(nanoseconds) != 0;
}
