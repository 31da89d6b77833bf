/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What EVENT_CHANNEL_OP refuses, and with which errno; and EVTCHNOP_reset, which closes everything.
 */
#include "test.h"

const char test_name[] = "event-errors";

void test_main(void)
{
    struct evtchn_alloc_unbound open = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    struct evtchn_bind_interdomain bind = { .remote_dom = DOMID_SELF, .remote_port = 4000 };
    struct evtchn_status status = { .dom = DOMID_SELF, .port = 99999 };
    struct evtchn_bind_pirq pirq = { .pirq = 5000 };
    struct evtchn_reset reset = { .dom = DOMID_SELF };
    struct evtchn_send send = { .port = 0 };

    check_is(evtchn(77, &open), -XEN_ENOSYS);
    check_is(evtchn(EVTCHNOP_alloc_unbound, (void *)8), -XEN_EFAULT);
    check_is(evtchn(EVTCHNOP_bind_interdomain, &bind), -XEN_EINVAL); /* nothing there */
    bind.remote_dom = 0x6fff;
    check_is(evtchn(EVTCHNOP_bind_interdomain, &bind), -XEN_ESRCH); /* nobody there */
    open.dom = 0x6fff;
    check_is(evtchn(EVTCHNOP_alloc_unbound, &open), -XEN_ESRCH);
    check_is(evtchn(EVTCHNOP_status, &status), -XEN_EINVAL);
    check_is(evtchn(EVTCHNOP_bind_pirq, &pirq), -XEN_EINVAL);
    check_is(evtchn(EVTCHNOP_send, &send), -XEN_EINVAL); /* port 0 is none */
    status.port = 0;
    check_is(evtchn(EVTCHNOP_status, &status), 0);
    check_is(status.status, EVTCHNSTAT_closed);

    open.dom = DOMID_SELF;
    check_is(evtchn(EVTCHNOP_alloc_unbound, &open), 0);
    status.port = open.port;
    check_is(evtchn(EVTCHNOP_status, &status), 0);
    check_is(status.status, EVTCHNSTAT_unbound);

    /* reset would close the console's channel as well; so say all there is to say but the verdict before. */
    if (start_info->flags & SIF_INITDOMAIN) {
        check_is(evtchn(EVTCHNOP_reset, &reset), 0);
        check_is(evtchn(EVTCHNOP_status, &status), 0);
        check_is(status.status, EVTCHNSTAT_closed);
    }
    reset.dom = 0x6fff;
    check_is(evtchn(EVTCHNOP_reset, &reset), -XEN_ESRCH);
}
