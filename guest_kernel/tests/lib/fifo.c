/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Event channels as queues: a word for each port, and for each vCPU sixteen heads. The hypervisor adds at the tails,
 * which it alone knows; we take off at the heads.
 */
#include "test.h"

event_word_t fifo_words[FIFO_PAGES * FIFO_WORDS] PAGE_ALIGNED;
static unsigned char blocks[2][PAGE_SIZE] PAGE_ALIGNED;
static unsigned heads[2][EVTCHN_FIFO_MAX_QUEUES]; /* what each queue goes on with; 0: ask its control block */

struct evtchn_fifo_control_block *fifo_block(unsigned vcpu)
{
    return (struct evtchn_fifo_control_block *)(blocks[vcpu] + 128);
}

int fifo_control(unsigned vcpu)
{
    struct evtchn_init_control op = {
        .control_gfn = mfn_of(blocks[vcpu]), .offset = 128, .vcpu = vcpu };

    return evtchn(EVTCHNOP_init_control, &op);
}

int fifo_expand(const void *page)
{
    struct evtchn_expand_array op = { .array_gfn = mfn_of(page) };

    return evtchn(EVTCHNOP_expand_array, &op);
}

void fifo_init(void)
{
    fifo_forget();
    check_is(fifo_control(0), 0);
    check_is(fifo_expand(fifo_words), 0);
    upcall = fifo_upcall;
}

void fifo_forget(void)
{
    upcall = 0;
    memset(heads, 0, sizeof(heads));
    memset(blocks, 0, sizeof(blocks));
    for (unsigned port = 0; port < FIFO_PAGES * FIFO_WORDS; port++)
        fifo_words[port] = 1U << EVTCHN_FIFO_MASKED;
}

static unsigned unlink(unsigned port)
{
    unsigned gone = 1U << EVTCHN_FIFO_LINKED | EVTCHN_FIFO_LINK_MASK;

    return __atomic_fetch_and(&fifo_words[port], ~gone, __ATOMIC_SEQ_CST);
}

int fifo_take_one(unsigned vcpu, unsigned priority, unsigned *port)
{
    unsigned *next = &heads[vcpu][priority];
    unsigned word;

    if (!*next)
        *next = *(volatile unsigned *)&fifo_block(vcpu)->head[priority];
    *port = *next;
    word = unlink(*port);
    *next = word & EVTCHN_FIFO_LINK_MASK;
    return *next != 0;
}

unsigned fifo_next(unsigned vcpu, unsigned priority)
{
    return heads[vcpu][priority];
}

void fifo_stop(unsigned vcpu, unsigned priority)
{
    heads[vcpu][priority] = 0;
}

void fifo_take(unsigned vcpu)
{
    struct evtchn_fifo_control_block *block = fifo_block(vcpu);
    unsigned ready = __atomic_exchange_n(&block->ready, 0, __ATOMIC_SEQ_CST);

    while (ready) {
        unsigned priority = __builtin_ctz(ready), port;

        if (!fifo_take_one(vcpu, priority, &port))
            ready &= ~(1U << priority);
        if ((fifo_words[port] & (1U << EVTCHN_FIFO_PENDING | 1U << EVTCHN_FIFO_MASKED)) == 1U << EVTCHN_FIFO_PENDING) {
            __atomic_fetch_and(&fifo_words[port], ~(1U << EVTCHN_FIFO_PENDING), __ATOMIC_SEQ_CST);
            event_count[port]++;
            if (event_hook)
                event_hook(port);
        }
        ready |= __atomic_exchange_n(&block->ready, 0, __ATOMIC_SEQ_CST);
    }
}

void fifo_upcall(void)
{
    fifo_take(0);
}
