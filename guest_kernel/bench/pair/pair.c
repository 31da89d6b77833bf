/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Two domains: one measures ("partner=0", the default), the other grants it frames, takes its events and
 * answers those on the last port, the bell.
 */
#include "bench.h"

const char test_name[] = "bench-pair";

#define PORTS 64
#define BELL (PORTS - 1)
#define GRANTS 32
#define FIRST_REF 8

static unsigned peer, first_port;
static unsigned ports[PORTS];

static void block(void)
{
    HYPERVISOR_sched_op(SCHEDOP_block, 0);
    events_off();
}

/* ---- the partner --------------------------------------------------------------------------------- */

static unsigned char granted[GRANTS][PAGE_SIZE] PAGE_ALIGNED;
PAGE(grant_window);

static void grant_frames(void)
{
    static unsigned long frame;
    struct gnttab_setup_table op = { .dom = DOMID_SELF, .nr_frames = 1 };
    struct grant_entry_v1 *table = (struct grant_entry_v1 *)grant_window;

    set_handle(op.frame_list, &frame);
    check_is(HYPERVISOR_grant_table_op(GNTTABOP_setup_table, &op, 1), 0);
    check_is(op.status, GNTST_okay);
    check_is(remap(grant_window, PTE(frame, PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0);
    for (unsigned n = 0; n < GRANTS; n++) {
        table[FIRST_REF + n].domid = peer;
        table[FIRST_REF + n].frame = mfn_of(granted[n]);
        barrier(); /* the flags make it a grant */
        table[FIRST_REF + n].flags = GTF_permit_access;
    }
}

static void answer(unsigned port)
{
    struct evtchn_send op = { .port = port };

    if (port == ports[BELL])
        HYPERVISOR_event_channel_op(EVTCHNOP_send, &op);
}

static void be_partner(void)
{
    grant_frames();
    event_hook = answer;
    for (unsigned n = 0; n < PORTS; n++) {
        struct evtchn_alloc_unbound op = { .dom = DOMID_SELF, .remote_dom = peer };

        check_is(HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &op), 0);
        check_is(op.port, first_port + n);
        ports[n] = op.port;
        event_enable(op.port);
    }
    for (;;)
        block();
}

/* ---- the one that measures ------------------------------------------------------------------------ */

static void bind(unsigned n)
{
    struct evtchn_bind_interdomain op = { .remote_dom = peer, .remote_port = first_port + n };

    while (HYPERVISOR_event_channel_op(EVTCHNOP_bind_interdomain, &op)) /* the partner is not there yet */
        HYPERVISOR_sched_op(SCHEDOP_yield, 0);
    ports[n] = op.local_port;
    event_clear(op.local_port); /* a new binding begins pending */
}

static void send(unsigned n)
{
    struct evtchn_send op = { .port = ports[n] };

    HYPERVISOR_event_channel_op(EVTCHNOP_send, &op);
}

/* There and back: the partner wakes, takes its upcall, answers and sleeps; we sleep meanwhile. */
static void ring_the_bell(void)
{
    unsigned before = event_count[ports[BELL]];

    send(BELL);
    while (event_count[ports[BELL]] == before)
        block();
}

static void events(unsigned long scale)
{
    unsigned long rounds = scale / 10 + 1, count = rounds * BELL;

    event_enable(ports[BELL]);
    /* Each send sets a bit that was clear and of which the partner is told; then the partner clears them all. */
    for (unsigned long sample = argument("samples", 7); sample; sample--) {
        unsigned long took = 0;

        say("begin=event_send\n");
        for (unsigned long i = 0; i < rounds; i++) {
            unsigned long began = rdtsc();

            for (unsigned n = 0; n < BELL; n++)
                send(n);
            took += rdtsc() - began;
            ring_the_bell();
        }
        report("event_send", took, count);
    }
    count = scale;
    measure("event_round_trip", count, for (unsigned long i = 0; i < count; i++) ring_the_bell());
}

static void grants(unsigned long scale)
{
    static struct gnttab_map_grant_ref map[GRANTS];
    static struct gnttab_unmap_grant_ref unmap[GRANTS];
    unsigned long bad = 0;

    for (unsigned n = 0; n < GRANTS; n++) {
        map[n] = (struct gnttab_map_grant_ref){ .host_addr = USER_BASE + n * PAGE_SIZE, .flags = GNTMAP_host_map,
                                                .ref = FIRST_REF + n, .dom = peer };
        unmap[n].host_addr = map[n].host_addr;
    }
    for (unsigned batch = 1; batch <= GRANTS; batch *= GRANTS) {
        unsigned long rounds = (batch == 1 ? 2 * scale : scale / 8 + 1);

        measure(batch == 1 ? "grant_map_unmap" : "grant_map_unmap_batched", rounds * batch,
                for (unsigned long i = 0; i < rounds; i++) {
                    bad |= (unsigned long)HYPERVISOR_grant_table_op(GNTTABOP_map_grant_ref, map, batch);
                    for (unsigned n = 0; n < batch; n++)
                        unmap[n].handle = map[n].handle;
                    bad |= (unsigned long)HYPERVISOR_grant_table_op(GNTTABOP_unmap_grant_ref, unmap, batch);
                });
        for (unsigned n = 0; n < batch; n++)
            bad |= (unsigned long)(map[n].status | unmap[n].status);
    }
    check(!bad);
}

static void copies(unsigned long scale)
{
    static struct gnttab_copy copy[GRANTS];
    static unsigned char buffer[GRANTS][PAGE_SIZE] PAGE_ALIGNED;
    unsigned long bad = 0;

    for (unsigned n = 0; n < GRANTS; n++) {
        copy[n].source.u.ref = FIRST_REF + n;
        copy[n].source.domid = peer;
        copy[n].dest.u.gmfn = mfn_of(buffer[n]);
        copy[n].dest.domid = DOMID_SELF;
        copy[n].len = PAGE_SIZE;
        copy[n].flags = GNTCOPY_source_gref;
    }
    for (unsigned batch = 1; batch <= GRANTS; batch *= GRANTS) {
        unsigned long rounds = (batch == 1 ? 2 * scale : scale / 8 + 1);

        measure(batch == 1 ? "grant_copy" : "grant_copy_batched", rounds * batch,
                for (unsigned long i = 0; i < rounds; i++)
                    bad |= (unsigned long)HYPERVISOR_grant_table_op(GNTTABOP_copy, copy, batch));
        for (unsigned n = 0; n < batch; n++)
            bad |= (unsigned long)copy[n].status;
    }
    check(!bad);
}

void test_main(void)
{
    unsigned long scale = argument("scale", 100);

    peer = argument("peer", 0);
    first_port = argument("port", 3);
    if (argument("partner", 0))
        be_partner();
    use_space(new_space());
    for (unsigned n = 0; n < PORTS; n++)
        bind(n);
    events(scale);
    grants(scale);
    copies(scale);
}
