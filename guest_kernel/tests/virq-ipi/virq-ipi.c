/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Virtual interrupts and interrupts between vCPUs are ports, too.
 */
#include "test.h"

const char test_name[] = "virq-ipi";

void test_main(void)
{
    struct evtchn_bind_virq virq = { .virq = VIRQ_TIMER, .vcpu = 0 };
    struct evtchn_bind_ipi ipi = { .vcpu = 0 };
    struct evtchn_status status = { .dom = DOMID_SELF };
    struct evtchn_send send;
    struct evtchn_bind_vcpu move;

    check_is(HYPERVISOR_vcpu_op(VCPUOP_stop_periodic_timer, 0, 0), 0);
    check_is(evtchn(EVTCHNOP_bind_virq, &virq), 0);
    status.port = virq.port;
    check_is(evtchn(EVTCHNOP_status, &status), 0);
    check_is(status.status, EVTCHNSTAT_virq);
    check_is(status.u.virq, VIRQ_TIMER);
    check_is(evtchn(EVTCHNOP_bind_virq, &virq), -XEN_EEXIST);
    virq.virq = 24;
    check_is(evtchn(EVTCHNOP_bind_virq, &virq), -XEN_EINVAL);
    virq.virq = VIRQ_DEBUG, virq.vcpu = 77;
    check_is(evtchn(EVTCHNOP_bind_virq, &virq), -XEN_ENOENT);

    /* Nobody may pretend to be the hypervisor. */
    send.port = status.port;
    check_is(evtchn(EVTCHNOP_send, &send), -XEN_EINVAL);

    check_is(evtchn(EVTCHNOP_bind_ipi, &ipi), 0);
    status.port = ipi.port;
    check_is(evtchn(EVTCHNOP_status, &status), 0);
    check_is(status.status, EVTCHNSTAT_ipi);
    event_enable(ipi.port);
    events_on();
    send.port = ipi.port;
    check_is(evtchn(EVTCHNOP_send, &send), 0);
    check_is(event_count[ipi.port], 1);

    /* An IPI belongs to its vCPU; a timer's virq too. */
    move.port = ipi.port, move.vcpu = 0;
    check_is(evtchn(EVTCHNOP_bind_vcpu, &move), -XEN_EINVAL);
    move.port = 0;
    check_is(evtchn(EVTCHNOP_bind_vcpu, &move), -XEN_EINVAL);
    ipi.vcpu = 77;
    check_is(evtchn(EVTCHNOP_bind_ipi, &ipi), -XEN_ENOENT);
}
