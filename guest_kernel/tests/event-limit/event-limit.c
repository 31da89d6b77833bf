/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How many ports a domain may have that its file says nothing about: up to number 1023, be they bits or on queues.
 */
#include "fifo.h"

const char test_name[] = "event-limit";

static unsigned last;

/* Bind until there is no more. */
static unsigned fill(void)
{
    struct evtchn_bind_ipi op = { .vcpu = 0 };
    unsigned count = 0;
    int result;

    while (!(result = evtchn(EVTCHNOP_bind_ipi, &op)))
        last = op.port, count++;
    check_is(result, -XEN_ENOSPC);
    return count;
}

void test_main(void)
{
    struct evtchn_close close = { .port = 500 };
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    struct evtchn_alloc_unbound foreign = { .dom = 0, .remote_dom = DOMID_SELF };

    events_off();
    say("ports=%u\n", fill());
    check_is(last, 1023);
    check_is(evtchn(EVTCHNOP_alloc_unbound, &alloc), -XEN_ENOSPC);
    check_is(evtchn(EVTCHNOP_alloc_unbound, &foreign), -XEN_EPERM);
    check_is(evtchn(EVTCHNOP_close, &close), 0);
    check_is(fill(), 1);
    check_is(last, 500);

    /* Changed over with all of them open. Of two pages of words, the second is for ports it cannot have. */
    fifo_init();
    fifo_on = 0;
    check_is(fifo_expand(fifo_words + FIFO_WORDS), 0);
    check_is(fill(), 0);
    check_is(evtchn(EVTCHNOP_close, &close), 0);
    check_is(fill(), 1);
    check_is(last, 500);
    check_is(events_reset(), 0);
    say("ports=%u\n", fill());
    check_is(last, 1023);
}
