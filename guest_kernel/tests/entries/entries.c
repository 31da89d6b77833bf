/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A present entry of a page table looks as Xen leaves it (adjust_guest_l1e and its kin): a kernel runs at CPL 3, so all
 * its pages have the U bit, bit 52 notes those that came without it, and the others are global. Upper entries get the U
 * bit, those of an L4 the A bit as well. So it is by whichever way an entry comes.
 */
#include "test.h"

const char test_name[] = "entries";

#define KERNELS (1UL << 52)
#define PTE_G (1UL << 8)
#define FLAGS (PTE_P | PTE_A | PTE_D | PTE_US | PTE_G | KERNELS)

PAGE(page);
static unsigned long l1[512] PAGE_ALIGNED, l2[512] PAGE_ALIGNED, l3[512] PAGE_ALIGNED, l4[512] PAGE_ALIGNED;

/* What Xen makes of an L1 entry. */
static unsigned long adjusted(unsigned long entry)
{
    if (!(entry & PTE_P))
        return entry;
    if (!(entry & PTE_US))
        return entry | PTE_US | KERNELS;
    return entry & KERNELS ? entry : entry | PTE_G;
}

/* The nth mix of the three bits. */
static unsigned long mixed(unsigned n)
{
    return PTE(mfn_of(page), PTE_A | PTE_D | PTE_NX | (n & 1 ? PTE_US : 0) | (n & 2 ? PTE_G : 0) |
                             (n & 4 ? KERNELS : 0) | (n & 8 ? 0 : PTE_P));
}

static void the_boot_mapping(void)
{
    const void *places[] = { page, (void *)start_info, (void *)start_info->pt_base, (void *)start_info->mfn_list };

    for (unsigned n = 0; n < ARRAY_SIZE(places); n++) {
        check_is(*pte_of(places[n], 1) & (PTE_US | KERNELS | PTE_G), PTE_US | KERNELS);
        check_is(*pte_of(places[n], 2) & PTE_US, PTE_US);
        check_is(*pte_of(places[n], 3) & PTE_US, PTE_US);
        check_is(*pte_of(places[n], 4) & (PTE_US | PTE_A), PTE_US | PTE_A);
    }
}

static void one_entry(void)
{
    unsigned long *entry = pte_of(page, 1);

    for (unsigned n = 0; n < 16; n++) {
        check_is(remap(page, mixed(n)), 0);
        check_is(*entry, adjusted(mixed(n)));
        check_is(remap(page, 0), 0);
        check_is(mmu_update(pte_maddr(page, 1), mixed(n)), 0);
        check_is(*entry, adjusted(mixed(n)));
        /* One that differs in nothing else, which Xen takes without another look. */
        check_is(mmu_update(pte_maddr(page, 1), mixed(n ^ 3)), 0);
        check_is(*entry, adjusted(mixed(n ^ 3)));
    }
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    for (unsigned n = 0; n < 16; n++) {
        *(volatile unsigned long *)entry = 0;
        *(volatile unsigned long *)entry = mixed(n);
        check_is(*(volatile unsigned long *)entry, adjusted(mixed(n)));
    }
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_disable, VMASST_TYPE_writable_pagetables), 0);
    check_is(writable(page), 0);
}

static void whole_tables(void)
{
    for (unsigned n = 0; n < 16; n++)
        l1[n] = mixed(n);
    l2[3] = PTE(mfn_of(l1), PTE_P);
    l3[3] = PTE(mfn_of(l2), PTE_P | PTE_RW);
    l4[3] = PTE(mfn_of(l3), PTE_P | PTE_RW | PTE_NX);
    l2[4] = 0x1234560; /* not there, and so let alone */
    check_is(readonly(l1), 0);
    check_is(readonly(l2), 0);
    check_is(readonly(l3), 0);
    check_is(readonly(l4), 0);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(l4), 0), 0);
    for (unsigned n = 0; n < 16; n++)
        check_is(l1[n], adjusted(mixed(n)));
    check_is(l2[3], PTE(mfn_of(l1), PTE_P | PTE_US));
    check_is(l3[3], PTE(mfn_of(l2), PTE_P | PTE_RW | PTE_US));
    check_is(l4[3], PTE(mfn_of(l3), PTE_P | PTE_RW | PTE_NX | PTE_US | PTE_A));
    check_is(l2[4], 0x1234560);

    /* And one by one. */
    check_is(mmu_update(maddr_of(&l2[3]), PTE(mfn_of(l1), PTE_P | PTE_RW)), 0);
    check_is(l2[3], PTE(mfn_of(l1), PTE_P | PTE_RW | PTE_US));
    check_is(mmu_update(maddr_of(&l3[3]), PTE(mfn_of(l2), PTE_P)), 0);
    check_is(l3[3], PTE(mfn_of(l2), PTE_P | PTE_US));
    check_is(mmu_update(maddr_of(&l4[5]), PTE(mfn_of(l3), PTE_P)), 0);
    check_is(l4[5], PTE(mfn_of(l3), PTE_P | PTE_US | PTE_A));
    check_is(mmu_update(maddr_of(&l4[5]), 0x1234560), 0);
    check_is(l4[5], 0x1234560);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(l4), 0), 0);
}

void test_main(void)
{
    the_boot_mapping();
    one_entry();
    whole_tables();
}
