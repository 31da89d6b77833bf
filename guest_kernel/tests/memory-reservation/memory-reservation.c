/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * XENMEM_decrease_reservation gives frames back, XENMEM_populate_physmap takes others for them. What is mapped stays
 * ours until it is not; the M2P tells which frames we have.
 */
#include "test.h"

const char test_name[] = "memory-reservation";

static unsigned char pages[4][PAGE_SIZE] PAGE_ALIGNED;

static long reserve(unsigned cmd, xen_pfn_t *frames, unsigned long count, unsigned order)
{
    struct xen_memory_reservation op = { .nr_extents = count, .extent_order = order, .domid = DOMID_SELF };

    set_handle(op.extent_start, frames);
    return HYPERVISOR_memory_op(cmd, &op);
}

void test_main(void)
{
    domid_t self = DOMID_SELF, nobody = 0x6fff;
    long before = HYPERVISOR_memory_op(XENMEM_current_reservation, &self);
    xen_pfn_t frames[4], gone = mfn_of(pages[0]);
    unsigned long value;

    check_is(before, start_info->nr_pages);
    check(HYPERVISOR_memory_op(XENMEM_maximum_reservation, &self) >= before ||
          HYPERVISOR_memory_op(XENMEM_maximum_reservation, &self) == -1);
    check_is(HYPERVISOR_memory_op(XENMEM_current_reservation, &nobody), -XEN_ESRCH);

    /* A frame that is mapped has another reference: taken out of the reservation, but not out of our hands. So unmap. */
    check_is(remap(pages[0], 0), 0);
    frames[0] = gone;
    check_is(reserve(XENMEM_decrease_reservation, frames, 1, 0), 1);
    check_is(HYPERVISOR_memory_op(XENMEM_current_reservation, &self), before - 1);
    check_is(remap(pages[0], PTE(gone, PTE_P | PTE_US | PTE_NX)), -XEN_EBUSY); /* not ours any more */

    /* Another one in its place: the caller names the pseudo-physical page, and is told the frame. */
    frames[0] = pfn_of(pages[0]);
    check_is(reserve(XENMEM_populate_physmap, frames, 1, 0), 1);
    check(pfn_of_mfn(frames[0]) == pfn_of(pages[0]));
    check_is(remap(pages[0], PTE(frames[0], PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0);
    check_is(HYPERVISOR_memory_op(XENMEM_current_reservation, &self), before);
    check_is(probe_read(pages[0], &value), PROBE_NONE);
    check(value == 0); /* and it tells nothing of who had it before */

    /* The result is how many extents were done; one that fails ends it. */
    for (int i = 1; i < 3; i++) {
        frames[i - 1] = mfn_of(pages[i]);
        check_is(remap(pages[i], 0), 0);
    }
    frames[2] = 0xfffffff;
    check_is(reserve(XENMEM_decrease_reservation, frames, 3, 0), 2);
    frames[0] = pfn_of(pages[1]), frames[1] = pfn_of(pages[2]);
    check_is(reserve(XENMEM_populate_physmap, frames, 2, 0), 2);

    check_is(reserve(XENMEM_decrease_reservation, (xen_pfn_t *)8, 1, 0), 0); /* an unreadable list: none were done */
    check_is(reserve(XENMEM_populate_physmap, frames, 1, 30), 0); /* nobody has that much in a row for us */
    check_is(reserve(XENMEM_decrease_reservation, frames, 0, 0), 0);
    check_is(HYPERVISOR_memory_op(63, &self), -XEN_ENOSYS);
}
