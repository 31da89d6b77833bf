/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * XENMEM_exchange: give frames, get others, in one step.
 */
#include "test.h"

const char test_name[] = "memory-exchange";

static unsigned char pages[2][PAGE_SIZE] PAGE_ALIGNED;

void test_main(void)
{
    xen_pfn_t in[2] = { mfn_of(pages[0]), mfn_of(pages[1]) }, out[2] = { pfn_of(pages[0]), pfn_of(pages[1]) };
    struct xen_memory_exchange op = {
        .in = { .nr_extents = 2, .domid = DOMID_SELF },
        .out = { .nr_extents = 2, .domid = DOMID_SELF },
    };
    domid_t self = DOMID_SELF;
    long before = HYPERVISOR_memory_op(XENMEM_current_reservation, &self);

    set_handle(op.in.extent_start, in);
    set_handle(op.out.extent_start, out);
    check_is(remap(pages[0], 0), 0);
    check_is(remap(pages[1], 0), 0);
    check_is(HYPERVISOR_memory_op(XENMEM_exchange, &op), 0);
    check_is(op.nr_exchanged, 2);
    for (int i = 0; i < 2; i++) {
        check(pfn_of_mfn(out[i]) == pfn_of(pages[i]));
        check_is(remap(pages[i], PTE(out[i], PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0);
        pages[i][0] = 1;
    }
    check_is(HYPERVISOR_memory_op(XENMEM_current_reservation, &self), before);

    /* As much in as out. */
    op.nr_exchanged = 0;
    op.out.nr_extents = 1;
    check_is(HYPERVISOR_memory_op(XENMEM_exchange, &op), -XEN_EINVAL);
    op.out.nr_extents = 2;
    op.nr_exchanged = 3;
    check_is(HYPERVISOR_memory_op(XENMEM_exchange, &op), -XEN_EINVAL);
}
