/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Ports that are not ours, not there, or not for that; and the shared page's own bits, of which a guest may write any.
 */
#include "test.h"

const char test_name[] = "hostile-events";

static int send_to(unsigned port)
{
    struct evtchn_send op = { .port = port };

    return evtchn(EVTCHNOP_send, &op);
}

static int close_port(unsigned port)
{
    struct evtchn_close op = { .port = port };

    return evtchn(EVTCHNOP_close, &op);
}

static int bind_to(unsigned domid, unsigned port)
{
    struct evtchn_bind_interdomain op = { .remote_dom = (domid_t)domid, .remote_port = port };

    return evtchn(EVTCHNOP_bind_interdomain, &op);
}

void test_main(void)
{
    static const unsigned nowhere[] = { 1000, 4095, 4096, 131071, 131072, 0x7fffffff, 0x80000000, ~0U };
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = 0x6fff };
    unsigned victim = (unsigned)fact("domid");
    unsigned long kept[64];

    for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
        struct evtchn_status status = { .dom = DOMID_SELF, .port = nowhere[i] };
        struct evtchn_unmask unmask = { .port = nowhere[i] };
        struct evtchn_bind_vcpu bind = { .port = nowhere[i], .vcpu = 0 };

        check_is(send_to(nowhere[i]), -XEN_EINVAL);
        check_is(close_port(nowhere[i]), -XEN_EINVAL);
        check_is(bind_to(DOMID_SELF, nowhere[i]), -XEN_EINVAL);
        check_is(evtchn(EVTCHNOP_bind_vcpu, &bind), -XEN_EINVAL);
        int known = evtchn(EVTCHNOP_status, &status); /* what has a place in the table, though it is closed, has one */

        check(known == -XEN_EINVAL || (known == 0 && status.status == EVTCHNSTAT_closed));
        known = evtchn(EVTCHNOP_unmask, &unmask);
        check(known == -XEN_EINVAL || (known == 0 && nowhere[i] < 4096));
    }
    check_is(close_port(0), -XEN_EINVAL);
    check_is(send_to(0), -XEN_EINVAL);

    /* One that waits for somebody else: not for us, and nobody hears it. */
    check_is(evtchn(EVTCHNOP_alloc_unbound, &alloc), 0);
    check_is(bind_to(DOMID_SELF, alloc.port), -XEN_EINVAL);
    check_is(send_to(alloc.port), 0);
    check_is(close_port(alloc.port), 0);
    check_is(close_port(alloc.port), -XEN_EINVAL);
    check_is(bind_to(0x6fff, 1), -XEN_ESRCH);
    alloc.dom = 0x6fff;
    check_is(evtchn(EVTCHNOP_alloc_unbound, &alloc), -XEN_ESRCH);

    /* VIRQs and vCPUs there are none of. */
    struct evtchn_bind_virq virq = { .virq = 24 };

    check_is(evtchn(EVTCHNOP_bind_virq, &virq), -XEN_EINVAL);
    virq.virq = ~0U;
    check_is(evtchn(EVTCHNOP_bind_virq, &virq), -XEN_EINVAL);
    virq.virq = VIRQ_TIMER, virq.vcpu = 1000;
    check_is(evtchn(EVTCHNOP_bind_virq, &virq), -XEN_ENOENT);
    virq.virq = VIRQ_CONSOLE, virq.vcpu = 1;
    check(evtchn(EVTCHNOP_bind_virq, &virq) < 0); /* not ours, and not there */
    struct evtchn_bind_ipi ipi = { .vcpu = 1000 };

    check_is(evtchn(EVTCHNOP_bind_ipi, &ipi), -XEN_ENOENT);
    ipi.vcpu = 0;
    check_is(evtchn(EVTCHNOP_bind_ipi, &ipi), 0);
    struct evtchn_bind_vcpu move = { .port = ipi.port };

    check_is(evtchn(EVTCHNOP_bind_vcpu, &move), -XEN_EINVAL); /* an IPI stays where it is */
    check_is(evtchn(99, &move), -XEN_ENOSYS);
    check_is(evtchn(-1, &move), -XEN_ENOSYS);

    if (victim) {
        struct evtchn_status status = { .dom = (domid_t)victim, .port = 1 };
        struct evtchn_reset reset = { .dom = (domid_t)victim };
        unsigned port = (unsigned)fact("port");

        /* Of the victim's ports one waits for us. Its others are bound, or not there. */
        for (unsigned other = 0; other < 64; other++)
            if (other != port)
                check_is(bind_to(victim, other), -XEN_EINVAL);
        check_is(evtchn(EVTCHNOP_status, &status), -XEN_EPERM);
        check_is(evtchn(EVTCHNOP_reset, &reset), -XEN_EPERM);
        alloc.dom = (domid_t)victim;
        check_is(evtchn(EVTCHNOP_alloc_unbound, &alloc), -XEN_EPERM);
        check_is(bind_to(victim, port), 0);
        check_is(bind_to(victim, port), -XEN_EINVAL); /* it is taken now, by ourselves */
    }

    /* Every bit in the shared page set, over and over: pending, for ports there are none of, and the selectors. */
    memcpy(kept, shared_info->evtchn_mask, sizeof(kept));
    events_on();
    for (unsigned round = 0; round < 3; round++) {
        memset(shared_info->evtchn_pending, 0xff, sizeof(shared_info->evtchn_pending));
        memset(shared_info->evtchn_mask, round & 1 ? 0 : 0xff, sizeof(shared_info->evtchn_mask));
        shared_info->vcpu_info[0].evtchn_pending_sel = ~0UL;
        shared_info->vcpu_info[0].evtchn_upcall_pending = 0xff;
        HYPERVISOR_xen_version(XENVER_version, 0);
        for (unsigned vcpu = 1; vcpu < 32; vcpu++)
            memset(&shared_info->vcpu_info[vcpu], 0xff, sizeof(shared_info->vcpu_info[vcpu]));
        check_is(send_to(ipi.port), 0);
    }
    check(event_count[4095] > 0); /* we were told what we said ourselves */
    events_off();
    memset(shared_info->evtchn_pending, 0, sizeof(shared_info->evtchn_pending));
    memcpy(shared_info->evtchn_mask, kept, sizeof(kept));
    check_is(close_port(ipi.port), 0);
}
