/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * echo [-n] words
 */
#include <user.h>

int main(int argc, char **argv)
{
    int newline = argc < 2 || strcmp(argv[1], "-n");

    for (int i = newline ? 1 : 2; i < argc; i++)
        printf("%s%s", argv[i], i + 1 < argc ? " " : "");
    if (newline)
        printf("\n");
    return 0;
}
