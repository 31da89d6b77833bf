/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The terminal: between the console's wire (a driver of the column) and the processes.
 *
 * Input is only stored when it arrives, but for ^C, which acts at once; echo and line editing happen when
 * somebody reads.  So a script may be fed in one go, and its echo still stands where a person would see it.
 */
#pragma once

#include <types.h>

/* A driver registers how to put bytes on the wire; it returns how many it took. */
struct wire {
    size_t (*put)(const char *bytes, size_t n);
    void (*refill)(void); /* the tty has room again */
};

void tty_init(void);
void tty_attach(const struct wire *wire);
bool tty_input(char byte);     /* from the driver's interrupt; false: no room, keep it */
void tty_output_ready(void);   /* likewise: the wire takes bytes again */
bool tty_interrupted(int group); /* whether ^C ended this process group, of which more may still be starting */
int tty_control(int command, u64 argument);
