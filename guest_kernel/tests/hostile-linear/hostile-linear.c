/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Linear page tables: a table in a slot of its own level is how a kernel may read all its tables at fixed addresses.
 * It may never write them there, nor build chains or circles of such entries. (get_l4_linear_pagetable)
 */
#include "test.h"

const char test_name[] = "hostile-linear";

static unsigned long a[512] PAGE_ALIGNED, b[512] PAGE_ALIGNED, c[512] PAGE_ALIGNED;

#define LINK (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)
#define LINEAR (PTE_P | PTE_US | PTE_A)
#define SLOT 300UL /* of the L4s, in the guest's upper half */
#define WINDOW (0xffff000000000000UL | SLOT << 39)

static unsigned long *at(const void *va, int level) /* where the entry for va of that level is to be read */
{
    unsigned long address = (unsigned long)va & 0xffffffffffffUL;

    for (int i = 0; i < level; i++)
        address = SLOT << 39 | address >> 9;
    return (unsigned long *)(0xffff000000000000UL | (address & ~7UL));
}

void test_main(void)
{
    unsigned long *l4 = (unsigned long *)start_info->pt_base, l4_mfn = mfn_of(l4), own = maddr_of(&l4[SLOT]), value;

    /* Its own: read-only, and all tables are to be seen through it. */
    check_is(mmu_update(own, PTE(l4_mfn, LINK)), -XEN_EINVAL);
    check_is(mmu_update(own, PTE(l4_mfn, LINEAR)), 0);
    for (int level = 1; level <= 4; level++)
        check_is(probe_read(at(a, level), &value), PROBE_NONE);
    check(PTE_MFN(*at(a, 1)) == mfn_of(a));
    check(PTE_MFN(*at(a, 2)) == mfn_of(pte_of(a, 1)));
    check(PTE_MFN(*at((void *)WINDOW, 4)) == l4_mfn);

    /* Not to be written there, neither by us nor by Xen for us. */
    check_is(probe_write(at(a, 1), 0), 14);
    check_is(probe_write(at(a, 4), 0), 14);
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    check_is(probe_write(at(a, 4), 0), 14);
    check_is(HYPERVISOR_update_va_mapping((unsigned long)at(a, 2), 0, 0), -XEN_EINVAL); /* its "L1" is none */
    check_is(mmu_update(own, PTE(l4_mfn, LINK)), -XEN_EINVAL); /* RW is looked at again */
    check_is(mmu_update(own, PTE(l4_mfn, LINEAR | PTE_NX)), 0);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(pte_of(a, 1)), 0), -XEN_EINVAL);

    /* Of another L4: only while that has no such entries (c has), and it is validated. */
    check_is(mmu_update(own, 0), 0);
    a[511] = b[511] = c[511] = l4[511];
    c[SLOT] = PTE(mfn_of(b), LINEAR);
    check_is(readonly(a) | readonly(b) | readonly(c), 0);
    check_is(mmu_update(own, PTE(mfn_of(b), LINEAR)), -XEN_EINVAL); /* a plain page */
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(c), 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(b), 0), 0);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(c), 0), 0);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(a), 0), 0);
    check_is(mmu_update(own, PTE(mfn_of(c), LINEAR)), -XEN_EINVAL); /* l4 -> c -> b would be a chain */
    check_is(mmu_update(maddr_of(&b[SLOT]), PTE(mfn_of(a), LINEAR)), -XEN_EINVAL);
    check_is(mmu_update(maddr_of(&b[SLOT]), PTE(mfn_of(c), LINEAR)), -XEN_EINVAL); /* a circle */
    check_is(mmu_update(maddr_of(&b[SLOT]), PTE(mfn_of(b), LINEAR)), 0); /* its own does not count */
    check_is(mmu_update(own, PTE(mfn_of(b), LINEAR)), 0);
    check_is(mmu_update(maddr_of(&l4[SLOT + 1]), PTE(mfn_of(a), LINEAR)), 0);
    check_is(mmu_update(maddr_of(&a[SLOT]), PTE(l4_mfn, LINEAR)), -XEN_EINVAL); /* l4 has some: none may name it */
    check(PTE_MFN(*at((void *)(511UL << 39 | 0xffff000000000000UL), 4)) == PTE_MFN(b[511])); /* b, seen through it */

    /* Unpinned, it stays what it is as long as it is named: a page table nobody may write. */
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(b), 0), 0);
    check_is(writable(b), -XEN_EBUSY);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(c), 0), 0); /* which drops what it named */
    check_is(writable(c), 0);
    check_is(writable(b), -XEN_EBUSY);
    check_is(mmu_update(own, 0), 0);
    check_is(writable(b), 0);
    check_is(mmu_update(maddr_of(&l4[SLOT + 1]), 0), 0);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(a), 0), 0);
    check_is(writable(a), 0);

    /* The lower levels have them as well: an L2 that names itself. */
    unsigned long l2 = maddr_of(pte_of(a, 2)), last = l2 | 0xff8;

    check_is(mmu_update(last, PTE(l2 >> 12, LINK)), -XEN_EINVAL);
    check_is(mmu_update(last, PTE(l2 >> 12, LINEAR)), 0);
    check_is(mmu_update(last, 0), 0);

    /* And we end with a circle of our own left standing. */
    check_is(mmu_update(own, PTE(l4_mfn, LINEAR)), 0);
}
