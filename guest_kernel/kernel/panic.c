/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The end that the kernel chooses itself: what it has to say, how it came there, and a crash.
 */
#include <api/syscalls.h>
#include <lib.h>
#include <pv_ops.h>
#include <trap.h>

/* Each function saved its caller's %rbp below its return address: a list through the stack. */
void backtrace(u64 rbp)
{
    u64 lowest = rbp;

    kprintf("stack:");
    for (int depth = 0; depth < 16 && rbp >= lowest && rbp >= KERNEL_BASE && !(rbp & 7); depth++) {
        u64 *frame = (u64 *)rbp;

        if (!frame[1])
            break;
        kprintf(" %lx", frame[1]);
        lowest = rbp;
        rbp = frame[0];
        if (rbp <= lowest)
            break;
    }
    kprintf("\n");
}

void panic(const char *format, ...)
{
    __builtin_va_list args;
    u64 rbp;

    pv.irq_disable();
    kprintf("\npanic: ");
    __builtin_va_start(args, format);
    kprintv(format, args);
    __builtin_va_end(args);
    kprintf("\n");
    asm("movq %%rbp, %0" : "=r"(rbp));
    backtrace(rbp);
    pv.shutdown(SHUTDOWN_HOW_CRASH);
}
