/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * lib/: strings, memory, formatting; and the kernel's voice (kernel/log.c).
 */
#pragma once

#include <string.h>

/* lib/format.c: %d %u %x %p %s %c, with l, a width and 0 or - before it. Always ends with a zero byte. */
int vformat(char *to, size_t room, const char *format, __builtin_va_list args);
int format(char *to, size_t room, const char *format, ...) PRINTF(3, 4);

/* kernel/log.c: to the console and to the log that `dmesg` shows. */
void kprintf(const char *format, ...) PRINTF(1, 2);
void kprintv(const char *format, __builtin_va_list args);
size_t log_read(size_t from, char *to, size_t n);

/* kernel/panic.c */
void panic(const char *format, ...) PRINTF(1, 2) NORETURN;

#define ASSERT(condition) \
    do { \
        if (!(condition)) \
            panic("%s:%d: not so: %s", __FILE__, __LINE__, #condition); \
    } while (0)
