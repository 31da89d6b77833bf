/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Debug registers by hypercall: what is written is read, no breakpoint may lie in the hypervisor, and those elsewhere
 * come to the guest as #DB: behind the access, or at the instruction.
 *
 * needs: engine=corrected
 */
#include "test.h"

const char test_name[] = "debugreg";

PAGE(page);

#define RF (1UL << 16)

/* Writes beside the watched bytes, reads them, writes one of them. */
extern const char touch[], touched[];
void touch_page(void *page);
asm(".text\n"
    "touch_page: touch: movq %rax, (%rdi)\n"
    "movq 8(%rdi), %rax\n"
    "movb $7, 13(%rdi)\n"
    "touched: ret");

static unsigned long hits, at[4], told[4];

static int note(struct frame *frame)
{
    at[hits & 3] = frame->rip;
    told[hits++ & 3] = (unsigned long)HYPERVISOR_get_debugreg(6) & 0x600f;
    HYPERVISOR_set_debugreg(6, 0);
    frame->rflags |= RF; /* past a breakpoint on an instruction */
    return 1;
}

static void breakpoints(void)
{
    trap_hooks[1] = note;
    HYPERVISOR_set_debugreg(6, 0);
    check_is(HYPERVISOR_set_debugreg(0, (unsigned long)page + 8), 0);
    check_is(HYPERVISOR_set_debugreg(7, 1 << 0 | 9 << 16), 0); /* a write to one of eight bytes */
    touch_page(page);
    check_is(hits, 1);
    check(at[0] == (unsigned long)touched);
    check_is(told[0], 1);

    check_is(HYPERVISOR_set_debugreg(1, (unsigned long)touch), 0);
    check_is(HYPERVISOR_set_debugreg(7, 1 << 2), 0);
    hits = 0;
    for (int i = 0; i < 3; i++)
        touch_page(page);
    check_is(hits, 3);
    check(at[2] == (unsigned long)touch);
    check_is(told[2], 2);

    check_is(HYPERVISOR_set_debugreg(7, 0), 0);
    touch_page(page);
    check_is(hits, 3);
    trap_hooks[1] = 0;
}

void test_main(void)
{
    for (int i = 0; i < 4; i++) {
        check_is(HYPERVISOR_set_debugreg(i, (unsigned long)page + i * 8), 0);
        check_is(HYPERVISOR_get_debugreg(i), (unsigned long)page + i * 8);
    }
    check_is(HYPERVISOR_get_debugreg(6) & 0xf, 0);
    check_is(HYPERVISOR_get_debugreg(7) & 0xff, 0);
    check_is(HYPERVISOR_set_debugreg(0, 0xffff830000000000UL), -XEN_EPERM);
    check_is(HYPERVISOR_get_debugreg(0), (unsigned long)page);
    check_is(HYPERVISOR_set_debugreg(9, 0), -XEN_ENODEV);
    check_is(HYPERVISOR_get_debugreg(9), -XEN_ENODEV);
    breakpoints();
    for (int i = 0; i < 4; i++)
        check_is(HYPERVISOR_set_debugreg(i, 0), 0);
}
