/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * lib/string.c: what the kernel and its programs both want to do with bytes and strings.
 */
#pragma once

#include <types.h>

void *memset(void *to, int byte, size_t n);
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
/* What a terminal wants: one before each line feed. `to` has room for twice n; the new length. */
size_t with_carriage_returns(char *to, const char *from, size_t n);
size_t strlcpy(char *to, const char *from, size_t room); /* ends with a zero byte; what `from` would have needed */
