/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * head [count]: the first lines of standard input.
 */
#include <user.h>

int main(int argc, char **argv)
{
    struct lines lines = { .fd = 0 };
    long left = argc > 1 ? atol(argv[1]) : 10;
    char line[512];

    while (left-- > 0 && next_line(&lines, line, sizeof(line)))
        printf("%s\n", line);
    return 0;
}
