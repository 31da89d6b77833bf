/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Event channels: the interrupts of a paravirtual machine.
 *
 * A port's pending bit lies in shared_info; so do a mask bit for each, a word that says which words have pending
 * bits (evtchn_pending_sel), and, for the CPU as a whole, `evtchn_upcall_pending` and `evtchn_upcall_mask`, which
 * are to us what the INTR line and the interrupt flag are to bare hardware.
 */
#include <lib.h>
#include <trap.h>

#include "pv.h"

#define PORTS 4096

static event_handler handlers[PORTS];

void events_init(void)
{
    memset(shared_info->evtchn_mask, 0xff, sizeof(shared_info->evtchn_mask));
}

/* Clear each bit before acting on it: what comes in between sets it again and is seen, not lost. */
void interrupts_dispatch(struct trap_frame *frame)
{
    this_vcpu->evtchn_upcall_pending = 0;
    for (;;) {
        u64 words = __atomic_exchange_n(&this_vcpu->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);

        if (!words)
            break;
        for (; words; words &= words - 1) {
            unsigned word = __builtin_ctzl(words);
            u64 ports = shared_info->evtchn_pending[word] & ~shared_info->evtchn_mask[word];

            for (; ports; ports &= ports - 1) {
                unsigned port = word * 64 + __builtin_ctzl(ports);

                __atomic_fetch_and(&shared_info->evtchn_pending[word], ~(1UL << (port % 64)), __ATOMIC_SEQ_CST);
                if (handlers[port])
                    handlers[port](port);
            }
        }
    }
}

void event_attach(unsigned port, event_handler handler)
{
    struct evtchn_unmask op = { .port = port };

    ASSERT(port < PORTS);
    handlers[port] = handler;
    HYPERVISOR_event_channel_op(EVTCHNOP_unmask, &op);
}

int event_bind_virq(unsigned virq, event_handler handler)
{
    struct evtchn_bind_virq op = { .virq = virq, .vcpu = 0 };
    long error = HYPERVISOR_event_channel_op(EVTCHNOP_bind_virq, &op);

    if (error)
        return (int)error;
    event_attach(op.port, handler);
    return (int)op.port;
}

int event_alloc_unbound(unsigned remote, event_handler handler)
{
    struct evtchn_alloc_unbound op = { .dom = DOMID_SELF, .remote_dom = (domid_t)remote };
    long error = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &op);

    if (error)
        return (int)error;
    event_attach(op.port, handler);
    return (int)op.port;
}

int event_bind_interdomain(unsigned remote, unsigned remote_port, event_handler handler)
{
    struct evtchn_bind_interdomain op = { .remote_dom = (domid_t)remote, .remote_port = remote_port };
    long error = HYPERVISOR_event_channel_op(EVTCHNOP_bind_interdomain, &op);

    if (error)
        return (int)error;
    event_attach(op.local_port, handler);
    return (int)op.local_port;
}

void event_send(unsigned port)
{
    struct evtchn_send op = { .port = port };

    HYPERVISOR_event_channel_op(EVTCHNOP_send, &op);
}

void event_close(unsigned port)
{
    struct evtchn_close op = { .port = port };

    shared_info->evtchn_mask[port / 64] |= 1UL << (port % 64);
    handlers[port] = NULL;
    HYPERVISOR_event_channel_op(EVTCHNOP_close, &op);
}

/* Nothing tells a PV guest its own number directly; but the status of a port open to "myself" does. */
unsigned own_domid(void)
{
    static unsigned domid = DOMID_INVALID;

    if (domid == DOMID_INVALID) {
        struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
        struct evtchn_status status = { .dom = DOMID_SELF };
        struct evtchn_close close;

        if (HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &alloc))
            return domid;
        status.port = close.port = alloc.port;
        if (!HYPERVISOR_event_channel_op(EVTCHNOP_status, &status))
            domid = status.u.unbound.dom;
        HYPERVISOR_event_channel_op(EVTCHNOP_close, &close);
    }
    return domid;
}

bool event_status(unsigned port, char *text, size_t room)
{
    struct evtchn_status op = { .dom = DOMID_SELF, .port = port };

    if (HYPERVISOR_event_channel_op(EVTCHNOP_status, &op) || op.status == EVTCHNSTAT_closed)
        return false;
    switch (op.status) {
    case EVTCHNSTAT_unbound:
        format(text, room, "unbound, open to domain %u", op.u.unbound.dom);
        break;
    case EVTCHNSTAT_interdomain:
        format(text, room, "interdomain, domain %u port %u", op.u.interdomain.dom, op.u.interdomain.port);
        break;
    case EVTCHNSTAT_virq:
        format(text, room, "virq %u", op.u.virq);
        break;
    case EVTCHNSTAT_pirq:
        format(text, room, "pirq %u", op.u.pirq);
        break;
    case EVTCHNSTAT_ipi:
        format(text, room, "ipi, vcpu %u", op.vcpu);
        break;
    default:
        format(text, room, "status %u", op.status);
    }
    return true;
}
