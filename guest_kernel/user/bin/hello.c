/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hello: the smallest program there is.
 */
#include <user.h>

int main(int argc, char **argv)
{
    printf("Hello, world!\n");
    return 0;
}
