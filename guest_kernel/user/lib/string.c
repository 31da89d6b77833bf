/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What only programs want to do with strings; the rest is ../../lib/string.c, which the kernel has as well.
 */
#include <user.h>

char *strcpy(char *to, const char *from)
{
    memcpy(to, from, strlen(from) + 1);
    return to;
}

char *strchr(const char *s, int c)
{
    for (; *s; s++)
        if (*s == (char)c)
            return (char *)s;
    return NULL;
}

char *strstr(const char *s, const char *what)
{
    size_t n = strlen(what);

    for (; *s; s++)
        if (!strncmp(s, what, n))
            return (char *)s;
    return n ? NULL : (char *)s;
}

long atol(const char *s)
{
    long value = 0, sign = *s == '-' ? -1 : 1;

    for (s += *s == '-'; *s >= '0' && *s <= '9'; s++)
        value = value * 10 + (*s - '0');
    return sign * value;
}
