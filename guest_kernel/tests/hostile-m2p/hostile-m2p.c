/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The machine-to-physical table says what a domain wants it to say of that domain's own frames: any number. So nobody
 * may believe it; and nobody writes it but by asking.
 */
#include "test.h"

const char test_name[] = "hostile-m2p";

PAGE(page);

static long set(unsigned long mfn, unsigned long pfn)
{
    struct mmu_update req = { .ptr = mfn << 12 | MMU_MACHPHYS_UPDATE, .val = pfn };

    return HYPERVISOR_mmu_update(&req, 1, 0, DOMID_SELF);
}

void test_main(void)
{
    static const unsigned long lies[] = { 0, 1, 0xfffffff, 1UL << 52, 0x7fffffffffffffffUL, ~0UL, ~0UL - 1, 1UL << 63 };
    volatile unsigned long *m2p = (unsigned long *)MACH2PHYS_VIRT_START;
    unsigned long mfn = mfn_of(page), pfn = pfn_of(page), l4 = mfn_of((void *)start_info->pt_base), gone;

    /* Stores, of any width and kind, and with Xen's help for page tables asked for. */
    check_is(HYPERVISOR_vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    check_is(probe_write((void *)&m2p[mfn], pfn), 14);
    check_is(probe("lock xaddl %k1, (%2)", : "r"(1), "r"(&m2p[mfn]) : "memory"), 14);
    check_is(probe("rep stosb", : "D"(&m2p[mfn]), "c"(8UL) : "memory"), 14);
    check_is(probe_write((void *)&m2p[l4], 0), 14);
    check_is(HYPERVISOR_update_va_mapping((unsigned long)&m2p[mfn], 0, 0), -XEN_EINVAL);
    check_is(HYPERVISOR_xen_version(XENVER_extraversion, (void *)&m2p[mfn]), -XEN_EFAULT);
    check_is(m2p[mfn], pfn);

    /* Lies about our own frames, tables among them; and what they lead to: nothing. */
    for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
        struct xen_memory_reservation op = { .nr_extents = 1, .domid = DOMID_SELF };

        check_is(set(mfn, lies[i]), 0);
        check_is(m2p[mfn], lies[i]);
        check_is(set(l4, lies[i]), 0);
        check_is(readonly(page) | writable(page), 0);
        check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0), -XEN_EINVAL);
        gone = mfn;
        set_handle(op.extent_start, &gone);
        check_is(remap(page, 0), 0);
        check_is(HYPERVISOR_memory_op(XENMEM_decrease_reservation, &op), 1);
        gone = pfn;
        check_is(HYPERVISOR_memory_op(XENMEM_populate_physmap, &op), 1);
        mfn = ((unsigned long *)start_info->mfn_list)[pfn] = gone;
        check_is(m2p[mfn], pfn); /* populate_physmap says it anew */
        check_is(writable(page), 0);
        check_is(set(l4, pfn_of((void *)start_info->pt_base)), 0);
    }

    /* Of frames that are not ours, or not there: no. */
    check_is(set(0xfffffff, 1), -XEN_EINVAL);
    check_is(set(~0UL >> 12, 1), -XEN_EINVAL);
    if (fact("secret"))
        check_is(set(fact("secret"), 1), -XEN_EINVAL);
    check_is(set(mfn, pfn), 0);
}
