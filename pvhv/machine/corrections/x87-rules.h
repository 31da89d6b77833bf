/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How x87 and MMX instructions wait for exceptions that are pending (x87.h), looked at before one is translated.
 *
 * Read beside it: AMD64 Architecture Programmer's Manual, volume 5 (each instruction's exceptions).
 */
#pragma once

/* What loads looks itself whether there is room, and pushes. */
#define gen_helper_fpush(tcg_ctx, env) ((void)0)

/* FNSTENV, FNSTCW, FNSAVE, FNSTSW; FNCLEX, FNINIT and their like. `op` is two octal digits: opcode and ModRM.reg. */
static bool x87_waits(int op, int mod, int rm)
{
    return mod == 3 ? op != 034 && op != 074 : op != 016 && op != 017 && op != 056 && op != 057;
}

static bool x87_is_watched(const DisasContext *s)
{
    return s->flags & HF_X87_UNMASKED_MASK;
}

static void gen_x87_wait(DisasContext *s)
{
    TCGContext *tcg_ctx = s->uc->tcg_ctx;

    if (x87_is_watched(s)) {
        gen_helper_fwait(tcg_ctx, tcg_ctx->cpu_env);
    }
}

/* Behind an instruction that may be left early, or after which others are translated otherwise. */
static void gen_x87_end(DisasContext *s)
{
    gen_jmp_im(s, s->pc - s->cs_base);
    gen_jr(s, s->tmp0);
}
