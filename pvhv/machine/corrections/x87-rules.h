/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * How x87 and MMX instructions wait for exceptions that are pending (x87.h), looked at before one is translated.
 *
 * Read beside it: AMD64 Architecture Programmer's Manual, volume 5 (each instruction's exceptions).
 */
#pragma once

/* What loads looks itself whether there is room, and pushes. */
#define gen_helper_fpush(tcg_ctx, env) ((void)0)

/* An MMX instruction makes the x87's registers its own when it is done, not before it may fault (sse-rules.h). */
#define gen_helper_enter_mmx(tcg_ctx, env) ((void)0)

/* FNSTENV, FNSTCW, FNSAVE, FNSTSW; FNCLEX, FNINIT and their like. `op` is two octal digits: opcode and ModRM.reg. */
static bool x87_waits(int op, int mod, int rm)
{
    return mod == 3 ? op != 034 && op != 074 : op != 016 && op != 017 && op != 056 && op != 057;
}

static inline void gen_goto_tb(DisasContext *s, int tb_num, target_ulong eip);

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

/* A store is done. */
static void gen_x87_stored(DisasContext *s)
{
    TCGContext *tcg_ctx = s->uc->tcg_ctx;

    tcg_gen_ld8u_i32(tcg_ctx, s->tmp2_i32, tcg_ctx->cpu_env, offsetof(CPUX86State, fp_stored));
    tcg_gen_st8_i32(tcg_ctx, s->tmp2_i32, tcg_ctx->cpu_env, offsetof(CPUX86State, fp_status.float_exception_flags));
    if (x87_is_watched(s)) {
        gen_helper_fst_done(tcg_ctx, tcg_ctx->cpu_env);
    }
}

/* Behind an instruction after which others may have to be translated otherwise, by what is unmasked then. */
static void gen_end_by_masks(DisasContext *s)
{
    TCGContext *tcg_ctx = s->uc->tcg_ctx;
    TCGLabel *otherwise = gen_new_label(tcg_ctx);
    target_ulong next = s->pc - s->cs_base;

    gen_update_cc_op(s);
    if (s->jmp_opt) {
        tcg_gen_ld_i32(tcg_ctx, s->tmp2_i32, tcg_ctx->cpu_env, offsetof(CPUX86State, fp_unmasked));
        tcg_gen_brcondi_i32(tcg_ctx, TCG_COND_NE, s->tmp2_i32,
                            s->flags & (HF_SSE_UNMASKED_MASK | HF_X87_UNMASKED_MASK), otherwise);
        gen_goto_tb(s, 0, next);
        gen_set_label(tcg_ctx, otherwise);
    }
    gen_jmp_im(s, next);
    gen_jr(s, s->tmp0);
}
