/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An event channel with both ends in one domain: open a port to yourself, bind to it, and what is sent into one end
 * comes out of the other.
 */
#include "test.h"

const char test_name[] = "event-channels";

void test_main(void)
{
    struct evtchn_alloc_unbound open = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    struct evtchn_bind_interdomain bind = { .remote_dom = DOMID_SELF };
    struct evtchn_status status = { .dom = DOMID_SELF };
    struct evtchn_send send;
    struct evtchn_close close;
    unsigned a, b;

    check_is(evtchn(EVTCHNOP_alloc_unbound, &open), 0);
    a = open.port;
    status.port = a;
    check_is(evtchn(EVTCHNOP_status, &status), 0);
    check_is(status.status, EVTCHNSTAT_unbound);

    bind.remote_port = a;
    check_is(evtchn(EVTCHNOP_bind_interdomain, &bind), 0);
    b = bind.local_port;
    check(a != b && a && b);
    check_is(evtchn(EVTCHNOP_status, &status), 0);
    check_is(status.status, EVTCHNSTAT_interdomain);
    check_is(status.u.interdomain.port, b);
    check_is(status.u.interdomain.dom, own_domid());
    check_is(evtchn(EVTCHNOP_bind_interdomain, &bind), -XEN_EINVAL); /* it is taken */

    /* Binding rings both once: whoever came first may have missed something. */
    check(event_pending(b));
    event_clear(a);
    event_clear(b);
    event_enable(a);
    event_enable(b);
    events_on();
    unsigned seen_a = event_count[a], seen_b = event_count[b];

    send.port = a;
    check_is(evtchn(EVTCHNOP_send, &send), 0);
    check_is(event_count[b], seen_b + 1);
    check_is(event_count[a], seen_a);
    send.port = b;
    check_is(evtchn(EVTCHNOP_send, &send), 0);
    check_is(event_count[a], seen_a + 1);

    /* With upcalls masked it waits in its bit; several are one. */
    events_off();
    send.port = a;
    for (int i = 0; i < 3; i++)
        check_is(evtchn(EVTCHNOP_send, &send), 0);
    check(event_pending(b));
    check_is(event_count[b], seen_b + 1);
    check(shared_info->vcpu_info[0].evtchn_upcall_pending);
    events_on();
    check_is(event_count[b], seen_b + 2);
    check(!event_pending(b));

    /* One end closed: the other is open again, to whom it was. */
    close.port = b;
    check_is(evtchn(EVTCHNOP_close, &close), 0);
    check_is(evtchn(EVTCHNOP_status, &status), 0);
    check_is(status.status, EVTCHNSTAT_unbound);
    send.port = a;
    check_is(evtchn(EVTCHNOP_send, &send), 0); /* into nothing */
    close.port = a;
    check_is(evtchn(EVTCHNOP_close, &close), 0);
    check_is(evtchn(EVTCHNOP_close, &close), -XEN_EINVAL);
    check_is(evtchn(EVTCHNOP_send, &send), -XEN_EINVAL);
}
