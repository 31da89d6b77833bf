/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * uptime: seconds since boot.
 */
#include <user.h>

int main(int argc, char **argv)
{
    u64 now = uptime();

    printf("up %lu.%03lu s\n", now / 1000000000, now / 1000000 % 1000);
    return 0;
}
