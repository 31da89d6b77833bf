/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Some privileged instructions a PV kernel may still use: Xen sees the fault and does what they would have done. The
 * others stay the fault they are.
 */
#include "test.h"

const char test_name[] = "privileged-instructions";

static long probe_rdmsr(unsigned msr, unsigned long *value)
{
    unsigned low = 0, high = 0;
    long trap = PROBE_NONE;

    asm volatile("movq %%rax, %%rbx; movl %%ecx, %%ecx\n"
                 "1: rdmsr\n"
                 "movl %%eax, %1; movl %%edx, %2; movq %%rbx, %%rax\n"
                 "2:\n"
                 ".pushsection .fixups, \"aw\"; .quad 1b, 2b; .popsection"
                 : "+a"(trap), "=&r"(low), "=&r"(high)
                 : "c"(msr)
                 : "rbx", "rdx");
    *value = ((unsigned long)high << 32) | low;
    return trap;
}

void test_main(void)
{
    unsigned long cr0, cr3, cr4, value;

    asm volatile("movq %%cr0, %0; movq %%cr3, %1; movq %%cr4, %2" : "=r"(cr0), "=r"(cr3), "=r"(cr4));
    check((cr0 & 0x80000001) == 0x80000001); /* PG and PE */
    check_is(cr3 >> 12, mfn_of((void *)start_info->pt_base));
    check(cr4 & (1 << 5)); /* PAE */

    /* TS is the one bit of CR0 that is the guest's. */
    asm volatile("movq %0, %%cr0" : : "r"(cr0 | 8));
    asm volatile("movq %%cr0, %0" : "=r"(value));
    check(value & 8);
    asm volatile("clts");
    asm volatile("movq %%cr0, %0" : "=r"(value));
    check(!(value & 8));
    check_is(probe("movq %1, %%cr0", : "r"(cr0 & ~0x80000000UL)), 13); /* paging stays on */

    asm volatile("wbinvd");
    check_is(probe_rdmsr(0xc0000080, &value), PROBE_NONE); /* EFER */
    check((value & 0x500) == 0x500);                       /* long mode, active */
    check_is(probe_rdmsr(0xc0000100, &value), PROBE_NONE); /* FS base */
    check_is(probe_rdmsr(0x12345, &value), 13);

    /* A CR3 of our own: the same root. Of a frame that is none: no. */
    asm volatile("movq %0, %%cr3" : : "r"(cr3));
    check_is(probe("movq %1, %%cr3", : "r"(maddr_of((void *)start_info->mfn_list))), 13);

    check_is(probe("hlt"), 13);
    check_is(probe("lgdt (%%rsp)"), 13);
    check_is(probe("lidt (%%rsp)"), 13);
    check_is(probe("invlpg (%%rsp)"), 13); /* MMUEXT_INVLPG_LOCAL instead */
}
