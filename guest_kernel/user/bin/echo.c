/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * echo [-n] words
 */
#include <user.h>

int main(int argc, char **argv)
{
    int newline = argc < 2 || strcmp(argv[1], "-n"), written = 0;

    for (int i = newline ? 1 : 2; i < argc && written >= 0; i++)
        written = printf("%s%s", argv[i], i + 1 < argc ? " " : "");
    if (newline && written >= 0)
        written = printf("\n");
    if (written < 0)
        fail("echo: %s\n", error_text(written));
    return 0;
}
