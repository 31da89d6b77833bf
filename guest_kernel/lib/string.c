/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Bytes and strings, for the kernel and for its programs. The string instructions move eight bytes a step and need no
 * vector registers, which the kernel must leave to the user.
 */
#include <string.h>

void *memset(void *to, int byte, size_t n)
{
    void *start = to;
    size_t words = n / 8;

    asm volatile("rep stosq" : "+D"(to), "+c"(words) : "a"((u8)byte * 0x0101010101010101UL) : "memory");
    n %= 8;
    asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
    return start;
}

void *memcpy(void *to, const void *from, size_t n)
{
    void *start = to;
    size_t words = n / 8;

    asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    n %= 8;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return start;
}

void *memmove(void *to, const void *from, size_t n)
{
    u8 *t = to;
    const u8 *f = from;

    if (t <= f || t >= f + n)
        return memcpy(to, from, n);
    while (n--)
        t[n] = f[n];
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const u8 *x = a, *y = b;

    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (u8)*a - (u8)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n; n--, a++, b++)
        if (*a != *b || !*a)
            return (u8)*a - (u8)*b;
    return 0;
}

/* Always ends with a zero byte; the result is what `from` would have needed. */
size_t strlcpy(char *to, const char *from, size_t room)
{
    size_t length = strlen(from);

    if (room) {
        size_t n = MIN(length, room - 1);

        memcpy(to, from, n);
        to[n] = 0;
    }
    return length;
}

size_t with_carriage_returns(char *to, const char *from, size_t n)
{
    size_t length = 0;

    for (size_t i = 0; i < n; i++) {
        if (from[i] == '\n')
            to[length++] = '\r';
        to[length++] = from[i];
    }
    return length;
}
