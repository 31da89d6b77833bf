/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where the CPU shall deliver what: the interrupt descriptor table for exceptions and interrupts (Intel SDM volume
 * 3A, 6.14 "Exception and Interrupt Handling in 64-bit Mode"), and three MSRs for syscall (volume 3A, 5.8.8).
 */
#include <lib.h>
#include <trap.h>

#include "instructions.h"
#include "native.h"

#define VECTORS 48 /* 32 exceptions and, behind them, 16 interrupt lines */

#define GATE_INTERRUPT 0x8e00 /* present, interrupt gate: comes in with interrupts off */
#define GATE_RING3 0x6000     /* user code may ask for it by `int` */
#define GATE_IST1 1

enum { NMI = 2, BREAKPOINT = 3, OVERFLOW = 4, DOUBLE_FAULT = 8, MACHINE_CHECK = 18 };

struct gate {
    u16 offset_low, selector, flags, offset_middle;
    u32 offset_high, reserved;
};

static struct gate idt[VECTORS] __attribute__((aligned(16)));

extern char trap_stubs[], syscall_entry[];

static u16 gate_flags(unsigned vector)
{
    switch (vector) {
    case BREAKPOINT:
    case OVERFLOW:
        return GATE_INTERRUPT | GATE_RING3;
    case NMI:
    case DOUBLE_FAULT:
    case MACHINE_CHECK:
        return GATE_INTERRUPT | GATE_IST1;
    }
    return GATE_INTERRUPT;
}

void native_set_traps(void)
{
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) table = { sizeof(idt) - 1, (u64)idt };

    segments_init();
    for (unsigned vector = 0; vector < VECTORS; vector++) {
        u64 stub = (u64)trap_stubs + 32 * vector;

        idt[vector] = (struct gate){
            .offset_low = (u16)stub,
            .selector = KERNEL_CS,
            .flags = gate_flags(vector),
            .offset_middle = (u16)(stub >> 16),
            .offset_high = (u32)(stub >> 32),
        };
    }
    asm volatile("lidt %0" : : "m"(table));

    write_msr(MSR_STAR, (u64)(USER_SS - 8) << 48 | (u64)KERNEL_CS << 32);
    write_msr(MSR_LSTAR, (u64)syscall_entry);
    write_msr(MSR_FMASK, 0x47700); /* what syscall clears: interrupts, direction, single step, AC, NT, IOPL */
}

/* On the stack of last resort: there is no going on from here, and no process to blame. */
void trap_fatal(struct trap_frame *frame)
{
    oops(trap_name(frame->vector), frame);
}
