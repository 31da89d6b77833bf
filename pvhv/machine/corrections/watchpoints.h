/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Watchpoints: which accesses they are about, and what becomes of the instruction that makes one.
 *
 * An access that hits has not been made yet. If its instruction stands in a block with others, the block is left and
 * that one instruction executed again, alone; there the hit is kept until the block ends, and debug_excp_handler
 * (bpt_helper.c) is called behind it. An instruction that faults or is left for another reason has hit nothing: see
 * cpu_loop_exit.
 */
#pragma once

static bool overlaps(const CPUWatchpoint *wp, vaddr addr, vaddr len)
{
    return addr - wp->vaddr < wp->len || wp->vaddr - addr < len;
}

/* Whether a block has one instruction, and goes back to the main loop however that ends (jmp_opt in translate.c). */
static bool is_alone(const TranslationBlock *tb)
{
    return (tb_cflags(tb) & CF_COUNT_MASK) == 1
           || (tb->icount == 1 && (tb->flags & (HF_INHIBIT_IRQ_MASK | HF_RF_MASK | HF_TF_MASK)));
}

static void check_watched(CPUState *cpu, vaddr addr, vaddr len, int flags, uintptr_t ra)
{
    CPUWatchpoint *wp, *first = NULL;
    TranslationBlock *tb;

    if (cpu->uc->size_recur_mem) {
        return; /* a part of an access that was looked at */
    }
    QTAILQ_FOREACH(wp, &cpu->watchpoints, entry) {
        if (!cpu->watchpoint_hit) {
            wp->flags &= ~BP_WATCHPOINT_HIT; /* what an earlier instruction hit */
        }
        if ((wp->flags & flags & BP_MEM_ACCESS) && overlaps(wp, addr, len)) {
            wp->flags |= flags & BP_MEM_READ ? BP_WATCHPOINT_HIT_READ : BP_WATCHPOINT_HIT_WRITE;
            first = first ? first : wp;
        }
    }
    if (!first) {
        return;
    }
    tb = ra ? tcg_tb_lookup(cpu->uc->tcg_ctx, ra) : NULL;
    if (tb && !is_alone(tb)) {
        cpu_restore_state(cpu, ra, true);
        cpu->cflags_next_tb = 1 | curr_cflags();
        cpu_loop_exit_noexc(cpu);
    }
    if (!cpu->watchpoint_hit) {
        cpu->watchpoint_hit = first;
    }
    cpu->interrupt_request |= CPU_INTERRUPT_DEBUG;
}
