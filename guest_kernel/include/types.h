/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The words everything else is written in.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef signed int s32;
typedef signed long s64;
typedef unsigned long size_t;

#define NULL ((void *)0)
#define bool _Bool
#define true 1
#define false 0

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define PAGE_ALIGNED __attribute__((aligned(4096)))
#define NORETURN __attribute__((noreturn))
#define PRINTF(format_, first_) __attribute__((format(printf, format_, first_)))

#define barrier() asm volatile("" ::: "memory")
