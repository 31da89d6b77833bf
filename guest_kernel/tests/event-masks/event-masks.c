/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each port has a mask bit of its own: masked, an event leaves its pending bit and makes no upcall, and no selector bit
 * either; EVTCHNOP_unmask makes up for what was missed.
 */
#include "test.h"

const char test_name[] = "event-masks";

void test_main(void)
{
    struct evtchn_bind_ipi ipi = { .vcpu = 0 };
    struct evtchn_send send;
    struct evtchn_unmask unmask;
    volatile struct vcpu_info *vcpu = &shared_info->vcpu_info[0];

    check_is(evtchn(EVTCHNOP_bind_ipi, &ipi), 0);
    send.port = unmask.port = ipi.port;
    events_on();

    /* Masked (as every port is at the start). */
    check_is(evtchn(EVTCHNOP_send, &send), 0);
    check(event_pending(ipi.port));
    check_is(event_count[ipi.port], 0);
    check_is(vcpu->evtchn_upcall_pending, 0);
    check_is(vcpu->evtchn_pending_sel, 0);

    check_is(evtchn(EVTCHNOP_unmask, &unmask), 0);
    check_is(event_count[ipi.port], 1);
    check(!event_pending(ipi.port));

    /* Unmasking what is not pending does nothing. */
    check_is(evtchn(EVTCHNOP_unmask, &unmask), 0);
    check_is(event_count[ipi.port], 1);

    /* Two levels: the selector names the word, the word the port. */
    events_off();
    check_is(evtchn(EVTCHNOP_send, &send), 0);
    check_is(vcpu->evtchn_pending_sel, 1UL << (ipi.port / 64));
    check_is(vcpu->evtchn_upcall_pending, 1);

    /* Pending already: the second send finds the bit set and does not touch the upper level again. */
    vcpu->evtchn_pending_sel = 0;
    vcpu->evtchn_upcall_pending = 0;
    check_is(evtchn(EVTCHNOP_send, &send), 0);
    check_is(vcpu->evtchn_upcall_pending, 0);
    event_clear(ipi.port);

    unmask.port = 4095;
    check_is(evtchn(EVTCHNOP_unmask, &unmask), -XEN_EINVAL);
}
