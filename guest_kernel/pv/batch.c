/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Hypercalls, gathered.
 *
 * Going to the hypervisor is dear, what it does there is cheap.  So between batch_begin and batch_end requests only
 * queue up: page-table updates that follow each other become one mmu_update of many entries, and different hypercalls
 * become one multicall.  Their order is kept.  Outside of a batch each goes at once.
 *
 * None of them may fail: we ask only for what we are entitled to, so an error is a bug of ours.
 */
#include <lib.h>

#include "pv.h"

#define CALLS_MAX 16
#define UPDATES_MAX 512
#define EXTS_MAX 16

static struct multicall_entry calls[CALLS_MAX];
static struct mmu_update updates[UPDATES_MAX];
static struct mmuext_op exts[EXTS_MAX];
static unsigned call_count, update_count, ext_count, depth;

static void flush(void)
{
    long result = 0;

    if (call_count == 1) /* a multicall of one would be a detour */
        calls[0].result = hypercall(calls[0].op, calls[0].args[0], calls[0].args[1], calls[0].args[2],
                                    calls[0].args[3], 0);
    else if (call_count > 1)
        result = HYPERVISOR_multicall(calls, call_count);
    for (unsigned i = 0; i < call_count; i++)
        if ((long)calls[i].result < 0 || result < 0)
            panic("hypercall %lu of a batch (%u of %u): error %ld", calls[i].op, i + 1, call_count,
                  -(long)(result < 0 ? (u64)result : calls[i].result));
    call_count = update_count = ext_count = 0;
}

void batch_begin(void)
{
    depth++;
}

void batch_end(void)
{
    if (--depth == 0)
        flush();
}

static struct multicall_entry *add(unsigned op, u64 a, u64 b, u64 c, u64 d)
{
    struct multicall_entry *call = &calls[call_count++];

    *call = (struct multicall_entry){ .op = op, .args = { a, b, c, d } };
    return call;
}

/* The last call of the queue, if it is this one and can take more entries. */
static struct multicall_entry *growing(unsigned op)
{
    return call_count && calls[call_count - 1].op == op ? &calls[call_count - 1] : NULL;
}

void queue_mmu_update(u64 machine_address, u64 value)
{
    struct multicall_entry *call = growing(__HYPERVISOR_mmu_update);

    if (update_count == UPDATES_MAX || (!call && call_count == CALLS_MAX)) {
        flush();
        call = NULL;
    }
    if (!call)
        call = add(__HYPERVISOR_mmu_update, (u64)(updates + update_count), 0, 0, DOMID_SELF);
    updates[update_count++] = (struct mmu_update){ .ptr = machine_address | MMU_NORMAL_PT_UPDATE, .val = value };
    call->args[1]++;
    if (!depth)
        flush();
}

void queue_mmuext(unsigned command, u64 arg1, u64 arg2)
{
    struct multicall_entry *call = growing(__HYPERVISOR_mmuext_op);
    struct mmuext_op *op;

    if (ext_count == EXTS_MAX || (!call && call_count == CALLS_MAX)) {
        flush();
        call = NULL;
    }
    if (!call)
        call = add(__HYPERVISOR_mmuext_op, (u64)(exts + ext_count), 0, 0, DOMID_SELF);
    op = &exts[ext_count++];
    *op = (struct mmuext_op){ .cmd = command };
    op->arg1.mfn = arg1; /* or linear_addr, which is as wide */
    op->arg2.nr_ents = arg2;
    call->args[1]++;
    if (!depth)
        flush();
}

void queue_call(unsigned op, u64 a, u64 b, u64 c, u64 d)
{
    if (call_count == CALLS_MAX)
        flush();
    add(op, a, b, c, d);
    if (!depth)
        flush();
}
