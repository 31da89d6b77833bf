/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * HYPERVISOR_iret: the only way back.  It loads what the frame says; the interrupt flag in it is the upcall mask; and
 * with VGCF_in_syscall it leaves like `sysret`, so %rcx and %r11 are not restored.
 */
#include "test.h"

const char test_name[] = "iret";

/* To the label behind, within the kernel. The frame's own rcx and r11 are marked. */
static void go(unsigned long flags, unsigned long rflags, unsigned long *rcx, unsigned long *r11, unsigned long *rax)
{
    asm volatile("movq %%rsp, %%rbx\n"
                 "pushq %[ss]\n"
                 "pushq %%rbx\n"
                 "pushq %[rflags]\n"
                 "pushq %[cs]\n"
                 "leaq 1f(%%rip), %%rax\n"
                 "pushq %%rax\n"
                 "pushq %[flags]\n"
                 "pushq $0xc\n"
                 "pushq $0xb\n"
                 "pushq $0xa\n"
                 "movl $23, %%eax\n"
                 "syscall\n"
                 "ud2\n"
                 "1: movq %%r11, %%rdx\n"
                 : "=c"(*rcx), "=d"(*r11), "=a"(*rax)
                 : [flags] "r"(flags), [rflags] "r"(rflags), [cs] "r"((unsigned long)FLAT_KERNEL_CS & ~3UL),
                   [ss] "r"((unsigned long)FLAT_KERNEL_SS)
                 : "rbx", "r11", "memory");
}

void test_main(void)
{
    unsigned long rcx, r11, rax, flags;
    volatile unsigned char *mask = &shared_info->vcpu_info[0].evtchn_upcall_mask;

    *mask = 1;
    go(0, 0x202, &rcx, &r11, &rax);
    check_is(rax, 0xa);
    check_is(r11, 0xb);
    check_is(rcx, 0xc);
    check_is(*mask, 0); /* IF was set */
    go(0, 2, &rcx, &r11, &rax);
    check_is(*mask, 1);

    /* Arithmetic flags arrive; IOPL does not. */
    go(0, 0x2 | 0x1 | 0x40 | 0x3000, &rcx, &r11, &rax);
    go(0, 0x8d7, &rcx, &r11, &rax);
    asm volatile("pushfq; popq %0" : "=r"(flags));
    check_is(flags & 0x3000, 0);

    go(VGCF_in_syscall, 2, &rcx, &r11, &rax);
    check_is(rax, 0xa);
    check(rcx != 0xc); /* sysret took the address from there */
    check(r11 != 0xb);
}
