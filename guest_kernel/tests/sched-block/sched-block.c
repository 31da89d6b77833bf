/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * SCHEDOP_block unmasks events and sleeps until there is one; if one is pending it does not sleep at all.
 */
#include "test.h"

const char test_name[] = "sched-block";

void test_main(void)
{
    unsigned timer = bind_virq(VIRQ_TIMER);
    unsigned long start, took;

    check_is(HYPERVISOR_vcpu_op(VCPUOP_stop_periodic_timer, 0, 0), 0);
    events_off();
    event_count[timer] = 0;
    start = now();
    check_is(HYPERVISOR_set_timer_op(start + 20000000), 0);
    check_is(HYPERVISOR_sched_op(SCHEDOP_block, 0), 0);
    took = now() - start;
    check_is(event_count[timer], 1); /* the upcall came before the next instruction */
    check_is(shared_info->vcpu_info[0].evtchn_upcall_mask, 0);
    check(took >= 20000000);

    /* Pending, though masked: block takes the mask off, and comes straight back. */
    events_off();
    check_is(HYPERVISOR_set_timer_op(now() + 1000), 0);
    while (!event_pending(timer))
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
    start = now();
    check_is(HYPERVISOR_sched_op(SCHEDOP_block, 0), 0);
    check_is(event_count[timer], 2);
    check(now() - start < 1000000000);

    check_is(HYPERVISOR_sched_op(SCHEDOP_yield, 0), 0);
    check_is(HYPERVISOR_sched_op(77, 0), -XEN_ENOSYS);
    check_is(HYPERVISOR_sched_op(SCHEDOP_shutdown, (void *)8), -XEN_EFAULT);
}
