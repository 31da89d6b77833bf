/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Everything that interrupts somebody comes through here: faults, events, system calls.
 */
#include <lib.h>
#include <nanobench.h>
#include <process.h>
#include <pv_ops.h>
#include <shutdown.h>
#include <trap.h>

static void die_by(struct trap_frame *frame, u64 va)
{
    if (frame->vector == TRAP_PAGE_FAULT)
        kprintf("[%d] %s: may not %s address %lx (at %lx)\n", current->pid, current->name,
                frame->error & FAULT_FETCH ? "execute" : frame->error & FAULT_WRITE ? "write" : "read", va, frame->rip);
    else
        kprintf("[%d] %s: %s (at %lx)\n", current->pid, current->name, trap_name(frame->vector), frame->rip);
    process_exit(STATUS_FAULT + (int)frame->vector);
}

static void page_fault(struct trap_frame *frame)
{
    u64 va = pv.fault_address();

    /* The kernel faults on user addresses too, when it copies: that is as good as the user's own access. */
    if (va < USER_END && current && !fault_in(current->space, va, frame->error))
        return;
    if (from_user(frame))
        die_by(frame, va);
    if (!usercopy_fixup(&frame->rip) && !nanobench_fixup(&frame->rip))
        oops("page fault", frame);
}

static void die_if_killed(void)
{
    if (current->killed && current->pid == 1)
        shutdown_asked();
    if (current->killed)
        process_exit(STATUS_KILLED);
}

void trap(struct trap_frame *frame)
{
    switch (frame->vector) {
    case TRAP_INTERRUPT:
        interrupts_dispatch(frame);
        break;
    case TRAP_SYSCALL:
        syscall(frame);
        break;
    case TRAP_PAGE_FAULT:
        page_fault(frame);
        break;
    default:
        if (!from_user(frame)) {
            if (!nanobench_fixup(&frame->rip))
                oops(trap_name(frame->vector), frame);
        } else if (frame->vector == TRAP_NO_DEVICE) {
            fpu_trap();
        } else {
            die_by(frame, 0);
        }
    }
    if (from_user(frame)) {
        die_if_killed();
        preempt(frame);
        die_if_killed(); /* by somebody who ran meanwhile */
    }
}
