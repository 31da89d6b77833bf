/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The pacer: safe stops, exact instruction counts and whole flags, from inside the engine.
 *
 * Every exit passes through here on its way to Python.  The engine keeps the arithmetic flags as
 * the operands they are computed from, and DF separately.  Whenever Python runs, state[EFLAGS] is
 * the complete RFLAGS (leave_guest, enter_guest in pacer_exits.h).
 *
 * The engine calls pacer_block at the start of every translated block it runs.  A stop asked
 * for there takes effect before the block, and so between two instructions; a stop from another
 * thread does not guarantee that.  The number of instructions in a block is known since it was
 * translated, so adding up these numbers counts instructions without a hook on each.
 *
 * Three things would make that sum wrong, and are corrected here:
 *   - a fault inside a block: the instructions not executed are subtracted (settle).  The address
 *     tells which instruction faulted; the lengths of those before it tell how many they were;
 *   - code that overwrites the block it is in: the engine leaves the block without an exit and
 *     runs the writing instruction again in a block of its own (see was_cut below);
 *   - two blocks with the same address and size but other bytes: a block is known by the place
 *     it was translated to (our return address), not by where the guest keeps it.
 * The count equals that of a UC_HOOK_CODE exactly: an instruction that faults counts each time it
 * is tried, a repeated string instruction once for each iteration and once for the final check.
 *
 * No libc, no state but `struct pacer`, which pacer.py allocates and mirrors word by word.
 *
 *     pacer.h        that struct, and what we know of the engine's state
 *     pacer_code.h   the guest's code: where it is, how long its instructions are
 *     pacer_ease.h   blocks that look for a stop by themselves
 *     pacer.c        counting and stopping
 *     pacer_exits.h  from the guest to Python and back
 */

#include "pacer.h"
#include "pacer_code.h"
#include "pacer_ease.h"

/* ---- counting and stopping ---------------------------------------------------------------------------- */

static struct entry *entry_of(struct pacer *p, u64 place)
{
    return &p->table[place >> 7 & ((1u << TABLE_BITS) - 1)];
}

static void count(struct pacer *p, u64 instructions)
{
    p->executed += instructions;
    if ((p->state[HFLAGS] & MODE) == USERS)
        p->executed_user += instructions;
}

/* Whether an interrupt window is wanted, and the guest could take an interrupt now. */
static int window_open(const struct pacer *p)
{
    return p->window && p->state[EFLAGS] & IF && !(p->state[HFLAGS] & HF_INHIBIT_IRQ);
}

/* How many instructions of the block last entered were not executed, if it was left (or has come to) `rip`.
 * `tried` instructions before that were tried and did not complete. */
static u64 remainder_of(const struct pacer *p, u64 rip, u64 tried)
{
    const struct entry *last = p->last;
    u64 done, end;
    if (rip - last->pc >= last->size)
        return 0;
    done = instructions(p, last->pc, rip, &end) + tried;
    return done < last->count ? last->count - done : 0;
}

/* A block of one instruction is entered.  If it lies in the last block and ends before that one's
 * end, the engine has cut the last block here: the instruction writes to that block, and the engine
 * runs it again alone, without an exit.  But a single-stepped guest runs such blocks as well, and so
 * may a guest that jumps into the middle of an instruction. */
static int was_cut(void *uc, u64 pc, u32 size, struct pacer *p)
{
    const struct entry *last = p->last;
    u64 end;
    if (!last || pc - last->pc >= last->size || pc + size >= last->pc + last->size)
        return 0;
    if (p->context)
        p->context_save(uc, p->context);
    instructions(p, last->pc, pc, &end);
    return end == pc && !(p->state[EFLAGS] & TF);
}

/* UC_HOOK_EDGE_GENERATED: a block was translated, and is run next. */
EXPORT void pacer_translated(void *uc, const struct uc_tb *block, const struct uc_tb *before, struct pacer *p)
{
    (void)uc, (void)before;
    p->blocks++;
    p->limit = 0; /* take the slow path at the next block: it may be where a dropped one was */
    p->new_pc = block->pc, p->new_size = block->size, p->new_count = block->icount;
}

/* Whether the guest is to stop here. */
static int due(struct pacer *p)
{
    if (window_open(p))
        p->stop = 1;
    if (p->step >= STEP_BEGUN)
        p->broken = BROKEN;
    return p->stop || p->broken == BROKEN || p->executed >= p->goal;
}

/* UC_HOOK_EDGE_GENERATED too, under nested paging: a page that code was translated from is made read-only in the
 * nested tables, because the engine does not notice every store to it.  Such a store is then a nested page fault, at
 * which Python drops the translations. */
EXPORT void pacer_guard_code(void *uc, const struct uc_tb *block, const struct uc_tb *before, struct pacer *p)
{
    u64 ends[2] = {block->pc, block->pc + block->size - 1};
    int changed = 0;
    (void)before;
    if (!(p->state[HFLAGS] >> 32 & HF2_NPT))
        return;
    for (int n = 0; n < 2; n++) {
        u64 at = p->state[CR0] >> 31 & 1 ? walk(p, root(p), ends[n], machine) : (u32)ends[n];
        u64 entry = at == ~0ull ? at : leaf(p, p->state[NESTED_CR3], at);
        if (entry != ~0ull && (p->ram[entry / 8] & (RW | WATCHED)) == RW) {
            ((u64 *)p->ram)[entry / 8] &= ~(u64)RW;
            changed = 1;
        }
    }
    if (changed)
        p->ctl(uc, FLUSH_TLB);
}

/* All rare cases, in a function of their own so that the usual case needs no stack frame. */
static __attribute__((noinline, cold)) void block_slowly(void *uc, u64 pc, u32 size, struct pacer *p, u64 place)
{
    struct entry *e = entry_of(p, place);
    u32 n = e->count;

    p->limit = p->window ? 0 : p->goal;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* a stop sets `stop`, then `limit`: one of them is seen */
    if (p->stop || p->broken == BROKEN || p->step)
        p->limit = 0;
    if (p->new_size && p->new_pc == pc && p->new_size == size) {
        n = (u32)p->new_count;
    } else if (e->place != place || e->pc != pc || e->size != size) {
        /* Translated in an earlier run, or evicted from the table: ask the engine. */
        struct uc_tb block = {0, 0, 0};
        n = p->ctl(uc, REQUEST_CACHE, pc, &block) == 0 && block.size == size ? block.icount : 1;
    }
    p->new_size = 0;
    if (n == 1 && was_cut(uc, pc, size, p)) { /* no stop here: after a stop the engine would cut the block again */
        count(p, -remainder_of(p, pc, 1));
    } else if (due(p)) {
        p->last = 0;
        p->emu_stop(uc);
        return;
    } else if (p->step) {
        p->step = STEP_BEGUN;
    }
    e->place = place, e->pc = pc, e->size = size, e->count = n;
    p->last = e;
    count(p, n);
}

/* UC_HOOK_BLOCK of the virtual clock: the hottest function of all. */
EXPORT void pacer_block(void *uc, u64 pc, u32 size, struct pacer *p)
{
    u64 place = (u64)__builtin_return_address(0);
    struct entry *e = entry_of(p, place);
    u64 executed = p->executed;
    u32 n = e->count;

    if (__builtin_expect(executed >= p->limit || e->place != place || e->pc != pc || e->size != size ||
                         (n == 1 && p->last != e), 0)) {
        block_slowly(uc, pc, size, p, place);
        return;
    }
    p->last = e;
    p->executed = executed + n;
}

/* The same, and counts user mode apart. */
EXPORT void pacer_block_by_mode(void *uc, u64 pc, u32 size, struct pacer *p)
{
    u64 place = (u64)__builtin_return_address(0);
    struct entry *e = entry_of(p, place);
    u32 n = e->count;

    if (p->executed >= p->limit || e->place != place || e->pc != pc || e->size != size || (n == 1 && p->last != e)) {
        block_slowly(uc, pc, size, p, place);
        return;
    }
    p->last = e;
    count(p, n);
}

/* UC_HOOK_CODE of one instruction: a deprivileged guest kernel stops before it, and Python carries it out. It counts
 * as one instruction, as a faulting one would. */
static void break_here(void *uc, u64 address, struct pacer *p, u32 cpl)
{
    if (p->context)
        p->context_save(uc, p->context);
    if ((p->state[HFLAGS] & HF_CPL) != cpl)
        return;
    if (p->broken == address) {
        p->broken = 0;
        return;
    }
    if (p->last)
        count(p, -remainder_of(p, address, 1));
    p->last = 0;
    p->broken = BROKEN;
    p->emu_stop(uc);
}

EXPORT void pacer_break(void *uc, u64 address, u32 size, struct pacer *p)
{
    (void)size;
    break_here(uc, address, p, 1);
}

/* The same for the guest's users. */
EXPORT void pacer_break_user(void *uc, u64 address, u32 size, struct pacer *p)
{
    (void)size;
    break_here(uc, address, p, 3);
}

/* The same for debuggers, in any mode. */
EXPORT void pacer_break_all(void *uc, u64 address, u32 size, struct pacer *p)
{
    (void)size;
    break_here(uc, address, p, p->state[HFLAGS] & HF_CPL);
}

/* UC_HOOK_BLOCK of the wall clock, where the engine's own stop is not safe. */
EXPORT void pacer_stop(void *uc, u64 pc, u32 size, struct pacer *p)
{
    (void)pc, (void)size;
    if (__builtin_expect(p->limit != 0, 1))
        return;
    if (p->step == STEP_WANTED && !p->stop)
        p->step = STEP_BEGUN;
    else if (due(p) || !p->window)
        p->emu_stop(uc);
}

/* After an exit or a syscall no block has begun yet, so the engine can stop at once.  It must, because
 * there may be no next block (a guest that jumped to an unmapped address faults for ever). */
static void stop_if_due(void *uc, struct pacer *p)
{
    if (p->step)
        p->step = STEP_LEFT; /* even if its instruction could not be fetched */
    if (due(p))
        p->emu_stop(uc);
}

/* Whether a #DB is that of an execution breakpoint, which comes before its instruction is tried. */
static int is_at_breakpoint(const struct pacer *p, u32 code)
{
    u64 hit = code == EXIT_WATCH ? 0 : p->state[DR6], dr7 = p->state[DR7];
    for (u32 n = 0; n < 4; n++)
        if (hit >> n & 1 && dr7 >> 2 * n & 3 && !(dr7 >> (16 + 4 * n) & 3))
            return 1;
    return 0;
}

/* An exit: subtract the instructions of its block that were not executed. */
static void settle(struct pacer *p, u32 code)
{
    const u32 *error = (const u32 *)((const u8 *)p->state + p->vmexit_error_code); /* then exception_is_int */
    if (p->last && (code >= 0x100 || (code < 32 && !error[1]))) {
        if (code == EXIT_DB || code == DB || code == EXIT_WATCH) { /* a trap: RIP is past what was executed */
            if (p->last->count > 1 || is_at_breakpoint(p, code))
                count(p, -remainder_of(p, p->state[RIP], 0));
        } else if (!((code == EXIT_PF || code == PF || code == EXIT_NPF) && *error & FETCH)) {
            count(p, -remainder_of(p, p->state[RIP], 1)); /* while a fetch fails between blocks */
        }
    }
    p->last = 0;
}

#include "pacer_exits.h"

/* ---- small services, called from Python with as few arguments as possible ------------------ */

EXPORT void pacer_flush_tlb(struct pacer *p)
{
    p->ctl(p->engine, FLUSH_TLB);
}

/* The counter that the guest's native rdtsc reads; 0 where that is the host's nanosecond clock. */
EXPORT u64 pacer_tsc(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return 0;
#endif
}

EXPORT u32 pacer_layout(void)
{
    return LAYOUT;
}

/* For the tests of the above. */
EXPORT u32 pacer_length(const u8 *code, int long_mode)
{
    return instruction_length(code, long_mode);
}
