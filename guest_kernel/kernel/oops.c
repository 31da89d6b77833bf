/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * When the kernel itself did wrong: say everything that is known, then crash honestly.
 */
#include <lib.h>
#include <process.h>
#include <pv_ops.h>
#include <trap.h>

const char *trap_name(u64 vector)
{
    static const char *const names[TRAP_EXCEPTIONS] = {
        [0] = "divide error", [1] = "debug trap", [2] = "NMI", [3] = "breakpoint", [4] = "overflow",
        [5] = "bound range", [6] = "invalid instruction", [7] = "no FPU", [8] = "double fault",
        [10] = "invalid TSS", [11] = "segment not present", [12] = "stack fault",
        [13] = "general protection fault", [14] = "page fault", [16] = "FPU error",
        [17] = "misaligned access", [18] = "machine check", [19] = "SIMD error",
    };

    return vector < TRAP_EXCEPTIONS && names[vector] ? names[vector] : "unknown trap";
}

void oops(const char *why, struct trap_frame *f)
{
    kprintf("\nOops: %s in the kernel (vector %lu, error %lx, address %lx), process %d %s\n", why, f->vector, f->error,
            pv.fault_address(), current ? current->pid : 0, current ? current->name : "");
    kprintf("rip %016lx cs %04lx rflags %08lx rsp %016lx ss %04lx\n", f->rip, f->cs & 0xffff, f->rflags, f->rsp, f->ss);
    kprintf("rax %016lx rbx %016lx rcx %016lx rdx %016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
    kprintf("rsi %016lx rdi %016lx rbp %016lx r8  %016lx\n", f->rsi, f->rdi, f->rbp, f->r8);
    kprintf("r9  %016lx r10 %016lx r11 %016lx r12 %016lx\n", f->r9, f->r10, f->r11, f->r12);
    kprintf("r13 %016lx r14 %016lx r15 %016lx\n", f->r13, f->r14, f->r15);
    backtrace(f->rbp);
    pv.shutdown(SHUTDOWN_HOW_CRASH);
}
