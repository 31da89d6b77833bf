/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A store to a page-table entry faults, since tables are mapped read-only; Xen carries it out for us, checked like an
 * mmu_update. A store it would refuse comes to us as the fault it is.
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

    /* A table mapped writable is refused, however it is asked for. */
    check_is(probe_write((void *)slot, PTE(mfn_of((void *)slot), rights)), 14);
    check(PTE_MFN(*slot) == mfn_of(a));
}
