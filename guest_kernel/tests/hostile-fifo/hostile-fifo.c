/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Queues of events where there must not be any: in frames of somebody else, in our own page tables, in pages given away
 * meanwhile; and words that say anything, in pages that are everything at once.
 */
#include "fifo.h"
#include "grants.h"

const char test_name[] = "hostile-fifo";

#define LENT FIRST_REF /* what the victim grants us */
static unsigned long pool[8][512] PAGE_ALIGNED;

static int control(unsigned long mfn, unsigned offset)
{
    struct evtchn_init_control op = { .control_gfn = mfn, .offset = offset };

    return evtchn(EVTCHNOP_init_control, &op);
}

static int expand(unsigned long mfn)
{
    struct evtchn_expand_array op = { .array_gfn = mfn };

    return evtchn(EVTCHNOP_expand_array, &op);
}

static int ring(unsigned port)
{
    struct evtchn_send op = { .port = port };

    return evtchn(EVTCHNOP_send, &op);
}

static int ipi(unsigned *port)
{
    struct evtchn_bind_ipi op = { .vcpu = 0 };
    int result = evtchn(EVTCHNOP_bind_ipi, &op);

    *port = op.port;
    return result;
}

static void refused(int (*take)(unsigned long mfn))
{
    static const char *facts[] = { "l4", "l1", "secret", "lent", "gdt", "shared", "xen", "m2p" };

    for (unsigned i = 0; i < ARRAY_SIZE(facts); i++)
        if (fact(facts[i]))
            check_is(take(fact(facts[i])), -XEN_EINVAL);
    check_is(take(0), -XEN_EINVAL);
    check_is(take(1UL << 39), -XEN_EINVAL);
    check_is(take(~0UL), -XEN_EINVAL);
    for (int level = 1; level <= 4; level++) /* our own tables, and a page that was made one */
        check_is(take(pte_maddr(pool, level) >> 12), -XEN_EINVAL);
    check_is(take(mfn_of(pool[7])), -XEN_EINVAL);
}

static int control_at_0(unsigned long mfn)
{
    return control(mfn, 0);
}

static long memory_op(unsigned cmd, unsigned long frame)
{
    struct xen_memory_reservation op = { .nr_extents = 1, .domid = DOMID_SELF };

    set_handle(op.extent_start, &frame);
    return HYPERVISOR_memory_op(cmd, &op);
}

/* A page of words is given back, or away: it is in use, so it goes nowhere before the ports are reset. */
static void given_away(void)
{
    unsigned long mfn = mfn_of(pool[1]);
    struct gnttab_transfer transfer = { .mfn = mfn, .domid = (domid_t)own_domid(), .ref = FIRST_REF };
    unsigned port;

    fifo_forget();
    check_is(fifo_control(0), 0);
    check_is(expand(mfn), 0);
    check_is(remap(pool[1], 0), 0);
    check_is(grant_op(GNTTABOP_transfer, &transfer), 0);
    check_is(transfer.status, GNTST_bad_page);
    check_is(memory_op(XENMEM_decrease_reservation, mfn), 1);
    check_is(memory_op(XENMEM_decrease_reservation, mfn), 1); /* not ours to give any more, which it does not say */
    check_is(ipi(&port), 0);
    for (unsigned i = 0; i < 3; i++)
        check_is(ring(port), 0);
    check_is(remap(pool[1], PTE(mfn, PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)), 0); /* as long as it is there */
    check_is(((unsigned *)pool[1])[port], 1U << EVTCHN_FIFO_PENDING | 1U << EVTCHN_FIFO_LINKED);
    check_is(remap(pool[1], 0), 0);
    check_is(events_reset(), 0);
    check(remap(pool[1], PTE(mfn, PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D | PTE_NX)) < 0);
}

/*
 * Every word says LINKED: no port that was there before is to be had, as long as that is so. (The first one of those that
 * the hypervisor makes room for then is had without a look at its word.)
 */
static void all_linked(void)
{
    unsigned port, first, known;

    fifo_init();
    fifo_on = 0;
    check_is(ipi(&first), 0);
    check(first < 60);
    for (known = 1; known <= FIFO_WORDS; known++) {
        struct evtchn_status status = { .dom = DOMID_SELF, .port = known };

        if (evtchn(EVTCHNOP_status, &status) == -XEN_EINVAL)
            break;
    }
    for (unsigned i = 0; i < FIFO_WORDS; i++)
        fifo_words[i] = ~0U;
    check_is(ipi(&port), 0);
    check_is(port, known);
    fifo_words[first + 3] = 0;
    check_is(ipi(&port), 0);
    check_is(port, first + 3);
    check_is(ring(first), 0);
    check_is(ring(port), 0);
    check_is(events_reset(), 0);
}

/* One page is control block, words and shared_info's neighbour at once; then shared_info itself is all of it. */
static void one_page(unsigned long mfn, volatile unsigned *words, unsigned offset)
{
    unsigned port[6];

    check_is(control(mfn, offset), 0);
    for (unsigned i = 0; i < 3; i++)
        check_is(expand(mfn), 0);
    for (unsigned i = 0; i < 6; i++)
        check_is(ipi(&port[i]), 0);
    for (unsigned round = 0; round < 400; round++) {
        words[offset / 4 + round % 18] = round * 0x9e3779b1;
        words[port[round % 6]] = round & 1 ? 0 : ~round;
        check_is(ring(port[round * 7 % 6]), 0);
        struct evtchn_unmask unmask = { .port = port[round * 5 % 6] };

        check_is(evtchn(EVTCHNOP_unmask, &unmask), 0);
    }
    check_is(events_reset(), 0);
}

void test_main(void)
{
    unsigned char kept[PAGE_SIZE];

    events_off();
    grants_init();
    check_is(readonly(pool[7]), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(pool[7]), 0), 0);
    refused(control_at_0);
    check_is(expand(mfn_of(pool[0])), -XEN_EOPNOTSUPP);
    check_is(control(mfn_of(pool[0]), 4096 - 72), 0);
    refused(expand);
    if (fact("domid")) { /* a grant of somebody else's is not ours either, though it is mapped */
        unsigned handle;

        check_is(grant_map(LENT, (unsigned)fact("domid"), GNTMAP_host_map, pool[2], &handle), 0);
        check_is(expand(PTE_MFN(*pte_of(pool[2], 1))), -XEN_EINVAL);
        check_is(grant_unmap(pool[2], handle), 0);
    }
    check_is(events_reset(), 0);

    given_away();
    all_linked();
    one_page(mfn_of(pool[3]), (volatile unsigned *)pool[3], 0);
    one_page(mfn_of(pool[3]), (volatile unsigned *)pool[3], 72);
    memcpy(kept, shared_info, sizeof(kept));
    one_page(start_info->shared_info >> 12, (volatile unsigned *)shared_info, 2048);
    memcpy(shared_info, kept, 2048); /* the vCPUs' halves; the pending bits stay as they came to be */
    memset(shared_info->evtchn_mask, 0xff, sizeof(shared_info->evtchn_mask));
}
