/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * dmesg: what the kernel has said.
 */
#include <user.h>

int main(int argc, char **argv)
{
    char text[256];
    size_t at = 0;
    long n;

    while ((n = dmesg(at, text, sizeof(text))) > 0) {
        write(1, text, n);
        at += n;
    }
    return 0;
}
