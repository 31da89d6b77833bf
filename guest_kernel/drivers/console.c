/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The console ring: one page shared with domain 0, two byte rings in it, and an event channel to say "look".
 * (A domain 0 has none; it speaks through Xen's own console by hypercall.)
 */
#include <lib.h>
#include <tty.h>

#include "../pv/pv.h"

static struct xencons_interface *ring(void)
{
    return virt(pseudo_frame(start_info->console.domU.mfn) << PAGE_SHIFT);
}

static u32 load(volatile u32 *index)
{
    return *index;
}

static void notify(void)
{
    struct evtchn_send op = { .port = start_info->console.domU.evtchn };

    HYPERVISOR_event_channel_op(EVTCHNOP_send, &op);
}

/* As much as fits; the rest when the other side has made room and sent an event. */
static size_t put(const char *bytes, size_t n)
{
    struct xencons_interface *r;
    u32 prod;
    size_t done = 0;

    if (is_dom0()) {
        HYPERVISOR_console_io(CONSOLEIO_write, n, (char *)bytes);
        return n;
    }
    r = ring();
    prod = r->out_prod;
    while (done < n && prod - load(&r->out_cons) < sizeof(r->out))
        r->out[MASK_XENCONS_IDX(prod++, r->out)] = bytes[done++];
    barrier(); /* first the bytes, then their number: x86 keeps that order, the compiler must too */
    r->out_prod = prod;
    if (done)
        notify();
    return done;
}

static void take_ring_input(void)
{
    struct xencons_interface *r = ring();
    u32 cons = r->in_cons, before = cons;

    while (cons != load(&r->in_prod) && tty_input(r->in[MASK_XENCONS_IDX(cons, r->in)]))
        cons++;
    barrier();
    r->in_cons = cons;
    if (cons != before) /* there is room for more */
        notify();
}

static char held[64]; /* dom0: what Xen gave and the tty did not take yet */
static size_t held_from, held_to;

static void take_xen_input(void)
{
    for (;;) {
        while (held_from < held_to)
            if (!tty_input(held[held_from++])) {
                held_from--;
                return;
            }
        long n = HYPERVISOR_console_io(CONSOLEIO_read, sizeof(held), held);

        if (n <= 0)
            return;
        held_from = 0;
        held_to = n;
    }
}

static void refill(void)
{
    if (is_dom0())
        take_xen_input();
    else
        take_ring_input();
}

static void console_event(unsigned port)
{
    refill();
    tty_output_ready();
}

/* For the kernel's own words: it cannot sleep, so it yields until there is room. */
void console_write(const char *text, size_t n)
{
    while (n) {
        size_t done = put(text, n);

        text += done;
        n -= done;
        if (n)
            HYPERVISOR_sched_op(SCHEDOP_yield, NULL);
    }
}

static const struct wire wire = { .put = put, .refill = refill };

void console_init(void)
{
    tty_attach(&wire);
    if (is_dom0())
        event_bind_virq(VIRQ_CONSOLE, console_event);
    else
        event_attach(start_info->console.domU.evtchn, console_event);
    refill(); /* what was typed before we listened */
}
