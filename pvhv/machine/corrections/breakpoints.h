/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Addresses of execution breakpoints: what is translated at one of them looks, each time, whether a breakpoint is there
 * for who runs now (helper_debug). So an address that was one stays on the list; only a new one drops blocks.
 */
#pragma once

#include "tcg/tcg.h"

enum { MOST_KNOWN = 16 }; /* beyond that, the oldest that is no breakpoint now is taken off: code that looks there may stay */

struct place {
    target_ulong pc;
    TranslationBlock *block;
};

static gboolean find_block_at(gpointer key, gpointer value, gpointer data)
{
    TranslationBlock *tb = value;
    struct place *place = data;

    if (place->pc - tb->pc < tb->size && !(tb_cflags(tb) & CF_INVALID)) {
        place->block = tb;
    }
    return place->block != NULL; /* ends the search */
}

/* Whoever has something mapped there, or will. */
static void forget_blocks_at(CPUState *cpu, target_ulong pc)
{
    TCGContext *tcg_ctx = cpu->uc->tcg_ctx;
    struct place place = { pc, NULL };

    tcg_tb_foreach(tcg_ctx, find_block_at, &place);
    while (place.block) {
        tb_phys_invalidate(tcg_ctx, place.block, -1);
        place.block = NULL;
        tcg_tb_foreach(tcg_ctx, find_block_at, &place);
    }
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
