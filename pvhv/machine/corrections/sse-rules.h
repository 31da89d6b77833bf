/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What SSE instructions have in common beside what each of them calculates: looked at once, before one is translated.
 *
 * The operand of 16 bytes in memory must be aligned, but for the moves that say otherwise and PCMPxSTRx. Whatever may
 * raise a floating-point exception is surrounded by two calls where one is unmasked (sse-helpers.h).
 *
 * Read beside it: AMD64 Architecture Programmer's Manual, volume 4 (each instruction's exceptions).
 */
#pragma once

#include "pvhv/opcode-rules.h"

/* Of four maps by their prefix: none, 66, F3, F2. */
enum { NO_PREFIX, PREFIX_66, PREFIX_F3, PREFIX_F2 };

static int sse_map(const DisasContext *s)
{
    return s->prefix & PREFIX_REPZ ? PREFIX_F3 : s->prefix & PREFIX_REPNZ ? PREFIX_F2
         : s->prefix & PREFIX_DATA ? PREFIX_66 : NO_PREFIX;
}

/* `b` is the opcode's last byte but for the maps 38 and 3A, where that is `third`. */
static bool sse_may_raise(int b, int third)
{
    switch (b) {
    case 0x2a: case 0x2c: case 0x2d: case 0x2e: case 0x2f: /* CVT to and from integers, UCOMISx, COMISx */
    case 0x51: case 0x7c: case 0x7d: case 0xc2: case 0xd0: case 0xe6: /* SQRT HADD HSUB CMP ADDSUB CVT */
        return true;
    case 0x3a:
        return (third >= 0x08 && third <= 0x0b) || third == 0x40 || third == 0x41; /* ROUND, DPPS, DPPD */
    }
    return b >= 0x58 && b <= 0x5f; /* ADD MUL CVT SUB MIN DIV MAX */
}

/* Operands that are smaller than the register: of CVTPS2PI, CVTTPS2PI, CVTPS2PD, CVTDQ2PD, ROUNDSD; of ROUNDSS. */
static int sse_bytes(int b, int map, int third)
{
    switch (b) {
    case 0x2c: case 0x2d: case 0x5a:
        return map == NO_PREFIX ? 8 : 16;
    case 0xe6:
        return map == PREFIX_F3 ? 8 : 16;
    case 0x3a:
        return third == 0x0b ? 8 : third == 0x0a ? 4 : 16;
    }
    return 16;
}

static bool sse_may_be_unaligned(int b, int map, int third)
{
    switch (b) {
    case 0x10: case 0x11: /* MOVUPS, MOVUPD */
        return true;
    case 0x6f: case 0x7f: /* MOVDQU, not MOVDQA */
        return map == PREFIX_F3;
    case 0xf0: /* LDDQU */
        return true;
    case 0x3a:
        return (third & 0xfc) == 0x60;
    }
    return false;
}

/* Whether an instruction has to do with an MMX register; which is then the x87's, with TOP 0 and all of them valid. */
static bool sse_touches_mmx(int b, int map, int third, int modrm)
{
    switch (b) {
    case 0x2a: /* CVT from an MMX register, but not from memory */
        return map < PREFIX_F3 && MODRM_MOD(modrm) == 3;
    case 0x2c: case 0x2d: /* CVT to one */
        return map < PREFIX_F3;
    case 0x38: case 0x3a:
        return map == NO_PREFIX && third < 0xf0; /* not MOVBE */
    case 0xd6: /* MOVQ2DQ, MOVDQ2Q */
        return map >= PREFIX_F3;
    case 0x77: /* EMMS */
    case 0xc2: case 0xc6:
        return false;
    }
    return map == NO_PREFIX && b >= 0x60;
}

/* The MMX register that such an instruction writes, or -1. */
static int sse_writes_mmx(int b, int map, int modrm)
{
    switch (b) {
    case 0x2a: case 0x7e: case 0xc5: case 0xd7: case 0xe7: case 0xf7: /* to XMM, general registers, memory */
        return -1;
    case 0x71: case 0x72: case 0x73: /* shifts by a constant */
        return modrm & 7;
    case 0x7f: /* MOVQ */
        return MODRM_MOD(modrm) == 3 ? modrm & 7 : -1;
    case 0xd6:
        return map == PREFIX_F2 ? MODRM_REG(modrm) : -1;
    }
    return MODRM_REG(modrm);
}

#undef gen_helper_enter_mmx /* x87-rules.h */

static void gen_sse(CPUX86State *env, DisasContext *s, int b, target_ulong pc_start, int rex_r)
{
    TCGContext *tcg_ctx = s->uc->tcg_ctx;
    int map = sse_map(s), third = translator_ldub(tcg_ctx, env, s->pc), modrm = third, bytes, written;
    bool watched, mmx;

    b &= 0xff;
    if (b == 0x38 || b == 0x3a) {
        modrm = translator_ldub(tcg_ctx, env, s->pc + 1);
    }
    bytes = sse_bytes(b, map, third);
    s->sse_short = bytes < 16;
    s->sse_first = bytes == 4 ? MO_LEUL : bytes == 8 || sse_may_be_unaligned(b, map, third) ? MO_LEQ
                 : MO_LEQ | MO_ALIGN_16;
    mmx = sse_touches_mmx(b, map, third, modrm);
    watched = (s->flags & HF_SSE_UNMASKED_MASK) && sse_may_raise(b, third);
    if (mmx || b == 0x77) {
        gen_x87_wait(s);
    }
    if (watched) {
        gen_helper_sse_begin(tcg_ctx, tcg_ctx->cpu_env, tcg_const_i32(tcg_ctx, MODRM_REG(modrm) | rex_r));
    }
    gen_sse_itself(env, s, b, pc_start, rex_r);
    if (s->base.is_jmp == DISAS_NORETURN) {
        return;
    }
    if (mmx) {
        gen_helper_enter_mmx(tcg_ctx, tcg_ctx->cpu_env);
    }
    if (watched) {
        gen_helper_sse_end(tcg_ctx, tcg_ctx->cpu_env);
    }
    written = mmx ? sse_writes_mmx(b, map, modrm) : -1;
    if (written >= 0) {
        tcg_gen_st16_i32(tcg_ctx, tcg_const_i32(tcg_ctx, 0xffff), tcg_ctx->cpu_env,
                         offsetof(CPUX86State, fpregs[written].d.high));
    }
}
