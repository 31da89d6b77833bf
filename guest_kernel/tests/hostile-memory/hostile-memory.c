/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * memory_op beyond all measure: more than we may have, orders that nobody has, lists that overflow, other domains, what
 * was given back already.
 */
#include "test.h"

const char test_name[] = "hostile-memory";

PAGE(page);
PAGE(list);

static unsigned long *const frames = (unsigned long *)list;

static long reserve(unsigned cmd, unsigned long count, unsigned order, unsigned domid, const void *from)
{
    struct xen_memory_reservation op = { .nr_extents = count, .extent_order = order, .domid = (domid_t)domid };

    set_handle(op.extent_start, from);
    return HYPERVISOR_memory_op(cmd, &op);
}

static long exchange(unsigned long in_count, unsigned in_order, unsigned long out_count, unsigned out_order,
                     unsigned long done, unsigned domid)
{
    struct xen_memory_exchange op = {
        .in = { .nr_extents = in_count, .extent_order = in_order, .domid = DOMID_SELF },
        .out = { .nr_extents = out_count, .extent_order = out_order, .domid = (domid_t)domid }, .nr_exchanged = done };

    set_handle(op.in.extent_start, frames);
    set_handle(op.out.extent_start, frames);
    return HYPERVISOR_memory_op(XENMEM_exchange, &op);
}

void test_main(void)
{
    static const unsigned ops[] = { XENMEM_increase_reservation, XENMEM_decrease_reservation, XENMEM_populate_physmap };
    unsigned long mfn = mfn_of(page), before, now_has;
    domid_t self = DOMID_SELF;
    unsigned victim = (unsigned)fact("domid");
    int dom0 = start_info->flags & SIF_INITDOMAIN;

    before = HYPERVISOR_memory_op(XENMEM_current_reservation, &self);
    frames[0] = pfn_of(page);
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        check_is(reserve(ops[i], 1, 0, 0x6fff, frames), 0); /* none were done, is all it says */
        check_is(reserve(ops[i], ~0UL, 0, DOMID_SELF, frames), 0);
        check_is(reserve(ops[i], 1, 63, DOMID_SELF, frames), 0);
        check_is(reserve(ops[i], 1, 0xffffffff, DOMID_SELF, frames), 0);
        check_is(reserve(ops[i], 0, 0, DOMID_SELF, frames), 0);
        check_is(reserve(ops[i], 3, 0, DOMID_SELF, (void *)0xffff830000000000UL), 0);
        if (victim)
            check_is(reserve(ops[i], 1, 0, victim, frames), 0);
    }
    now_has = HYPERVISOR_memory_op(XENMEM_current_reservation, &self);
    check(dom0 || now_has == before);
    if (!dom0) { /* we have all we may have, or nearly */
        frames[0] = pfn_of(page);
        check_is(reserve(XENMEM_populate_physmap, 1, 9, DOMID_SELF, frames), 0);
        check(reserve(XENMEM_increase_reservation, 600, 0, DOMID_SELF, 0) < 600);
        check_is(reserve(XENMEM_increase_reservation, 1, 0, DOMID_SELF, 0), 0);
    }

    /* What cannot be given back: nothing, and what comes behind it stays. */
    frames[0] = ~0UL, frames[1] = mfn;
    check_is(reserve(XENMEM_decrease_reservation, 2, 0, DOMID_SELF, frames), 0);
    frames[0] = start_info->shared_info >> 12;
    check_is(reserve(XENMEM_decrease_reservation, 2, 0, DOMID_SELF, frames), 2);
    check_is(remap(page, 0), 0);

    /* Exchanges whose sums do not come out, or overflow. */
    frames[0] = mfn_of(list);
    check_is(exchange(1, 0, 2, 0, 0, DOMID_SELF), -XEN_EINVAL);
    check_is(exchange(1UL << 63, 1, 0, 0, 0, DOMID_SELF), -XEN_EINVAL);
    check_is(exchange(~0UL, 0, ~0UL, 0, 0, DOMID_SELF), -XEN_EFAULT);
    check_is(exchange(1, 63, 1, 63, 0, DOMID_SELF), -XEN_EPERM);
    check_is(exchange(1, 0, 1, 0, 2, DOMID_SELF), -XEN_EINVAL);
    check_is(exchange(1, 0, 1, 0, 0, 0x6fff), -XEN_EINVAL);
    check_is(exchange(1, 0, 1, 0, 1, DOMID_SELF), 0); /* all done, says the list */
    frames[0] = mfn_of(list); /* itself: it is mapped, and so not to be had */
    check_is(exchange(1, 0, 1, 0, 0, DOMID_SELF), -XEN_EINVAL);
    check_is(frames[0], mfn_of(list));

    /* Commands there are none of, and what is the toolstack's. */
    for (unsigned cmd = 29; cmd < 64; cmd++)
        check_is(HYPERVISOR_memory_op(cmd, frames), -XEN_ENOSYS);
    if (victim) {
        domid_t other = (domid_t)victim;
        struct xen_foreign_memory_map map = { .domid = other };

        check_is(HYPERVISOR_memory_op(XENMEM_current_reservation, &other), -XEN_EPERM);
        check_is(HYPERVISOR_memory_op(XENMEM_maximum_reservation, &other), -XEN_EPERM);
        check_is(HYPERVISOR_memory_op(XENMEM_set_memory_map, &map), -XEN_EPERM);
    }
}
