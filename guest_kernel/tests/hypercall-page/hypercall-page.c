/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A kernel may ask, by a note, for a page of hypercall stubs.  The stub of call n is at 32 * n; calling it is the
 * hypercall, and unlike a bare `syscall` it keeps %rcx and %r11.  Or it writes the address of a page to an MSR of Xen's,
 * as kernels do that find Xen by CPUID.
 */
#include "test.h"

const char test_name[] = "hypercall-page";

extern unsigned char hypercall_page[PAGE_SIZE];

asm(".pushsection .text.hypercall_page, \"ax\"; .balign 4096; .globl hypercall_page\n"
    "hypercall_page: .fill 4096, 1, 0xcc\n"
    ".popsection\n"
    ".pushsection .note.Xen, \"a\", @note; .balign 4\n"
    ".long 4, 8, 2; .asciz \"Xen\"; .quad hypercall_page\n" /* XEN_ELFNOTE_HYPERCALL_PAGE is 2 */
    ".popsection");

_Static_assert(XEN_ELFNOTE_HYPERCALL_PAGE == 2, "the note above");

PAGE(another);

static long wrmsr(unsigned msr, unsigned long value)
{
    long trap = PROBE_NONE; /* in rax, which wrmsr wants as well: the value waits in rbx */

    asm volatile("xchgq %%rax, %%rbx\n"
                 "1: wrmsr\n"
                 "xchgq %%rax, %%rbx\n"
                 "2:\n"
                 ".pushsection .fixups, \"aw\"; .quad 1b, 2b; .popsection"
                 : "+a"(trap), "+b"(value)
                 : "c"(msr), "d"(value >> 32));
    return trap;
}

static void by_msr(void)
{
    unsigned long result = 0, rdi = XENVER_version, rsi = 0, low = 1, high = 1;
    static unsigned long table[512] PAGE_ALIGNED;

    check_is(remap(another, PTE(mfn_of(another), PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)), 0);
    check_is(wrmsr(0x40000000, maddr_of(another) | 1), 13); /* there is no second page */
    check_is(wrmsr(0x40000000, 0x000ffffffffff000UL), 13);
    check_is(readonly(table), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(table), 0), 0);
    check_is(wrmsr(0x40000000, maddr_of(table)), 13); /* one that may not be written */
    check_is(wrmsr(0x40000001, maddr_of(another)), 13);
    check_is(another[0], 0);
    check_is(wrmsr(0x40000000, maddr_of(another)), PROBE_NONE);
    check(!memcmp(another, hypercall_page, PAGE_SIZE));
    asm volatile("call *%[stub]"
                 : "=a"(result), "+D"(rdi), "+S"(rsi)
                 : [stub] "r"(another + 32 * __HYPERVISOR_xen_version)
                 : "memory");
    check_is(result >> 16, 4);
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0x40000000)); /* it tells nothing */
    check_is(low | high, 0);
}

void test_main(void)
{
    unsigned long result = 0, rcx = 0xc0ffee, r11 = 0x1111, rdi = XENVER_version, rsi = 0;

    check(hypercall_page[0] != 0xcc); /* filled before our first instruction */
    asm volatile("movq %[r11], %%r11\n"
                 "call *%[stub]\n"
                 "movq %%r11, %[r11]\n"
                 : "=a"(result), "+c"(rcx), [r11] "+b"(r11), "+D"(rdi), "+S"(rsi)
                 : [stub] "r"(hypercall_page + 32 * __HYPERVISOR_xen_version)
                 : "r11", "memory");
    check_is(result >> 16, 4);
    check(rcx == 0xc0ffee && r11 == 0x1111);

    /* iret's stub pushes rcx, r11 and rax first: it is jumped to, with a whole frame behind them. */
    check(memcmp(hypercall_page + 32 * __HYPERVISOR_iret, "\x51\x41\x53\x50", 4) == 0);
    by_msr();
}
