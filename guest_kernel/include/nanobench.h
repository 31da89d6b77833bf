/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * kernel/nanobench.c: single operations, many times over, between two marks.
 *
 * A mark is a call of a function that does nothing, at an address the watcher knows: of nanobench_mark in the kernel,
 * of MARK_ADDRESS in a program (api/syscalls.h).
 */
#pragma once

#include <types.h>

int nanobench(int op, u64 count);

/* Asked by the trap handler about a fault of the kernel's own: was it meant to happen? */
bool nanobench_fixup(u64 *rip);
