/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A trap frame: all that the CPU was doing when it came into the kernel.  The column's entry code (entry.S)
 * builds one on the kernel stack, and going back means loading all of it.  The order below is the order of the
 * pushes: the CPU's own from the error code up, and under Xen, from rax on, what its iret wants to see.
 */
#pragma once

#include <types.h>

struct trap_frame {
    u64 vector;
    u64 r15, r14, r13, r12, rbp, rbx, r9, r8, r10, rdx, rsi, rdi;
    u64 rax, r11, rcx, error;
    u64 rip, cs, rflags, rsp, ss;
};

enum {
    TRAP_DIVIDE = 0,
    TRAP_NO_DEVICE = 7,
    TRAP_PAGE_FAULT = 14,
    TRAP_EXCEPTIONS = 32,
    TRAP_INTERRUPT = 32, /* pseudo-vector: all of them; which one is the column's business */
    TRAP_SYSCALL = 33,   /* pseudo-vector */
};

/* Set by the column at boot: the selectors user code runs with. */
extern u64 user_cs, user_ss;

static inline bool from_user(const struct trap_frame *frame) { return (frame->cs & 3) == 3; }

/* kernel/trap.c: called by the entry code with interrupts off, whatever came. */
void trap(struct trap_frame *frame);

/* The column: take what is pending to its handlers. `frame->error` is what the column's entry code put there. */
void interrupts_dispatch(struct trap_frame *frame);

/* kernel/syscall.c */
void syscall(struct trap_frame *frame);

/* entry.S: load a whole trap frame and go. */
void trap_return(struct trap_frame *frame) NORETURN;

/* kernel/oops.c: the kernel did wrong. Prints everything and shuts down as crashed. */
void oops(const char *why, struct trap_frame *frame) NORETURN;
void backtrace(u64 rbp);
const char *trap_name(u64 vector);
