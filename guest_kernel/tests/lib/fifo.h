/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Event channels as queues, for the tests of the FIFO ABI: a word for each port, and for each vCPU sixteen heads. The
 * hypervisor adds at the tails, which it alone knows; we take off at the heads.
 *
 * All of it stands here, not in a file of the runtime, so that no other test kernel has anything of it: the dice of
 * some fall as recorded only as long as nothing in them moves.
 */
#pragma once

#include "test.h"

#define FIFO_WORDS 1024U /* of a page */
#define FIFO_PAGES 2U
#define FIFO_PENDING (1U << EVTCHN_FIFO_PENDING)
#define FIFO_MASKED (1U << EVTCHN_FIFO_MASKED)
#define FIFO_LINKED (1U << EVTCHN_FIFO_LINKED)
#define FIFO_BUSY (1U << EVTCHN_FIFO_BUSY)

static event_word_t fifo_words[FIFO_PAGES * FIFO_WORDS] PAGE_ALIGNED; /* of the first ports */
static unsigned char fifo_blocks[2][PAGE_SIZE] PAGE_ALIGNED;
static unsigned fifo_heads[2][EVTCHN_FIFO_MAX_QUEUES]; /* what each queue goes on with; 0: its control block knows */
static int fifo_on;                                    /* whether upcalls take from queues */

static inline struct evtchn_fifo_control_block *fifo_block(unsigned vcpu)
{
    return (struct evtchn_fifo_control_block *)(fifo_blocks[vcpu] + 128);
}

static inline int fifo_control(unsigned vcpu)
{
    struct evtchn_init_control op = { .control_gfn = mfn_of(fifo_blocks[vcpu]), .offset = 128, .vcpu = vcpu };

    return evtchn(EVTCHNOP_init_control, &op);
}

static inline int fifo_expand(const void *page)
{
    struct evtchn_expand_array op = { .array_gfn = mfn_of(page) };

    return evtchn(EVTCHNOP_expand_array, &op);
}

/* As at the start: nothing in any page, and every word masked. */
static void fifo_forget(void)
{
    fifo_on = 0;
    memset(fifo_heads, 0, sizeof(fifo_heads));
    memset(fifo_blocks, 0, sizeof(fifo_blocks));
    for (unsigned port = 0; port < FIFO_PAGES * FIFO_WORDS; port++)
        fifo_words[port] = FIFO_MASKED;
}

/* Change over: vCPU 0's control block, a page of words. */
static void fifo_init(void)
{
    fifo_forget();
    check_is(fifo_control(0), 0);
    check_is(fifo_expand(fifo_words), 0);
    fifo_on = 1;
}

/* Take one port off a queue that has one; whether more follow. */
static int fifo_take_one(unsigned vcpu, unsigned priority, unsigned *port)
{
    unsigned *next = &fifo_heads[vcpu][priority];

    if (!*next)
        *next = *(volatile unsigned *)&fifo_block(vcpu)->head[priority];
    *port = *next;
    *next = __atomic_fetch_and(&fifo_words[*port], ~(FIFO_LINKED | EVTCHN_FIFO_LINK_MASK), __ATOMIC_SEQ_CST)
          & EVTCHN_FIFO_LINK_MASK;
    return *next != 0;
}

/* Everything that is ready, as an upcall does. */
static void fifo_take(unsigned vcpu)
{
    struct evtchn_fifo_control_block *block = fifo_block(vcpu);
    unsigned ready = __atomic_exchange_n(&block->ready, 0, __ATOMIC_SEQ_CST);

    while (ready) {
        unsigned priority = __builtin_ctz(ready), port;

        if (!fifo_take_one(vcpu, priority, &port))
            ready &= ~(1U << priority);
        if ((fifo_words[port] & (FIFO_PENDING | FIFO_MASKED)) == FIFO_PENDING) {
            __atomic_fetch_and(&fifo_words[port], ~FIFO_PENDING, __ATOMIC_SEQ_CST);
            event_count[port]++;
            if (event_hook)
                event_hook(port);
        }
        ready |= __atomic_exchange_n(&block->ready, 0, __ATOMIC_SEQ_CST);
    }
}

void event_upcall(void);

void event_upcall(void)
{
    if (!fifo_on) {
        bits_upcall();
        return;
    }
    shared_info->vcpu_info[0].evtchn_upcall_pending = 0; /* before looking, or a set in between is lost */
    fifo_take(0);
}

static void fifo_bind_again(evtchn_port_t *port, const struct evtchn_status *was)
{
    struct evtchn_bind_interdomain op = { .remote_dom = was->u.interdomain.dom, .remote_port = was->u.interdomain.port };

    if (was->status == EVTCHNSTAT_interdomain) {
        check_is(evtchn(EVTCHNOP_bind_interdomain, &op), 0);
        *port = op.local_port;
    }
}

/* EVTCHNOP_reset, and the console's and xenstore's channels bound anew: it closes them, too. */
static int events_reset(void)
{
    struct evtchn_reset reset = { .dom = DOMID_SELF };
    evtchn_port_t *ports[2] = { &start_info->console.domU.evtchn, &start_info->store_evtchn };
    struct evtchn_status was[2];
    int result;

    for (unsigned i = 0; i < 2; i++) {
        memset(&was[i], 0, sizeof(was[i]));
        was[i].dom = DOMID_SELF, was[i].port = *ports[i];
        if (!(start_info->flags & SIF_INITDOMAIN))
            check_is(evtchn(EVTCHNOP_status, &was[i]), 0);
    }
    result = evtchn(EVTCHNOP_reset, &reset);
    for (unsigned i = 0; !result && i < 2; i++)
        fifo_bind_again(ports[i], &was[i]);
    return result;
}
