/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Text files are lines.
 */
#include <user.h>

int next_line(struct lines *lines, char *line, size_t room)
{
    size_t n = 0;

    for (;;) {
        while (lines->start < lines->end) {
            char c = lines->buffer[lines->start++];

            if (c == '\n') {
                line[n] = 0;
                return 1;
            }
            if (n + 1 < room)
                line[n++] = c;
        }
        long got = read(lines->fd, lines->buffer, sizeof(lines->buffer));

        if (got <= 0) {
            line[n] = 0;
            return n > 0;
        }
        lines->start = 0;
        lines->end = got;
    }
}
