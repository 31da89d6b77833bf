/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Formatted output. Each call is one write, so lines of different processes do not mix.
 */
#include <user.h>

static char *digits(char *end, u64 value, unsigned base)
{
    do {
        *--end = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    return end;
}

static int vsprintf(char *to, const char *format, __builtin_va_list args)
{
    char *start = to, buffer[24], *end = buffer + sizeof(buffer);

    for (const char *f = format; *f; f++) {
        int left = 0, wide = 0;
        size_t width = 0, n;
        char pad = ' ', *text;
        long value;

        if (*f != '%') {
            *to++ = *f;
            continue;
        }
        if (*++f == '-')
            left = 1, f++;
        if (*f == '0')
            pad = '0', f++;
        for (; *f >= '0' && *f <= '9'; f++)
            width = width * 10 + (*f - '0');
        for (; *f == 'l'; f++)
            wide = 1;

        text = end;
        switch (*f) {
        case 'd':
            value = wide ? __builtin_va_arg(args, long) : __builtin_va_arg(args, int);
            text = digits(end, value < 0 ? -value : value, 10);
            if (value < 0)
                *--text = '-';
            n = end - text;
            break;
        case 'u':
        case 'x':
            value = wide ? __builtin_va_arg(args, long) : (long)__builtin_va_arg(args, unsigned);
            text = digits(end, value, *f == 'x' ? 16 : 10);
            n = end - text;
            break;
        case 's':
            text = __builtin_va_arg(args, char *);
            n = strlen(text);
            break;
        case 'c':
            *--text = (char)__builtin_va_arg(args, int);
            n = 1;
            break;
        default:
            *--text = *f;
            n = 1;
        }
        for (size_t i = n; !left && i < width; i++)
            *to++ = pad;
        memcpy(to, text, n);
        to += n;
        for (size_t i = n; left && i < width; i++)
            *to++ = ' ';
    }
    *to = 0;
    return (int)(to - start);
}

int sprintf(char *to, const char *format, ...)
{
    __builtin_va_list args;
    int n;

    __builtin_va_start(args, format);
    n = vsprintf(to, format, args);
    __builtin_va_end(args);
    return n;
}

static int vprint(int fd, const char *format, __builtin_va_list args)
{
    char text[1024];
    int n = vsprintf(text, format, args);

    return (int)write(fd, text, n);
}

int printf(const char *format, ...)
{
    __builtin_va_list args;
    int n;

    __builtin_va_start(args, format);
    n = vprint(1, format, args);
    __builtin_va_end(args);
    return n;
}

int fprintf(int fd, const char *format, ...)
{
    __builtin_va_list args;
    int n;

    __builtin_va_start(args, format);
    n = vprint(fd, format, args);
    __builtin_va_end(args);
    return n;
}

void fail(const char *format, ...)
{
    __builtin_va_list args;

    __builtin_va_start(args, format);
    vprint(2, format, args);
    __builtin_va_end(args);
    exit(1);
}

const char *error_text(long error)
{
    static const struct {
        int number;
        const char *text;
    } texts[] = {
        { EPERM, "not permitted" },
        { ENOENT, "no such file" },
        { ESRCH, "no such process" },
        { EINTR, "interrupted" },
        { EIO, "input/output error" },
        { ENXIO, "no such disk" },
        { E2BIG, "arguments too long" },
        { ENOEXEC, "not a program" },
        { EBADF, "bad file descriptor" },
        { ECHILD, "no child" },
        { EAGAIN, "try again" },
        { ENOMEM, "out of memory" },
        { EFAULT, "bad address" },
        { EBUSY, "busy" },
        { EEXIST, "exists" },
        { ENODEV, "no such device" },
        { ENOTDIR, "not a directory" },
        { EISDIR, "is a directory" },
        { EINVAL, "invalid argument" },
        { EMFILE, "too many open files" },
        { EFBIG, "file too big" },
        { ENOSPC, "no space left" },
        { ESPIPE, "cannot seek" },
        { EROFS, "read-only" },
        { EMLINK, "too many links" },
        { EPIPE, "broken pipe" },
        { ENAMETOOLONG, "name too long" },
        { ENOSYS, "no such system call" },
        { ENOTEMPTY, "directory not empty" },
        { EOPNOTSUPP, "not supported" },
        { EUCLEAN, "the file system is damaged" },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(texts); i++)
        if (texts[i].number == -error)
            return texts[i].text;
    return "unknown error";
}
