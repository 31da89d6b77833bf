/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The domain beside the hostile ones: whatever they do, it goes on, and its memory is its own.
 *
 * It says where it is, in machine frames, and then answers each line that is typed: "for N" makes an offer to domain N
 * (a port, a page to be mapped, one to be read); any other line is echoed once all its memory was found as it was left.
 */
#include "grants.h"

const char test_name[] = "hostile-victim";

PAGE(secret);
PAGE(lent);
PAGE(shown);
static unsigned long gdt[512] PAGE_ALIGNED;

static unsigned console_port, offered;

static int read_line(char *line, unsigned room)
{
    struct xencons_interface *ring = va_of_pfn(pfn_of_mfn(start_info->console.domU.mfn));
    struct evtchn_send notify = { .port = console_port };
    unsigned n = 0;

    for (;;) {
        unsigned cons = ring->in_cons;

        while (cons == *(volatile XENCONS_RING_IDX *)&ring->in_prod)
            wait_for_events(console_port, event_count[console_port] + 1);
        char c = ring->in[MASK_XENCONS_IDX(cons, ring->in)];

        barrier();
        ring->in_cons = cons + 1;
        evtchn(EVTCHNOP_send, &notify);
        if (c == '\n' || c == '\r') {
            line[n] = 0;
            return (int)n;
        }
        if (n < room - 1)
            line[n++] = c;
    }
}

static void untouched(void)
{
    for (unsigned i = 0; i < PAGE_SIZE; i++) {
        check_is(secret[i], (unsigned char)(i * 7 + 1));
        check_is(shown[i], (unsigned char)(i * 5 + 2));
    }
    check_is(gdt[1], 0x00cff3000000ffffUL);
    for (unsigned long pfn = 0; pfn < start_info->nr_pages; pfn++)
        check_is(pfn_of_mfn(((unsigned long *)start_info->mfn_list)[pfn]), pfn);
    check_is(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of((void *)start_info->pt_base), 0), -XEN_EINVAL); /* pinned it is */
}

static void offer(unsigned domid)
{
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = (domid_t)domid };
    struct evtchn_close close = { .port = offered };

    if (offered)
        check_is(evtchn(EVTCHNOP_close, &close), 0);
    check_is(evtchn(EVTCHNOP_alloc_unbound, &alloc), 0);
    offered = alloc.port;
    for (unsigned ref = FIRST_REF; ref < FIRST_REF + 3; ref++)
        check_is(grants[ref].flags & (GTF_reading | GTF_writing), 0); /* whoever had them is gone */
    grant(FIRST_REF, domid, lent, GTF_permit_access);
    grant(FIRST_REF + 1, domid, shown, GTF_permit_access | GTF_readonly);
    grant(FIRST_REF + 2, 0x6fff, secret, GTF_permit_access); /* not for it */
}

void test_main(void)
{
    static char line[80];
    unsigned long frame = mfn_of(gdt);

    for (unsigned i = 0; i < PAGE_SIZE; i++)
        secret[i] = (unsigned char)(i * 7 + 1), shown[i] = (unsigned char)(i * 5 + 2);
    gdt[1] = 0x00cff3000000ffffUL;
    check_is(readonly(gdt), 0);
    check_is(HYPERVISOR_set_gdt(&frame, 512), 0);
    grants_init();
    console_port = start_info->console.domU.evtchn;
    event_enable(console_port);
    say("l4=%lx\nl1=%lx\nsecret=%lx\nlent=%lx\ngdt=%lx\nshared=%lx\n", mfn_of((void *)start_info->pt_base),
        mfn_of(pte_of(secret, 1)), mfn_of(secret), mfn_of(lent), mfn_of(gdt), start_info->shared_info >> 12);
    say("ready\n");
    for (;;) {
        read_line(line, sizeof(line));
        if (!memcmp(line, "for ", 4)) {
            unsigned domid = 0;

            for (const char *digit = line + 4; *digit; digit++)
                domid = domid * 10 + (unsigned)(*digit - '0');
            offer(domid);
            say("port=%x\n", offered);
        }
        untouched();
        say("%s: all is well\n", line);
    }
}
