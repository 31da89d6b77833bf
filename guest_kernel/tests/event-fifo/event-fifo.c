/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Event channels as queues in pages of our own: the change from bits to words, the order events come in, what stays on
 * a queue and what moves, and the way back.
 *
 * needs: vcpus=2
 */
#include "fifo.h"

const char test_name[] = "event-fifo";

#define PENDING FIFO_PENDING
#define MASKED FIFO_MASKED
#define LINKED FIFO_LINKED
#define BUSY FIFO_BUSY

static unsigned taken[64], count;

static void note(unsigned port)
{
    taken[count++ & 63] = port;
}

/* Whether these events came since the last time, in this order; 0 ends them. */
static int came(unsigned a, unsigned b, unsigned c, unsigned d)
{
    unsigned want[4] = { a, b, c, d }, wanted = 0;

    while (wanted < 4 && want[wanted])
        wanted++;
    unsigned right = count == wanted;

    for (unsigned i = 0; i < wanted; i++)
        right &= taken[i] == want[i];
    if (!right)
        say("# %u events came: %u %u %u %u\n", count, taken[0], taken[1], taken[2], taken[3]);
    count = 0;
    return (int)right;
}

static int ring(unsigned port)
{
    struct evtchn_send op = { .port = port };

    return evtchn(EVTCHNOP_send, &op);
}

static unsigned ipi(unsigned vcpu)
{
    struct evtchn_bind_ipi op = { .vcpu = vcpu };

    check_is(evtchn(EVTCHNOP_bind_ipi, &op), 0);
    fifo_words[op.port] = MASKED;
    return op.port;
}

/* Two ends in one domain: what is sent into the first comes out of the second, which may be moved. */
static unsigned channel(unsigned *into)
{
    struct evtchn_alloc_unbound open = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
    struct evtchn_bind_interdomain bind = { .remote_dom = DOMID_SELF };

    check_is(evtchn(EVTCHNOP_alloc_unbound, &open), 0);
    *into = bind.remote_port = open.port;
    check_is(evtchn(EVTCHNOP_bind_interdomain, &bind), 0);
    return bind.local_port;
}

static int priority(unsigned port, unsigned value)
{
    struct evtchn_set_priority op = { .port = port, .priority = value };

    return evtchn(EVTCHNOP_set_priority, &op);
}

static int unmask(unsigned port)
{
    struct evtchn_unmask op = { .port = port };

    return evtchn(EVTCHNOP_unmask, &op);
}

static int move(unsigned port, unsigned vcpu)
{
    struct evtchn_bind_vcpu op = { .port = port, .vcpu = vcpu };

    return evtchn(EVTCHNOP_bind_vcpu, &op);
}

static int close_port(unsigned port)
{
    struct evtchn_close op = { .port = port };

    return evtchn(EVTCHNOP_close, &op);
}

static int init_control(unsigned long gfn, unsigned offset, unsigned vcpu)
{
    struct evtchn_init_control op = { .control_gfn = gfn, .offset = offset, .vcpu = vcpu };
    int result = evtchn(EVTCHNOP_init_control, &op);

    check_is(op.link_bits, result ? 0 : 17); /* it is written back when all went well */
    return result;
}

PAGE(spare);
PAGE(unmapped);

static void before_the_change(void)
{
    struct evtchn_expand_array none = { 0 };

    check_is(evtchn(EVTCHNOP_expand_array, &none), -XEN_EOPNOTSUPP);
    check_is(priority(ipi(0), 3), -XEN_ENOSYS);
    check_is(priority(0, 3), -XEN_ENOSYS);
    check_is(priority(99999, 3), -XEN_EINVAL);
    /* The vCPU is looked at first, then the offset, then the frame. */
    check_is(init_control(~0UL, 4096, 99), -XEN_ENOENT);
    check_is(init_control(mfn_of(spare), 4096, 0), -XEN_EINVAL);
    check_is(init_control(mfn_of(spare), 4032, 0), -XEN_EINVAL);
    check_is(init_control(mfn_of(spare), 60, 0), -XEN_EINVAL);
    check_is(init_control(mfn_of((void *)start_info->pt_base), 0, 0), -XEN_EINVAL);
    check_is(init_control(~0UL, 0, 0), -XEN_EINVAL);
    check_is(init_control(1UL << 40, 0, 0), -XEN_EINVAL);
    check_is(evtchn(EVTCHNOP_init_control, (void *)8), -XEN_EFAULT);
    check_is(evtchn(EVTCHNOP_expand_array, (void *)8), -XEN_EFAULT);
    check_is(evtchn(EVTCHNOP_set_priority, (void *)8), -XEN_EFAULT);
    check_is(evtchn(EVTCHNOP_expand_array, &none), -XEN_EOPNOTSUPP); /* still bits */
}

static void the_change(void)
{
    unsigned early = ipi(0), masked = ipi(0);

    check_is(ring(early), 0);
    check_is(ring(masked), 0);
    check(event_pending(early));
    fifo_forget();
    fifo_words[early] = 0;
    check_is(init_control(mfn_of(spare), 4024, 0), 0);
    check_is(init_control(mfn_of(spare), 0, 0), -XEN_EINVAL); /* it has one */
    check_is(ring(early), 0);                                  /* no word yet: kept for it */
    check_is(fifo_expand(fifo_words), 0);

    /* What was pending is told now, and it goes where its word says. */
    struct evtchn_fifo_control_block *block = (struct evtchn_fifo_control_block *)(spare + 4024);

    check_is(fifo_words[early], PENDING | LINKED);
    check_is(fifo_words[masked], PENDING | MASKED);
    check_is(block->ready, 1U << EVTCHN_FIFO_PRIORITY_DEFAULT);
    check_is(block->head[EVTCHN_FIFO_PRIORITY_DEFAULT], early);
    check_is(shared_info->vcpu_info[0].evtchn_upcall_pending, 1);
    check_is(close_port(early), 0);
    check_is(close_port(masked), 0);

    /* Back to bits, and all over again, as the rest wants it. */
    struct evtchn_reset reset = { .dom = DOMID_SELF };

    check_is(evtchn(EVTCHNOP_reset_cont, &reset), -XEN_EBUSY);
    check_is(events_reset(), 0);
    check_is(fifo_expand(fifo_words), -XEN_EOPNOTSUPP);
    shared_info->vcpu_info[0].evtchn_upcall_pending = 0;
    fifo_init();
}

static void order(void)
{
    unsigned port[5];

    for (unsigned i = 0; i < 5; i++) {
        port[i] = ipi(0);
        fifo_words[port[i]] = 0;
    }
    events_off();
    for (unsigned i = 0; i < 4; i++)
        check_is(ring(port[3 - i]), 0);
    check_is(ring(port[2]), 0); /* a second time: it is pending */
    check_is(fifo_words[port[3]], PENDING | LINKED | port[2]);
    check_is(fifo_words[port[0]], PENDING | LINKED);
    check_is(fifo_block(0)->ready, 1U << 7);
    check_is(fifo_block(0)->head[7], port[3]);
    check(shared_info->vcpu_info[0].evtchn_upcall_pending);
    events_on();
    check(came(port[3], port[2], port[1], port[0]));

    check_is(priority(port[0], 15), 0);
    check_is(priority(port[1], 0), 0);
    check_is(priority(port[2], 8), 0);
    check_is(priority(port[2], 16), -XEN_EINVAL);
    check_is(priority(port[2], ~0U), -XEN_EINVAL);
    check_is(priority(0, 16), -XEN_EACCES);
    events_off();
    for (unsigned i = 0; i < 4; i++)
        check_is(ring(port[i]), 0);
    check_is(fifo_block(0)->ready, 1U << 15 | 1U << 0 | 1U << 8 | 1U << 7);
    events_on();
    check(came(port[1], port[3], port[2], port[0]));

    /* On its queue it stays when its priority changes; the next time it goes elsewhere. */
    events_off();
    check_is(ring(port[0]), 0);
    check_is(priority(port[0], 2), 0);
    check_is(ring(port[4]), 0);
    check_is(fifo_block(0)->ready, 1U << 15 | 1U << 7);
    events_on();
    check(came(port[4], port[0], 0, 0));
    check_is(ring(port[0]), 0);
    check_is(fifo_block(0)->head[2], port[0]);
    check(came(port[0], 0, 0, 0));
    for (unsigned i = 0; i < 5; i++)
        check_is(close_port(port[i]), 0);
}

static void masks(void)
{
    unsigned port = ipi(0), other = ipi(0);

    fifo_words[other] = 0;
    check_is(ring(port), 0);
    check_is(fifo_words[port], PENDING | MASKED);
    check(came(0, 0, 0, 0));
    check_is(unmask(port), 0);
    check(came(port, 0, 0, 0));
    check_is(fifo_words[port], 0);
    check_is(unmask(port), 0);
    check(came(0, 0, 0, 0));

    /* Masked while it is queued. */
    events_off();
    check_is(ring(port), 0);
    fifo_words[port] |= MASKED;
    check_is(ring(other), 0);
    events_on();
    check(came(other, 0, 0, 0));
    check_is(fifo_words[port], PENDING | MASKED);
    check_is(unmask(port), 0);
    check(came(port, 0, 0, 0));

    /* Unmasked by ourselves it waits for the next signal, which is no new one but finds it off the queues. */
    fifo_words[port] = PENDING;
    check(came(0, 0, 0, 0));
    check_is(ring(port), 0);
    check(came(port, 0, 0, 0));

    /* BUSY is how the hypervisor asks us to leave a word alone; it takes that back when it links. */
    events_off();
    check_is(ring(port), 0);
    fifo_words[port] |= BUSY;
    check_is(ring(other), 0);
    check_is(fifo_words[port], PENDING | LINKED | other);
    events_on();
    check(came(port, other, 0, 0));
    check_is(close_port(port), 0);
    check_is(close_port(other), 0);
}

static void closing(void)
{
    unsigned one = ipi(0), two = ipi(0), three = ipi(0), next;

    fifo_words[one] = fifo_words[two] = fifo_words[three] = 0;
    events_off();
    check_is(ring(one), 0);
    check_is(ring(two), 0);
    check_is(ring(three), 0);
    check_is(close_port(two), 0);
    check_is(fifo_words[two], LINKED | three);
    check_is(priority(two, 3), -XEN_EACCES);
    next = ipi(0);
    check(next != two); /* it is still on a queue */
    check_is(close_port(next), 0);
    events_on();
    check(came(one, three, 0, 0));
    next = ipi(0);
    check_is(next, two);
    check_is(close_port(next), 0);
    check_is(close_port(one), 0);
    check_is(close_port(three), 0);
}

static void vcpus(void)
{
    unsigned into, port = channel(&into), behind = ipi(0), other;

    event_clear(port);
    fifo_words[port] = fifo_words[behind] = 0;
    check_is(move(port, 1), 0);
    check_is(ring(into), 0); /* lost: that one has no control block */
    check_is(fifo_words[port], 0);
    check_is(fifo_control(1), 0);
    check_is(ring(into), 0);
    check_is(fifo_words[port], PENDING | LINKED);
    check_is(fifo_block(1)->ready, 1U << 7);
    check_is(shared_info->vcpu_info[1].evtchn_upcall_pending, 1);
    fifo_take(1);
    check(came(port, 0, 0, 0));

    /* A port that was the tail of vCPU 1's queue, moved: what follows there is not put behind it. */
    check_is(move(port, 0), 0);
    events_off();
    check_is(ring(into), 0);
    other = ipi(1);
    fifo_words[other] = 0;
    check_is(ring(other), 0);
    check_is(fifo_words[port], PENDING | LINKED);
    check_is(fifo_block(1)->head[7], other);
    fifo_take(1);
    check(came(other, 0, 0, 0));
    check_is(ring(behind), 0);
    check_is(fifo_words[port], PENDING | LINKED | behind);
    events_on();
    check(came(port, behind, 0, 0));
    check_is(close_port(port), 0);
    check_is(close_port(into), 0);
    check_is(close_port(behind), 0);
    check_is(close_port(other), 0);
}

static void the_array(void)
{
    check_is(fifo_expand(fifo_words + FIFO_WORDS), 0);
    /* The same page as often as one likes; 128 in all. */
    for (unsigned page = 2; page < 128; page++)
        check_is(fifo_expand(spare), 0);
    check_is(fifo_expand(spare), -XEN_ENOSPC);

    /* As long as it is used so, it cannot become a page table. */
    memset(unmapped, 0, PAGE_SIZE);
    check_is(readonly(unmapped), 0);
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(unmapped), 0), 0);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(unmapped), 0), 0);
    memset(spare, 0, PAGE_SIZE);
    check_is(readonly(spare), 0);
    check(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(spare), 0) < 0);
}

static void the_way_back(void)
{
    unsigned port;

    events_off();
    check_is(events_reset(), 0);
    fifo_forget();
    check_is(mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(spare), 0), 0);
    check_is(mmuext(MMUEXT_UNPIN_TABLE, mfn_of(spare), 0), 0);
    port = ipi(0);
    check_is(priority(port, 3), -XEN_ENOSYS);
    events_on();
    check_is(ring(port), 0);
    check(event_pending(port));
    check_is(fifo_words[port], MASKED);
    event_enable(port);
    check(came(port, 0, 0, 0));
}

void test_main(void)
{
    if (HYPERVISOR_vcpu_op(VCPUOP_is_up, 1, 0) == -XEN_ENOENT)
        fail("this test needs vcpus=2");
    events_off();
    before_the_change();
    the_change();
    event_hook = note;
    order();
    masks();
    closing();
    vcpus();
    the_array();
    the_way_back();
}
