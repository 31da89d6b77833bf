/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * lib/: strings, memory, formatting; and the kernel's voice (kernel/log.c).
 */
#pragma once

#include <types.h>

/* lib/string.c */
void *memset(void *to, int byte, size_t n);
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
size_t strlcpy(char *to, const char *from, size_t room);

/* lib/format.c: %d %u %x %p %s %c, with l, a width and 0 or - before it. Always ends with a zero byte. */
int vformat(char *to, size_t room, const char *format, __builtin_va_list args);
int format(char *to, size_t room, const char *format, ...) PRINTF(3, 4);

/* kernel/log.c: to the console and to the log that `dmesg` shows. */
void kprintf(const char *format, ...) PRINTF(1, 2);
void panic(const char *format, ...) PRINTF(1, 2) NORETURN;
size_t log_read(size_t from, char *to, size_t n);

#define ASSERT(condition) \
    do { \
        if (!(condition)) \
            panic("%s:%d: not so: %s", __FILE__, __LINE__, #condition); \
    } while (0)
