/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The machine-to-physical table: readable by every guest at a fixed address, writable by none; a guest changes the
 * entries of its own frames by asking.
 */
#include "test.h"

const char test_name[] = "m2p";

PAGE(page);

static int set_m2p(unsigned long mfn, unsigned long pfn)
{
    struct mmu_update req = { .ptr = mfn << 12 | MMU_MACHPHYS_UPDATE, .val = pfn };

    return (int)HYPERVISOR_mmu_update(&req, 1, 0, DOMID_SELF);
}

void test_main(void)
{
    unsigned long *m2p = (unsigned long *)MACH2PHYS_VIRT_START, *p2m = (unsigned long *)start_info->mfn_list;
    unsigned long mfn = mfn_of(page), pfn = pfn_of(page);
    struct xen_machphys_mapping mapping;

    for (unsigned long i = 0; i < start_info->nr_pages; i += 97)
        check(m2p[p2m[i]] == i);

    check_is(HYPERVISOR_memory_op(XENMEM_machphys_mapping, &mapping), 0);
    check(mapping.v_start == MACH2PHYS_VIRT_START && mapping.v_end > mapping.v_start);
    check(mapping.max_mfn >= mfn);

    check_is(probe_write(&m2p[mfn], 1), 14);
    check_is(last_trap.error & 3, 3);
    check(m2p[mfn] == pfn);

    check_is(set_m2p(mfn, 0x1234), 0);
    check(((volatile unsigned long *)m2p)[mfn] == 0x1234);
    check_is(set_m2p(mfn, pfn), 0);
    check_is(set_m2p(0xfffffff, 1), -XEN_EINVAL);
}
