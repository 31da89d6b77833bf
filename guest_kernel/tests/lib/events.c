/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Event channels, received: two levels of bits, and a mask that is ours to keep.
 */
#include "test.h"

unsigned event_count[4096];
void (*event_hook)(unsigned port);

extern char event_callback[], failsafe_entry[];

#define vcpu0 (&shared_info->vcpu_info[0])

void events_init(void)
{
    struct callback_register event = { .type = CALLBACKTYPE_event,
                                       .address = (unsigned long)event_callback };

    memset(shared_info->evtchn_mask, 0xff, sizeof(shared_info->evtchn_mask));
    /* What the backends sent while the domain was built is not what a test is about. */
    vcpu0->evtchn_pending_sel = 0;
    vcpu0->evtchn_upcall_pending = 0;
    check_is(HYPERVISOR_callback_op(CALLBACKOP_register, &event), 0);
}

/* Called with the upcall mask set (Xen set it on delivery); a test may have one of its own (fifo.h). */
void event_upcall(void) __attribute__((weak, alias("bits_upcall")));

void bits_upcall(void)
{
    vcpu0->evtchn_upcall_pending = 0; /* before looking, or a set in between is lost */

    for (;;) {
        unsigned long words = __atomic_exchange_n(&vcpu0->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);

        if (!words)
            return;
        while (words) {
            unsigned word = __builtin_ctzl(words);
            unsigned long ports = shared_info->evtchn_pending[word] & ~shared_info->evtchn_mask[word];

            words &= words - 1;
            while (ports) {
                unsigned port = word * 64 + __builtin_ctzl(ports);

                ports &= ports - 1;
                event_clear(port);
                event_count[port]++;
                if (event_hook)
                    event_hook(port);
            }
        }
    }
}

void event_enable(unsigned port)
{
    struct evtchn_unmask op = { .port = port };

    check_is(HYPERVISOR_event_channel_op(EVTCHNOP_unmask, &op), 0);
}

void events_on(void)
{
    barrier();
    vcpu0->evtchn_upcall_mask = 0;
    barrier();
    /* What became pending while masked is not delivered by itself: any hypercall makes Xen look. */
    if (*(volatile unsigned char *)&vcpu0->evtchn_upcall_pending)
        HYPERVISOR_xen_version(XENVER_version, 0);
}

void events_off(void)
{
    vcpu0->evtchn_upcall_mask = 1;
    barrier();
}

int event_pending(unsigned port)
{
    return (((volatile unsigned long *)shared_info->evtchn_pending)[port / 64] >> (port % 64)) & 1;
}

void event_clear(unsigned port)
{
    __atomic_fetch_and(&shared_info->evtchn_pending[port / 64], ~(1UL << (port % 64)), __ATOMIC_SEQ_CST);
}

int evtchn(unsigned cmd, void *op)
{
    return (int)HYPERVISOR_event_channel_op(cmd, op);
}

unsigned bind_virq(unsigned virq)
{
    struct evtchn_bind_virq op = { .virq = virq, .vcpu = 0 };

    check_is(evtchn(EVTCHNOP_bind_virq, &op), 0);
    event_enable(op.port);
    return op.port;
}

/* The status of a port that is open to "myself" tells a guest its number, which nothing else does. */
unsigned own_domid(void)
{
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    struct evtchn_status status = { .dom = DOMID_SELF };
    struct evtchn_close close;

    check_is(evtchn(EVTCHNOP_alloc_unbound, &alloc), 0);
    status.port = close.port = alloc.port;
    check_is(evtchn(EVTCHNOP_status, &status), 0);
    check_is(evtchn(EVTCHNOP_close, &close), 0);
    return status.u.unbound.dom;
}

void wait_for_events(unsigned port, unsigned count)
{
    events_off();
    while (*(volatile unsigned *)&event_count[port] < count) {
        HYPERVISOR_sched_op(SCHEDOP_block, 0); /* takes the mask off; the upcall comes before we go on */
        events_off();
    }
}
