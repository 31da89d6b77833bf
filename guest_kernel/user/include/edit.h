/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Line editing for whoever talks to a person: lib/edit.c.
 */
#pragma once

#define EDIT_LINE_MAX 256

enum { EDIT_END, EDIT_LINE };

/* Into a buffer of EDIT_LINE_MAX bytes. EDIT_END: ^D on an empty line. The terminal must be raw (TTY_RAW). */
int edit_line(const char *prompt, char *to);
