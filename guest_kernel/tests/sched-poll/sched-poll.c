/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * SCHEDOP_poll waits for certain ports, masked or not, without taking an upcall; or until a time.
 */
#include "test.h"

const char test_name[] = "sched-poll";

static long poll(evtchn_port_t *ports, unsigned count, unsigned long timeout)
{
    struct sched_poll op = { .nr_ports = count, .timeout = timeout };

    set_handle(op.ports, ports);
    return HYPERVISOR_sched_op(SCHEDOP_poll, &op);
}

void test_main(void)
{
    struct evtchn_bind_virq virq = { .virq = VIRQ_TIMER, .vcpu = 0 };
    struct evtchn_alloc_unbound open = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    evtchn_port_t ports[2], bad = 4000;
    unsigned long start;

    check_is(HYPERVISOR_vcpu_op(VCPUOP_stop_periodic_timer, 0, 0), 0);
    check_is(evtchn(EVTCHNOP_bind_virq, &virq), 0); /* stays masked */
    check_is(evtchn(EVTCHNOP_alloc_unbound, &open), 0);
    ports[0] = open.port, ports[1] = virq.port;
    events_off();

    /* Nothing comes: the time-out ends it. */
    start = now();
    check_is(poll(ports, 1, start + 20000000), 0);
    check(now() - start >= 20000000);

    /* A masked port wakes a poller. */
    start = now();
    check_is(HYPERVISOR_set_timer_op(start + 10000000), 0);
    check_is(poll(ports, 2, start + 5000000000), 0);
    check(event_pending(virq.port));
    check(now() - start >= 10000000 && now() - start < 5000000000);

    /* Pending already: at once. */
    start = now();
    check_is(poll(ports, 2, start + 5000000000), 0);
    check(now() - start < 5000000000);
    check_is(event_count[virq.port], 0); /* no upcall all the while */

    check_is(poll(&bad, 1, 1), -XEN_EINVAL);
    check_is(poll(ports, 129, 1), -XEN_EINVAL);
    check_is(poll((evtchn_port_t *)8, 1, 1), -XEN_EFAULT);
}
