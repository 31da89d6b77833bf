/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * From one kernel stack to another: the heart of multitasking, in a dozen instructions.  Whoever calls this
 * comes back from it later, on its own stack, as if nothing had been; the registers it may not lose are on
 * that stack meanwhile.
 */
#include <process.h>

__attribute__((naked)) void switch_stacks(u64 *save_rsp, u64 load_rsp)
{
    asm volatile("pushq %rbp\n"
                 "pushq %rbx\n"
                 "pushq %r12\n"
                 "pushq %r13\n"
                 "pushq %r14\n"
                 "pushq %r15\n"
                 "movq %rsp, (%rdi)\n"
                 "movq %rsi, %rsp\n"
                 "popq %r15\n"
                 "popq %r14\n"
                 "popq %r13\n"
                 "popq %r12\n"
                 "popq %rbx\n"
                 "popq %rbp\n"
                 "ret\n");
}
