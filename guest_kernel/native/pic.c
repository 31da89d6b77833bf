/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The two 8259A interrupt controllers of the PC: eight lines each, the second one's output on line 2 of the first.
 * (Intel's data sheet of the 8259A tells of its initialization words, ICW, and operation words, OCW.)
 *
 * Each line is at first masked.  Most lines are edge-triggered: a device that keeps its line up says so only once.  The
 * lines of PCI are levels, which devices share: one asks for as long as any of them keeps it up.  Two more registers
 * (ELCR) say which lines that are; firmware has set them.
 */
#include <lib.h>
#include <trap.h>

#include "instructions.h"
#include "native.h"

#define FIRST_COMMAND 0x20
#define FIRST_DATA 0x21
#define SECOND_COMMAND 0xa0
#define SECOND_DATA 0xa1

#define ICW1_BEGIN 0x11     /* edge-triggered, cascaded, ICW4 follows */
#define ICW4_8086 0x01
#define OCW2_END 0x20       /* end of interrupt: the highest one in service */
#define CASCADE 2
#define FIRST_LEVELS 0x4d0
#define SECOND_LEVELS 0x4d1
#define VECTOR_BASE 32      /* behind the exceptions */

static irq_handler handlers[16];
static u16 mask = 0xffff & ~(1 << CASCADE);
static u16 levels;

static void initialize(u16 command, u16 data, u8 base, u8 cascade)
{
    out8(command, ICW1_BEGIN);
    out8(data, base);
    out8(data, cascade); /* the first: which lines have another one; the second: which one it is on */
    out8(data, ICW4_8086);
}

void pic_init(void)
{
    initialize(FIRST_COMMAND, FIRST_DATA, VECTOR_BASE, 1 << CASCADE);
    initialize(SECOND_COMMAND, SECOND_DATA, VECTOR_BASE + 8, CASCADE);
    out8(FIRST_DATA, (u8)mask);
    out8(SECOND_DATA, (u8)(mask >> 8));
    levels = in8(FIRST_LEVELS) | (u16)(in8(SECOND_LEVELS) << 8);
}

void irq_attach(unsigned line, irq_handler handler)
{
    handlers[line] = handler;
    mask &= ~(1 << line);
    if (line < 8)
        out8(FIRST_DATA, (u8)mask);
    else
        out8(SECOND_DATA, (u8)(mask >> 8));
}

u8 pic_mask(void)
{
    return (u8)mask;
}

/*
 * Of an edge, first the end of the interrupt, then the handler: what comes in between is remembered by the controller,
 * not lost.  Of a level the other way round: it would ask again at once, as the device is not served yet.
 * A line without a handler is masked, so a controller that names it is embarrassed: the line went away before it was
 * asked which.  It then says 7, and does not hold it to be in service; there is nothing to end.
 */
void interrupts_dispatch(struct trap_frame *frame)
{
    u64 line = frame->error;
    bool is_level = levels >> line & 1;

    if (is_level && handlers[line])
        handlers[line]();
    if (line >= 8) {
        if (handlers[line])
            out8(SECOND_COMMAND, OCW2_END);
        out8(FIRST_COMMAND, OCW2_END); /* the cascade was real */
    } else if (handlers[line]) {
        out8(FIRST_COMMAND, OCW2_END);
    }
    if (!is_level && handlers[line])
        handlers[line]();
}
