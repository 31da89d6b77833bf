/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The timer: channel 0 of the 8254, on interrupt line 0.
 *
 * In mode 0 the channel counts down once and raises its line at zero; a new count starts it anew.  It has 16 bits and
 * counts at 1.19 MHz, so the longest wait is 54 ms; a later deadline is reached in pieces.  Set for nobody, it is
 * silent: there is no tick.
 *
 * (Intel's data sheet of the 8254, "Mode 0: Interrupt on Terminal Count".)
 */
#include <process.h>

#include "instructions.h"
#include "native.h"

#define CHANNEL_0 0x40
#define CONTROL 0x43
#define CHANNEL_0_MODE_0 0x30 /* low byte, then high byte; mode 0; binary */

#define HERTZ 1193182UL
#define LONGEST 50000000UL /* ns */
#define SECOND 1000000000UL

static u64 deadline = NEVER;

static void count_down(void)
{
    u64 now = native_now(), wait = deadline > now ? deadline - now : 0;
    u64 ticks = MIN(wait, LONGEST) * HERTZ / SECOND + 1;

    out8(CHANNEL_0, (u8)ticks); /* the first byte stops it, the second starts it */
    out8(CHANNEL_0, (u8)(ticks >> 8));
}

void native_set_timer(u64 when)
{
    deadline = when;
    if (when != NEVER)
        count_down();
}

static void interrupt(void)
{
    if (deadline == NEVER)
        return;
    if (native_now() < deadline) {
        count_down();
    } else {
        deadline = NEVER;
        timer_interrupt();
    }
}

void pit_init(void)
{
    out8(CONTROL, CHANNEL_0_MODE_0);
    irq_attach(0, interrupt);
}
