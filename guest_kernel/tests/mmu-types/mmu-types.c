/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A frame has one type at a time: a page table, or writable, never both.  Pinning makes it a table and keeps it one;
 * unpinning lets it go.
 */
#include "test.h"

const char test_name[] = "mmu-types";

static unsigned long table[512] PAGE_ALIGNED;
PAGE(data);

void test_main(void)
{
    unsigned long mfn = mfn_of(table);

    table[3] = PTE(mfn_of(data), PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX);

    /* As long as a writable mapping is left, it cannot become a table. */
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0), -XEN_EINVAL);
    check_is(readonly(table), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0), 0);

    /* Now it is one: not writable any more, by any mapping. */
    check_is(writable(table), -XEN_EBUSY);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0), -XEN_EINVAL); /* pinned already */
    check_is(mmuext(MMUEXT_PIN_L2_TABLE, mfn, 0), -XEN_EINVAL); /* nor of another level */

    /* Its entries are checked like any table's. */
    check_is(mmu_update(maddr_of(&table[4]), PTE(mfn_of(data), PTE_P | PTE_US)), 0);
    check_is(mmu_update(maddr_of(&table[5]), PTE(mfn, PTE_P | PTE_RW | PTE_US)), -XEN_EBUSY);
    check(table[5] == 0);

    /* What it maps writable counts: `data` cannot become a table while it is mapped so. */
    check_is(readonly(data), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(data), 0), -XEN_EINVAL);
    check_is(mmu_update(maddr_of(&table[3]), 0), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(data), 0), 0);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(data), 0), 0);
    check_is(writable(data), 0);

    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn, 0), 0);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn, 0), -XEN_EINVAL);
    check_is(writable(table), 0);
    table[5] = 1; /* an ordinary page again */

    /* A table that maps what it may not cannot be pinned at all. */
    table[6] = PTE(mfn_of((void *)start_info->pt_base), PTE_P | PTE_RW | PTE_US);
    table[5] = 0;
    check_is(readonly(table), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0), -XEN_EBUSY);
    check_is(writable(table), 0);
}
