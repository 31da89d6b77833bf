/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Time and turns: polls of ports there are none of, watchdogs that are not there, somebody else's shutdown, timers in
 * the past, in a moment and never, as often as one likes. None of it stops the others, or us.
 */
#include "test.h"

const char test_name[] = "hostile-sched";

static long poll(const void *ports, unsigned count, unsigned long timeout)
{
    struct sched_poll op = { .nr_ports = count, .timeout = timeout };

    set_handle(op.ports, ports);
    return HYPERVISOR_sched_op(SCHEDOP_poll, &op);
}

void test_main(void)
{
    static const unsigned bad[] = { 4096, 0x7fffffff, ~0U };
    static unsigned ports[128];
    struct sched_watchdog dog = { .id = 3, .timeout = 30 };
    struct sched_remote_shutdown remote = { .domain_id = (domid_t)(fact("domid") ? fact("domid") : 0x6fff),
                                            .reason = SHUTDOWN_crash };
    struct vcpu_set_singleshot_timer once = { 0 };
    struct vcpu_set_periodic_timer periodic = { .period_ns = 1 };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        check_is(poll(&bad[i], 1, now() + 1000), -XEN_EINVAL);
    check_is(poll(ports, 129, now()), -XEN_EINVAL);
    check_is(poll((void *)8, 1, now() + 1000), -XEN_EFAULT);
    check_is(poll(0, 0, now() + 1000), 0);
    check_is(poll(0, 0, 1), 0); /* long past */

    check_is(HYPERVISOR_sched_op(SCHEDOP_watchdog, &dog), -XEN_EINVAL);
    dog.id = 77;
    check_is(HYPERVISOR_sched_op(SCHEDOP_watchdog, &dog), -XEN_EINVAL);
    dog.id = 0, dog.timeout = ~0U;
    check((int)HYPERVISOR_sched_op(SCHEDOP_watchdog, &dog) > 0);
    dog.id = 1, dog.timeout = 0;
    check_is(HYPERVISOR_sched_op(SCHEDOP_watchdog, &dog), 0);
    check_is(HYPERVISOR_sched_op(99, &dog), -XEN_ENOSYS);
    if (!(start_info->flags & SIF_INITDOMAIN)) {
        check_is(HYPERVISOR_sched_op(SCHEDOP_remote_shutdown, &remote), fact("domid") ? -XEN_EPERM : -XEN_ESRCH);
        remote.domain_id = 0x6fff;
        check_is(HYPERVISOR_sched_op(SCHEDOP_remote_shutdown, &remote), -XEN_ESRCH);
    }

    /* A tick a nanosecond is more than Xen makes; a thousand shots at once are one. */
    check_is(HYPERVISOR_vcpu_op(VCPUOP_set_periodic_timer, 0, &periodic), -XEN_EINVAL);
    periodic.period_ns = 1UL << 63;
    check_is(HYPERVISOR_vcpu_op(VCPUOP_set_periodic_timer, 0, &periodic), -XEN_EINVAL);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_set_periodic_timer, 1000, &periodic), -XEN_ENOENT);
    once.flags = VCPU_SSHOTTMR_future, once.timeout_abs_ns = 1;
    check_is(HYPERVISOR_vcpu_op(VCPUOP_set_singleshot_timer, 0, &once), 0); /* 4.17 does not mind the flag */
    unsigned timer = bind_virq(VIRQ_TIMER);

    events_on();
    for (unsigned i = 0; i < 1000; i++) {
        once.flags = 0, once.timeout_abs_ns = i & 1 ? now() : ~0UL >> (i & 63);
        check_is(HYPERVISOR_vcpu_op(VCPUOP_set_singleshot_timer, 0, &once), 0);
        check_is(HYPERVISOR_set_timer_op(i % 3 ? now() : ~0UL), 0);
    }
    check_is(HYPERVISOR_set_timer_op(1), 0);
    wait_for_events(timer, 1);
    check_is(HYPERVISOR_vcpu_op(VCPUOP_stop_singleshot_timer, 0, 0), 0);
}
