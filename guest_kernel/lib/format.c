/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * printf's little brother.
 */
#include <lib.h>

struct sink {
    char *to;
    size_t room, used;
};

static void put(struct sink *sink, char c)
{
    if (sink->used + 1 < sink->room)
        sink->to[sink->used] = c;
    sink->used++;
}

static void put_padded(struct sink *sink, const char *text, size_t n, size_t width, bool left, char pad)
{
    if (!left)
        for (size_t i = n; i < width; i++)
            put(sink, pad);
    for (size_t i = 0; i < n; i++)
        put(sink, text[i]);
    if (left)
        for (size_t i = n; i < width; i++)
            put(sink, ' ');
}

static char *digits(char *end, u64 value, unsigned base)
{
    do {
        *--end = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    return end;
}

int vformat(char *to, size_t room, const char *format, __builtin_va_list args)
{
    struct sink sink = { to, room, 0 };
    char buffer[24], *end = buffer + sizeof(buffer);

    for (const char *f = format; *f; f++) {
        bool left = false, wide = false;
        size_t width = 0;
        char pad = ' ', *text;
        s64 value;

        if (*f != '%') {
            put(&sink, *f);
            continue;
        }
        if (*++f == '-')
            left = true, f++;
        if (*f == '0')
            pad = '0', f++;
        for (; *f >= '0' && *f <= '9'; f++)
            width = width * 10 + (*f - '0');
        for (; *f == 'l'; f++)
            wide = true;

        switch (*f) {
        case 'd':
            value = wide ? __builtin_va_arg(args, s64) : __builtin_va_arg(args, s32);
            text = digits(end, value < 0 ? -value : value, 10);
            if (value < 0)
                *--text = '-';
            put_padded(&sink, text, end - text, width, left, pad);
            break;
        case 'u':
        case 'x':
            value = wide ? __builtin_va_arg(args, u64) : __builtin_va_arg(args, u32);
            text = digits(end, value, *f == 'x' ? 16 : 10);
            put_padded(&sink, text, end - text, width, left, pad);
            break;
        case 'p':
            text = digits(end, __builtin_va_arg(args, u64), 16);
            put_padded(&sink, text, end - text, 16, false, '0');
            break;
        case 's':
            text = __builtin_va_arg(args, char *);
            put_padded(&sink, text, strlen(text), width, left, ' ');
            break;
        case 'c':
            *--end = (char)__builtin_va_arg(args, s32);
            put_padded(&sink, end++, 1, width, left, ' ');
            break;
        case 0:
            f--; /* a lone % at the end */
            break;
        default:
            put(&sink, *f);
        }
    }
    if (room)
        to[MIN(sink.used, room - 1)] = 0;
    return (int)sink.used;
}

int format(char *to, size_t room, const char *format, ...)
{
    __builtin_va_list args;
    int n;

    __builtin_va_start(args, format);
    n = vformat(to, room, format, args);
    __builtin_va_end(args);
    return n;
}
