/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a test was told on its command line, as name=number in hex: facts about others that a guest cannot know.
 */
#include "test.h"

unsigned long fact(const char *name)
{
    const char *at = (const char *)start_info->cmd_line;
    unsigned long length = strlen(name), value = 0;

    for (;; at++) {
        if (!memcmp(at, name, length) && at[length] == '=')
            break;
        while (*at && *at != ' ')
            at++;
        if (!*at)
            return 0;
    }
    for (at += length + 1; *at && *at != ' '; at++)
        value = value * 16 + (*at <= '9' ? *at - '0' : *at - 'a' + 10);
    return value;
}
