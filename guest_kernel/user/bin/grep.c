/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * grep [-v] text [file]: the lines in which the text stands (or, with -v, does not). No patterns.
 */
#include <user.h>

int main(int argc, char **argv)
{
    int invert = argc > 1 && !strcmp(argv[1], "-v"), found = 0;
    struct lines lines = { .fd = 0 };
    char line[512];

    argc -= invert, argv += invert;
    if (argc < 2)
        fail("usage: grep [-v] text [file]\n");
    if (argc > 2 && (lines.fd = open(argv[2], O_READ)) < 0)
        fail("grep: %s: %s\n", argv[2], error_text(lines.fd));
    while (next_line(&lines, line, sizeof(line))) {
        if ((strstr(line, argv[1]) != NULL) != invert) {
            printf("%s\n", line);
            found = 1;
        }
    }
    return !found;
}
