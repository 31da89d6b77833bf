/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * kernel/shutdown.c: the end, in order.
 */
#pragma once

#include <types.h>

void shutdown_machine(int how) NORETURN; /* SHUTDOWN_HOW_POWEROFF, or _REBOOT; by a process */
void shutdown_ask(int how);              /* by anybody: it is done soon */
void shutdown_asked(void) NORETURN;      /* by the first process, when it is killed */
