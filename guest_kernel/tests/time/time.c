/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Time is read, not asked for: a base in shared memory and the TSC. It never goes back, and agrees with the runstate
 * clock that Xen counts by.
 *
 * varies: booted at
 */
#include "test.h"

const char test_name[] = "time";

void test_main(void)
{
    struct vcpu_runstate_info before, after;
    unsigned long last = now(), start = last, wall, ticks = rdtsc();
    unsigned timer = bind_virq(VIRQ_TIMER);

    check_is(HYPERVISOR_vcpu_op(VCPUOP_stop_periodic_timer, 0, 0), 0);
    for (int i = 0; i < 10000; i++) {
        unsigned long t = now();

        check(t >= last);
        last = t;
    }
    check(last > start && rdtsc() > ticks);
    check(shared_info->vcpu_info[0].time.version % 2 == 0);
    check(shared_info->vcpu_info[0].time.tsc_to_system_mul);

    wall = ((unsigned long)shared_info->wc_sec_hi << 32) | shared_info->wc_sec;
    say("booted at %lu\n", wall);
    check(wall > 900000000UL && shared_info->wc_nsec < 1000000000 && shared_info->wc_version % 2 == 0);

    /* A sleep is as long in our clock as in Xen's. */
    check_is(HYPERVISOR_vcpu_op(VCPUOP_get_runstate_info, 0, &before), 0);
    start = now();
    events_off();
    check_is(HYPERVISOR_set_timer_op(start + 50000000), 0);
    wait_for_events(timer, event_count[timer] + 1);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_get_runstate_info, 0, &after), 0);
    check(after.time[RUNSTATE_blocked] > before.time[RUNSTATE_blocked]);
}
