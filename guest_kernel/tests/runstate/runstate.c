/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where a vCPU's time went: running, runnable, blocked, offline. Asked for, or kept up to date in the guest's memory.
 */
#include "test.h"

const char test_name[] = "runstate";

static volatile struct vcpu_runstate_info area;

void test_main(void)
{
    struct vcpu_register_runstate_memory_area op;
    struct vcpu_runstate_info asked;
    unsigned timer = bind_virq(VIRQ_TIMER);
    unsigned long running, blocked, sum = 0;

    check_is(HYPERVISOR_vcpu_op(VCPUOP_stop_periodic_timer, 0, 0), 0);
    set_handle(op.addr.h, (void *)&area);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_register_runstate_memory_area, 0, &op), 0);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_get_runstate_info, 0, &asked), 0);
    check_is(asked.state, RUNSTATE_running);
    check_is(area.state, RUNSTATE_running);
    running = asked.time[RUNSTATE_running], blocked = asked.time[RUNSTATE_blocked];

    delay_until(now() + 10000000);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_get_runstate_info, 0, &asked), 0);
    check(asked.time[RUNSTATE_running] > running);

    events_off();
    event_count[timer] = 0;
    check_is(HYPERVISOR_set_timer_op(now() + 20000000), 0);
    wait_for_events(timer, 1);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_get_runstate_info, 0, &asked), 0);
    check(asked.time[RUNSTATE_blocked] >= blocked + 15000000);
    check(area.time[RUNSTATE_blocked] >= blocked + 15000000); /* told without being asked */
    for (int i = 0; i < 4; i++)
        sum += asked.time[i];
    check(sum <= asked.state_entry_time + 1000000000);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_get_runstate_info, 77, &asked), -XEN_ENOENT);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_get_runstate_info, 0, (void *)8), -XEN_EFAULT);
}
