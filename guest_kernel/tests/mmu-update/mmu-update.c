/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * mmu_update: a guest writes its own page tables by asking, and may map only what is its own, and never a page table
 * writable.
 */
#include "test.h"

const char test_name[] = "mmu-update";

PAGE(a);
PAGE(b);

void test_main(void)
{
    unsigned long rights = PTE_P | PTE_US | PTE_A | PTE_D | PTE_NX, slot = pte_maddr(a, 1), before = *pte_of(a, 1);
    unsigned long table = mfn_of(pte_of(a, 1));
    struct mmu_update two[2];
    unsigned done = 77;

    a[0] = 1;
    b[0] = 2;

    /* Two virtual pages, one frame. */
    check_is(mmu_update(slot, PTE(mfn_of(b), rights | PTE_RW)), 0);
    mmuext(MMUEXT_INVLPG_LOCAL, (unsigned long)a, 0);
    check(*(volatile unsigned char *)a == 2);

    /* Read-only means it; and the table itself is mapped read-only to us, and shows what we asked for. */
    check_is(mmu_update(slot, PTE(mfn_of(a), rights)), 0);
    mmuext(MMUEXT_INVLPG_LOCAL, (unsigned long)a, 0);
    check(*(volatile unsigned char *)a == 1);
    check_is(probe_write(a, 5), 14);
    check_is(last_trap.error, 3); /* present, write, not user: the guest kernel's own mode */
    check(last_cr2 == (unsigned long)a);
    check(PTE_MFN(*pte_of(a, 1)) == mfn_of(a));

    /* A page table, writable: no. Read-only: yes. */
    check_is(mmu_update(slot, PTE(table, rights | PTE_RW)), -XEN_EBUSY);
    check_is(mmu_update(slot, PTE(table, rights)), 0);

    /* A frame that is not ours, or not there: no. Mapped as what it is, nothing changed by the failures. */
    check_is(mmu_update(slot, PTE(0x000fffffffUL, rights)), -XEN_EPERM);
    check(PTE_MFN(*pte_of(a, 1)) == table);

    /* Not present: anything goes, Xen does not look at it. */
    check_is(mmu_update(slot, 0x123456789000), 0);
    mmuext(MMUEXT_INVLPG_LOCAL, (unsigned long)a, 0);
    check_is(probe_read(a, 0), 14);
    check_is(last_trap.error, 0);
    check_is(mmu_update(slot, before), 0);

    /* Several at once: done tells how many were carried out, the failing one stops the rest. */
    two[0] = (struct mmu_update){ slot | MMU_NORMAL_PT_UPDATE, before };
    two[1] = (struct mmu_update){ slot | MMU_NORMAL_PT_UPDATE, PTE(table, rights | PTE_RW) };
    check_is(HYPERVISOR_mmu_update(two, 2, &done, DOMID_SELF), -XEN_EBUSY);
    check_is(done, 1);

    /* What else can be wrong. */
    two[0].ptr = slot | 4; /* no such kind of update */
    check_is(HYPERVISOR_mmu_update(two, 1, 0, DOMID_SELF), -XEN_ENOSYS);
    check_is(HYPERVISOR_mmu_update((struct mmu_update *)8, 1, 0, DOMID_SELF), -XEN_EFAULT);
    check_is(mmu_update(slot, before), 0);
}
