/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Frames of somebody else: another domain's (any of them: its data, its tables, its GDT), the hypervisor's, and what is
 * no RAM. No call that takes a frame takes one of those.
 */
#include "test.h"

const char test_name[] = "hostile-frames";

PAGE(page);
static unsigned long table[512] PAGE_ALIGNED;

#define RIGHTS (PTE_P | PTE_US | PTE_A | PTE_D | PTE_NX)
#define LINK (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)

static long update(unsigned long ptr, unsigned long val, unsigned foreigndom)
{
    struct mmu_update req = { .ptr = ptr, .val = val };

    return HYPERVISOR_mmu_update(&req, 1, 0, foreigndom);
}

static long memory_op(unsigned cmd, unsigned long frame)
{
    struct xen_memory_reservation op = { .nr_extents = 1, .domid = DOMID_SELF };

    set_handle(op.extent_start, &frame);
    return HYPERVISOR_memory_op(cmd, &op);
}

/* A frame that is RAM, but not ours. */
static void refused(unsigned long mfn)
{
    unsigned long slot = pte_maddr(page, 1), list = mfn, before = *pte_of(page, 1);

    /* In a page table of ours: as data, writable or not, in all three ways (get_page_from_l1e: could_not_pin). */
    check_is(update(slot, PTE(mfn, RIGHTS), DOMID_SELF), -XEN_EBUSY);
    check_is(update(slot, PTE(mfn, RIGHTS | PTE_RW), DOMID_SELF), -XEN_EBUSY);
    check_is(update(slot | MMU_PT_UPDATE_PRESERVE_AD, PTE(mfn, RIGHTS | PTE_RW), DOMID_SELF), -XEN_EBUSY);
    check_is(remap(page, PTE(mfn, RIGHTS | PTE_RW)), -XEN_EBUSY);
    check(*pte_of(page, 1) == before);
    /* As a table (get_page_and_type_from_mfn). */
    check_is(update(pte_maddr(page, 2), PTE(mfn, LINK), DOMID_SELF), -XEN_EINVAL);
    check_is(update(pte_maddr(page, 3), PTE(mfn, LINK), DOMID_SELF), -XEN_EINVAL);
    check_is(update(pte_maddr(page, 4), PTE(mfn, LINK), DOMID_SELF), -XEN_EINVAL);
    /* In a table that is to be one. */
    table[7] = PTE(mfn, RIGHTS);
    check_is(readonly(table), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(table), 0), -XEN_EBUSY);
    check_is(mmuext(MMUEXT_PIN_L2_TABLE, mfn_of(table), 0), -XEN_EINVAL);
    check_is(writable(table), 0);
    table[7] = 0;
    /* Written to: as an entry, as a descriptor, as a whole, in the M2P. */
    check_is(update(mfn << 12, 0, DOMID_SELF), -XEN_EINVAL);
    check_is(update(mfn << 12 | MMU_MACHPHYS_UPDATE, 1, DOMID_SELF), -XEN_EINVAL);
    check_is(HYPERVISOR_update_descriptor(mfn << 12, 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_CLEAR_PAGE, mfn, 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_COPY_PAGE, mfn, mfn_of(page)), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_COPY_PAGE, mfn_of(page), mfn), -XEN_EINVAL);
    struct evtchn_init_control control = { .control_gfn = mfn };

    check_is(evtchn(EVTCHNOP_init_control, &control), -XEN_EINVAL);
    /* Pinned, unpinned, walked by the CPU, taken for a GDT. */
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, mfn, 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn, 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_NEW_BASEPTR, mfn, 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_NEW_USER_BASEPTR, mfn, 0), -XEN_EINVAL);
    check_is(HYPERVISOR_set_gdt(&list, 512), -XEN_EINVAL);
    /* Given back, or swapped: these count what they did, which is nothing. */
    check_is(memory_op(XENMEM_decrease_reservation, mfn), 0);
}

void test_main(void)
{
    unsigned long slot = pte_maddr(page, 1);
    unsigned victim = (unsigned)fact("domid");
    static const char *const frames[] = { "l4", "l1", "secret", "lent", "gdt", "shared", "xen", "m2p" };

    for (unsigned i = 0; i < ARRAY_SIZE(frames); i++)
        if (fact(frames[i]))
            refused(fact(frames[i]));

    /* What is no RAM: beyond the end of memory, and the widest number there is. */
    check_is(update(slot, PTE(0x000fffffffUL, RIGHTS), DOMID_SELF), -XEN_EPERM);
    check_is(update(slot, PTE(0x000fffffffUL, RIGHTS), DOMID_IO), -XEN_EPERM);
    check_is(update(slot, PTE(0xffffffffffUL, RIGHTS), DOMID_SELF), -XEN_EINVAL); /* "INVALID_MFN" */
    check_is(update(pte_maddr(page, 2), PTE(0x000fffffffUL, LINK), DOMID_SELF), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, ~0UL, 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_NEW_BASEPTR, 1UL << 52, 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_NEW_BASEPTR, 0, 0), -XEN_EINVAL);
    check_is(mmuext(MMUEXT_COPY_PAGE, mfn_of(page), ~0UL), -XEN_EINVAL);

    /* Whose tables, whose frames: there are no such domains, or one is not to name oneself. */
    check_is(update(slot, 0, 0x6fff), -XEN_ESRCH);
    check_is(update(slot, 0, own_domid()), -XEN_ESRCH);
    check_is(update(slot, 0, DOMID_SELF | 0x6fff << 16), -XEN_ESRCH);
    if (start_info->flags & SIF_INITDOMAIN)
        return; /* the rest it may */

    /* There is one, but it is not ours to control (xsm_mmu_update and its kin, XSM_TARGET). */
    check_is(update(slot, 0, victim), -XEN_EPERM);
    check_is(update(slot, 0, DOMID_XEN), -XEN_EPERM);
    check_is(update(slot, 0, DOMID_SELF | (victim + 1) << 16), -XEN_EPERM);
    check_is(update(slot | MMU_MACHPHYS_UPDATE, 0, DOMID_SELF | (victim + 1) << 16), -XEN_EPERM);
    check_is(HYPERVISOR_update_va_mapping_otherdomain((unsigned long)page, 0, 0, (domid_t)victim), -XEN_EPERM);
    check_is(HYPERVISOR_update_va_mapping_otherdomain((unsigned long)page, 0, 0, DOMID_XEN), -XEN_EPERM);
    struct mmuext_op op = { .cmd = MMUEXT_UNPIN_TABLE, .arg1.mfn = fact("l4") };

    check_is(HYPERVISOR_mmuext_op(&op, 1, 0, victim), -XEN_EPERM);
    check_is(HYPERVISOR_mmuext_op(&op, 1, 0, DOMID_IO), -XEN_EPERM);

    /* DOMID_IO is nobody's: mmu_update may ask for its frames, and gets none; the other call may not even ask
     * (xsm_mmu_update, xsm_update_va_mapping). */
    check_is(update(slot, PTE(mfn_of(page), RIGHTS), DOMID_IO), -XEN_EBUSY);
    check_is(HYPERVISOR_update_va_mapping_otherdomain(
                 (unsigned long)page, PTE(mfn_of(page), RIGHTS), 0, DOMID_IO), -XEN_EPERM);
    check_is(HYPERVISOR_update_va_mapping_otherdomain((unsigned long)page, 0, UVMF_INVLPG, DOMID_IO), -XEN_EPERM);
    check_is(update(slot, 0, DOMID_IO), 0);
    check_is(mmuext(MMUEXT_INVLPG_LOCAL, (unsigned long)page, 0), 0);
    check_is(probe_read(page, 0), 14);
}
