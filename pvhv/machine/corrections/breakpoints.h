/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Addresses of execution breakpoints: what is translated at one of them looks, each time, whether a breakpoint is there
 * for who runs now (helper_debug). So an address that was one stays on the list; only a new one drops blocks.
 */
#pragma once

#include "tcg/tcg.h"

enum { MOST_KNOWN = 16 }; /* beyond that, the oldest that is no breakpoint now is taken off: code that looks there may stay */

enum { MOST_FOUND = 1024 };

struct search {
    target_ulong pc;
    int found;
    TranslationBlock *blocks[MOST_FOUND];
};

static gboolean find_block_at(gpointer key, gpointer value, gpointer data)
{
    TranslationBlock *tb = value;
    struct search *search = data;

    if (search->pc - tb->pc < tb->size && !(tb_cflags(tb) & CF_INVALID)) {
        search->blocks[search->found++] = tb;
    }
    return search->found == MOST_FOUND; /* ends the search */
}

/* Whoever has something mapped there, or will. A guest can have a hundred thousand blocks over one address, and to go
 * through all blocks for each of them would take minutes: so for a thousand at a time. */
static void forget_blocks_at(CPUState *cpu, target_ulong pc)
{
    TCGContext *tcg_ctx = cpu->uc->tcg_ctx;
    struct search search = { .pc = pc };

    do {
        search.found = 0;
        tcg_tb_foreach(tcg_ctx, find_block_at, &search);
        for (int n = 0; n < search.found; n++) {
            tb_phys_invalidate(tcg_ctx, search.blocks[n], -1);
        }
    } while (search.found == MOST_FOUND);
}

static bool is_armed(CPUState *cpu, const CPUBreakpoint *bp)
{
    CPUX86State *env = cpu->env_ptr;

    for (int i = 0; i < DR7_MAX_BP; i++) {
        if (env->cpu_breakpoint[i] == bp) {
            return true;
        }
    }
    return false;
}

static CPUBreakpoint *known_breakpoint(CPUState *cpu, vaddr pc, int flags)
{
    CPUBreakpoint *bp, *spare = NULL;
    int known = 0;

    QTAILQ_FOREACH(bp, &cpu->breakpoints, entry) {
        if (bp->pc == pc && bp->flags == flags) {
            return bp;
        }
        known++;
        if (!spare && !is_armed(cpu, bp)) {
            spare = bp;
        }
    }
    if (known >= MOST_KNOWN && spare) {
        QTAILQ_REMOVE(&cpu->breakpoints, spare, entry);
        g_free(spare);
    }
    return NULL;
}
