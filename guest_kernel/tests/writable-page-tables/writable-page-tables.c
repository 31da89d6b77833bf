/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A store to a page-table entry faults, since tables are mapped read-only; Xen carries it out for us if we asked for
 * that assistance, checked like an mmu_update. A store it would refuse comes to us as the fault it is.
 */
#include "test.h"

const char test_name[] = "writable-page-tables";

PAGE(a);
PAGE(b);

void test_main(void)
{
    volatile unsigned long *slot = pte_of(a, 1);
    unsigned long before = *slot, rights = PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX;

    a[0] = 1, b[0] = 2;
    if (!(start_info->flags & SIF_INITDOMAIN)) /* for a dom0 Xen does it unasked */
        check_is(probe_write((void *)slot, before), 14);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    *slot = PTE(mfn_of(b), rights);
    mmuext(MMUEXT_INVLPG_LOCAL, (unsigned long)a, 0);
    check(*(volatile unsigned char *)a == 2);

    /* Read-modify-write instructions work, too. */
    asm volatile("lock btrq $1, %0" : "+m"(*slot)); /* RW off */
    mmuext(MMUEXT_INVLPG_LOCAL, (unsigned long)a, 0);
    check(!(*slot & PTE_RW));
    check_is(probe_write(a, 5), 14);
    unsigned long old = *slot;

    check(__sync_bool_compare_and_swap(slot, old, before));
    mmuext(MMUEXT_INVLPG_LOCAL, (unsigned long)a, 0);
    check(*(volatile unsigned char *)a == 1);

    /* An entry is written in halves as well, and the flags are those the instruction leaves. */
    volatile unsigned *half = (volatile unsigned *)slot;
    unsigned char carry, zero;
    unsigned low = *half, number = -low;

    old = *slot;
    asm volatile("lock xaddl %3, %0; setc %1; setz %2"
                 : "+m"(*half), "=q"(carry), "=q"(zero), "+r"(number) : : "cc", "memory");
    check(carry && zero && number == low);
    check(*slot == old - low);
    *half = low;
    check(*slot == old);

    /* So are rows of entries: here three, as they are. */
    unsigned long held[3] = {slot[0], slot[1], slot[2]}, count = 3, *from = held;
    volatile unsigned long *to = slot;

    asm volatile("rep movsq" : "+c"(count), "+D"(to), "+S"(from) : : "memory");
    check(!count && to == slot + 3 && from == held + 3 && *slot == held[0]);

    /* A table mapped writable is refused, however it is asked for. */
    check_is(probe_write((void *)slot, PTE(mfn_of((void *)slot), rights)), 14);
    check(PTE_MFN(*slot) == mfn_of(a));
}
