/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A vCPU has a one-shot timer, for set_timer_op and VCPUOP_set_singleshot_timer alike, and a periodic one, which ticks
 * every 10 ms from the start until it is told otherwise. Both ring VIRQ_TIMER.
 */
#include "test.h"

const char test_name[] = "timers";

static unsigned timer;
static unsigned long last_event;

static void note_time(unsigned port)
{
    last_event = now();
}

static long singleshot(unsigned long deadline, unsigned flags)
{
    struct vcpu_set_singleshot_timer op = { .timeout_abs_ns = deadline, .flags = flags };

    return HYPERVISOR_vcpu_op(VCPUOP_set_singleshot_timer, 0, &op);
}

/* One each period. Fewer when something kept us from the CPU for longer than that; never more. */
static void check_ticks(unsigned long period)
{
    unsigned long start = now(), took;

    event_count[timer] = 0;
    delay_until(start + 10 * period);
    took = now() - start;
    check(event_count[timer] >= 2 && event_count[timer] <= took / period + 1);
}

void test_main(void)
{
    struct vcpu_set_periodic_timer periodic = { .period_ns = 5000000 };
    unsigned long start;

    timer = bind_virq(VIRQ_TIMER);
    event_hook = note_time;
    events_on();

    /* The tick that is there from the start. */
    check_ticks(10000000);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_stop_periodic_timer, 0, 0), 0);
    event_count[timer] = 0;
    delay_until(now() + 50000000);
    check_is(event_count[timer], 0);

    check_is(HYPERVISOR_vcpu_op(VCPUOP_set_periodic_timer, 0, &periodic), 0);
    check_ticks(5000000);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_stop_periodic_timer, 0, 0), 0);
    periodic.period_ns = 100000;
    check_is(HYPERVISOR_vcpu_op(VCPUOP_set_periodic_timer, 0, &periodic), -XEN_EINVAL); /* less than a millisecond */

    event_count[timer] = 0;
    start = now();
    check_is(singleshot(start + 10000000, 0), 0);
    delay_until(start + 40000000);
    check_is(event_count[timer], 1); /* once, and not before its time */
    check(last_event >= start + 10000000);

    /* In the past: at once, whether the caller said that it wants to know or not. (Xen ignores that flag.) */
    check_is(singleshot(1, VCPU_SSHOTTMR_future), 0);
    delay_until(now() + 10000000);
    check_is(event_count[timer], 2);

    /* One timer: a later wish replaces the earlier; 0 is none. */
    check_is(HYPERVISOR_set_timer_op(now() + 20000000), 0);
    check_is(HYPERVISOR_set_timer_op(0), 0);
    delay_until(now() + 40000000);
    check_is(event_count[timer], 2);
    check_is(singleshot(now() + 10000000, 0), 0);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_stop_singleshot_timer, 0, 0), 0);
    delay_until(now() + 30000000);
    check_is(event_count[timer], 2);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_stop_singleshot_timer, 77, 0), -XEN_ENOENT);
}
