/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bench.h"

void report(const char *name, unsigned long ticks, unsigned long operations)
{
    say("%s=%lu/%lu\n", name, ticks, operations);
}

unsigned long argument(const char *name, unsigned long otherwise)
{
    const char *line = (const char *)start_info->cmd_line;
    unsigned long length = strlen(name);

    for (; *line; line++) {
        if (memcmp(line, name, length) == 0 && line[length] == '=') {
            unsigned long value = 0;

            for (line += length + 1; *line >= '0' && *line <= '9'; line++)
                value = value * 10 + (unsigned long)(*line - '0');
            return value;
        }
    }
    return otherwise;
}
