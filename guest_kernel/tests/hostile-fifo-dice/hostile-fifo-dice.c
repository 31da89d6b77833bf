/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Dice (lib/dice.c), about queues of events: ports made, closed and signalled while their words, the heads and what is
 * ready are written over with anything; taken off in turns with that; moved between vCPUs and priorities; reset. Each
 * answer comes with what the words and blocks look like then.
 *
 * needs: vcpus=2
 */
#include "fifo.h"

const char test_name[] = "hostile-fifo-dice";

#define FIRST 3 /* the lower ports are the console's and xenstore's */
#define PORTS 40
#define ROUNDS 12000
static const unsigned long xens[] = { /* what a real Xen 4.17 made of it, by seed */
    0, 0x90665df57b623120, 0xd24c00eaf14117ee, 0xbfe4fd503088945e, 0x599f6c9e158f5716,
    0x3b5ed0e48b03dc5f, 0x9bf06f7837f00109,
};

static unsigned long look(unsigned long hash)
{
    for (unsigned port = FIRST; port < FIRST + 2 * PORTS; port++)
        hash = (hash ^ fifo_words[port]) * 0x100000001b3UL;
    for (unsigned vcpu = 0; vcpu < 2; vcpu++) {
        struct evtchn_fifo_control_block *block = fifo_block(vcpu);

        hash = (hash ^ block->ready ^ (unsigned long)shared_info->vcpu_info[vcpu].evtchn_upcall_pending << 32)
             * 0x100000001b3UL;
        for (unsigned priority = 0; priority < EVTCHN_FIFO_MAX_QUEUES; priority++)
            hash = (hash ^ block->head[priority]) * 0x100000001b3UL;
    }
    return hash;
}

static unsigned port(void)
{
    static const unsigned odd[] = { 0, 1023, 1024, 131071, 131072, ~0U };

    return dice(40) ? FIRST + dice(PORTS) : odd[dice(ARRAY_SIZE(odd))];
}

static unsigned word(void)
{
    unsigned flags = dice(16) << EVTCHN_FIFO_BUSY;

    return dice(4) ? flags | (dice(2) ? FIRST + dice(PORTS) : 0) : flags | dice(1U << 28);
}

/* A few events off the queues, as far as what stands there is a port at all. */
static long take(void)
{
    unsigned vcpu = dice(2), steps = 1 + dice(6), got = 0, next;
    struct evtchn_fifo_control_block *block = fifo_block(vcpu);

    shared_info->vcpu_info[vcpu].evtchn_upcall_pending = 0;
    while (block->ready && steps--) {
        unsigned priority = __builtin_ctz(block->ready);

        if (priority >= EVTCHN_FIFO_MAX_QUEUES || block->head[priority] >= FIFO_WORDS) {
            block->ready = 0;
            break;
        }
        if (!fifo_take_one(vcpu, priority, &next) || fifo_heads[vcpu][priority] >= FIFO_WORDS) {
            fifo_heads[vcpu][priority] = 0;
            block->ready &= ~(1U << priority);
        }
        fifo_words[next] &= ~(1U << EVTCHN_FIFO_PENDING);
        got = got * 131 + next;
    }
    return got;
}

static long act(unsigned what)
{
    struct evtchn_bind_ipi ipi = { .vcpu = dice(2) };
    struct evtchn_bind_virq virq = { .virq = VIRQ_CONSOLE };
    struct evtchn_send send = { .port = port() };
    struct evtchn_close close = { .port = port() };
    struct evtchn_unmask unmask = { .port = port() };
    struct evtchn_set_priority priority = { .port = port(), .priority = dice(17) };
    struct evtchn_bind_vcpu move = { .port = port(), .vcpu = dice(20) ? dice(2) : 2 };
    long result;

    switch (what) {
    case 0:
    case 1:
        result = evtchn(EVTCHNOP_bind_ipi, &ipi);
        if (!result && ipi.port >= FIRST + PORTS) { /* no further: the lower ones are to be used again */
            close.port = ipi.port;
            return 1000 + evtchn(EVTCHNOP_close, &close);
        }
        return result ? result : (long)ipi.port;
    case 2: /* one that can be moved */
        result = evtchn(EVTCHNOP_bind_virq, &virq);
        return result ? result : (long)virq.port;
    case 3:
        return evtchn(EVTCHNOP_close, &close);
    case 4:
        return evtchn(EVTCHNOP_unmask, &unmask);
    case 5:
        return evtchn(EVTCHNOP_set_priority, &priority);
    case 6:
        return evtchn(EVTCHNOP_bind_vcpu, &move);
    case 7:
        fifo_words[FIRST + dice(PORTS)] = word();
        return 0;
    case 8:
        if (!dice(8))
            fifo_block(dice(2))->head[dice(EVTCHN_FIFO_MAX_QUEUES)] = dice(3) ? FIRST + dice(PORTS) : dice(1U << 31);
        if (!dice(8))
            fifo_block(dice(2))->ready = dice(2) ? 0 : dice(1U << 20);
        return 0;
    case 9:
    case 10:
    case 11:
        return take();
    case 12: /* seldom: all from the start, with bits pending and words there already */
        if (dice(40))
            return 0;
        result = events_reset();
        for (unsigned i = 0; i < 4; i++)
            if (!evtchn(EVTCHNOP_bind_ipi, &ipi)) {
                send.port = ipi.port;
                evtchn(EVTCHNOP_send, &send);
            }
        for (unsigned i = FIRST; i < FIRST + PORTS; i++)
            fifo_words[i] = dice(3) ? 0 : word();
        result = result * 1000 + (dice(4) ? fifo_control(0) : 0) * 100 + (dice(4) ? fifo_control(1) : 0) * 10;
        return result + fifo_expand(fifo_words);
    case 13:
        return dice(10) ? 0 : dice(2) ? fifo_control(dice(2)) : fifo_expand(fifo_words);
    default:
        return evtchn(EVTCHNOP_send, &send);
    }
}

static long one(unsigned what)
{
    long result = act(what);

    return (long)look((unsigned long)result);
}

void test_main(void)
{
    if (HYPERVISOR_vcpu_op(VCPUOP_is_up, 1, 0) == -XEN_ENOENT)
        fail("this test needs vcpus=2");
    events_off();
    fifo_init();
    fifo_on = 0;
    check_is(fifo_control(1), 0);
    throw_dice(one, 24, ROUNDS, xens, ARRAY_SIZE(xens));
}
