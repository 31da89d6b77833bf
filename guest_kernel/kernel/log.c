/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The kernel's voice. What it says goes to the console at once, waiting for room if need be, and into a ring
 * of memory from which `dmesg` reads it again.
 */
#include <api/syscalls.h>
#include <lib.h>
#include <pv_ops.h>

static char ring[16384];
static size_t ring_end; /* bytes ever logged */

static void log_text(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ring[ring_end++ % sizeof(ring)] = text[i];
}

void kprintv(const char *format, __builtin_va_list args)
{
    char text[256], lines[2 * sizeof(text)];
    size_t n = vformat(text, sizeof(text), format, args);

    n = MIN(n, sizeof(text) - 1);
    log_text(text, n);
    pv.emergency_write(lines, with_carriage_returns(lines, text, n));
}

void kprintf(const char *format, ...)
{
    __builtin_va_list args;

    __builtin_va_start(args, format);
    kprintv(format, args);
    __builtin_va_end(args);
}

/* From the byte at `from` of all that is still there; the number of bytes put at `to`. */
size_t log_read(size_t from, char *to, size_t n)
{
    size_t oldest = ring_end > sizeof(ring) ? ring_end - sizeof(ring) : 0, done = 0;

    for (size_t at = oldest + from; at < ring_end && done < n; at++)
        to[done++] = ring[at % sizeof(ring)];
    return done;
}
