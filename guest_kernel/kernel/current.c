/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The table of processes, and whose turn it is: what everybody looks at and two write, the scheduler (schedule.c)
 * and whoever makes and ends processes (process.c).
 */
#include <process.h>

struct process processes[PROCESS_MAX];
struct process *current; /* NULL until the first one runs */
