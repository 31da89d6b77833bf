/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The sixteen slots of every L4 that are the hypervisor's, 256 to 271: what a guest writes there is refused in a live
 * table, and gone from one that becomes live.
 */
#include "test.h"

const char test_name[] = "hostile-l4-slots";

static unsigned long l4[512] PAGE_ALIGNED, l3[512] PAGE_ALIGNED;
PAGE(page);

#define LINK (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)
#define FIRST 256
#define LAST 271

void test_main(void)
{
    unsigned long *boot = (unsigned long *)start_info->pt_base, boot_mfn = mfn_of(boot), held[512], value;

    check_is(readonly(l3), 0);
    check_is(mmuext(MMUEXT_PIN_L3_TABLE, mfn_of(l3), 0), 0);
    memcpy(held, boot, sizeof(held));
    for (unsigned slot = FIRST; slot <= LAST; slot++) {
        check_is(mmu_update(maddr_of(&boot[slot]), PTE(mfn_of(l3), LINK)), -XEN_EINVAL);
        check_is(mmu_update(maddr_of(&boot[slot]), PTE(boot_mfn, PTE_P | PTE_US)), -XEN_EINVAL);
        check_is(mmu_update(maddr_of(&boot[slot]), held[slot]), -XEN_EINVAL); /* not even what it is */
        check_is(mmu_update(maddr_of(&boot[slot]), 0), -XEN_EINVAL);
        check(boot[slot] == held[slot]);
    }
    check_is(mmu_update(maddr_of(&boot[FIRST - 1]), PTE(mfn_of(l3), LINK)), 0);
    check_is(mmu_update(maddr_of(&boot[LAST + 1]), PTE(mfn_of(l3), LINK)), 0);
    check_is(mmu_update(maddr_of(&boot[FIRST - 1]), 0), 0);
    check_is(mmu_update(maddr_of(&boot[LAST + 1]), 0), 0);

    /* Forged before it is a table: nobody looks at them, and they are overwritten. */
    for (unsigned slot = FIRST; slot <= LAST; slot++)
        l4[slot] = PTE(mfn_of(page), LINK) | slot << 9;
    l4[511] = boot[511];
    check_is(readonly(l4), 0);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(l4), 0), 0);
    for (unsigned slot = FIRST; slot <= LAST; slot++)
        check(PTE_MFN(l4[slot]) != mfn_of(page));
    check_is(mmuext(MMUEXT_NEW_BASEPTR, mfn_of(l4), 0), 0);
    check(pfn_of_mfn(mfn_of(page)) == pfn_of(page)); /* the M2P is the hypervisor's */

    /* Nothing behind them is ours to reach, but that one table. */
    for (unsigned long slot = FIRST + 1; slot <= LAST; slot++) {
        check_is(probe_write((void *)(0xffff000000000000UL | slot << 39), 0), 14);
        if (slot != 260) /* the CPU's own GDT is there */
            check_is(probe_read((void *)(0xffff000000000000UL | slot << 39), &value), 14);
        check_is(HYPERVISOR_update_va_mapping(0xffff000000000000UL | slot << 39, 0, 0), -XEN_EINVAL);
    }
    check_is(mmuext(MMUEXT_NEW_BASEPTR, boot_mfn, 0), 0);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(l4), 0), 0);
    check_is(writable(l4), 0);
}
