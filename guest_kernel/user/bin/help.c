/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * help: /etc/help, and every program there is.
 */
#include <user.h>

int main(int argc, char **argv)
{
    struct lines lines = { .fd = open("/etc/help", O_READ) };
    struct directory_entry entry;
    int fd = open("/bin", O_READ), column = 0;
    char line[128];

    while (next_line(&lines, line, sizeof(line)))
        printf("%s\n", line);
    printf("\nPrograms in /bin:");
    while (readdir(fd, &entry) == 1)
        printf("%s%-11s", column++ % 7 ? " " : "\n  ", entry.name);
    printf("\n");
    return 0;
}
