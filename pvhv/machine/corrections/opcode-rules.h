/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What makes an instruction undefined whatever its operands are, looked at once before it is translated.
 *
 * Read beside it: AMD64 Architecture Programmer's Manual, volume 3, 1.2.5 (LOCK) and appendix A (the opcode maps).
 */
#pragma once

#include "pvhv/lockable.h"

/* Opcodes of the 0F map that are not all there. `bits` are ModRM's reg fields that exist, `form` where its operand may be:
 * in MEMORY, in a REGISTER, or EITHER; PLAIN ones take no 66, F2 or F3. */
enum { MEMORY = 1, REGISTER = 2, EITHER = 3, PLAIN = 4 };

static const struct partial_opcode {
    uint8_t opcode, bits, form;
} partial_opcodes[] = {
    {0x13, ANY_REG, MEMORY},          /* MOVLPS, MOVLPD to memory */
    {0x17, ANY_REG, MEMORY},          /* MOVHPS, MOVHPD to memory */
    {0x18, ANY_REG, EITHER},          /* PREFETCHn: of a register, it does nothing */
    {0x2b, ANY_REG, MEMORY},          /* MOVNTPS, MOVNTPD */
    {0x50, ANY_REG, REGISTER},        /* MOVMSKPS, MOVMSKPD */
    {0x71, 1 << 2 | 1 << 4 | 1 << 6, REGISTER},
    {0x72, 1 << 2 | 1 << 4 | 1 << 6, REGISTER},
    {0x73, 1 << 2 | 1 << 3 | 1 << 6 | 1 << 7, REGISTER}, /* PSRLDQ and PSLLDQ (3, 7) are checked where they are translated */
    {0x78, 0, EITHER}, {0x79, 0, EITHER}, /* EXTRQ, INSERTQ: SSE4A */
    {0xae, ANY_REG, EITHER | PLAIN},  /* FXSAVE and fences; with prefixes CLWB, CLFLUSHOPT, RDFSBASE, UMONITOR */
    {0xba, 0xf0, EITHER},             /* BT, BTS, BTR, BTC by a constant */
    {0xc3, ANY_REG, MEMORY | PLAIN},  /* MOVNTI */
    {0xc5, ANY_REG, REGISTER},        /* PEXTRW */
    {0xd7, ANY_REG, REGISTER},        /* PMOVMSKB */
    {0xe7, ANY_REG, MEMORY},          /* MOVNTQ, MOVNTDQ */
    {0xf7, ANY_REG, REGISTER},        /* MASKMOVQ, MASKMOVDQU */
};

static bool is_partial(DisasContext *s, int opcode, int modrm)
{
    for (size_t n = 0; n < ARRAY_SIZE(partial_opcodes); n++) {
        const struct partial_opcode *partial = &partial_opcodes[n];
        if (partial->opcode == opcode) {
            return !(partial->bits >> MODRM_REG(modrm) & 1)
                || !(partial->form & (MODRM_MOD(modrm) == 3 ? REGISTER : MEMORY))
                || (partial->form & PLAIN && s->prefix & (PREFIX_DATA | PREFIX_REPZ | PREFIX_REPNZ));
        }
    }
    return false;
}

/* Of the 0F map; `next` is where its ModRM byte is, if it has one. */
static bool is_undefined_0f(CPUX86State *env, DisasContext *s, int opcode, int rex_r, target_ulong next)
{
    int modrm;

    switch (opcode) {
    case 0x0e: case 0x0f: /* FEMMS, 3DNow! */
        return !(s->cpuid_ext2_features & CPUID_EXT2_3DNOW);
    case 0x20: case 0x22: { /* MOV CRn: 0, 2, 3, 4, 8 */
        int cr = MODRM_REG(translator_ldub(s->uc->tcg_ctx, env, next)) | rex_r;
        return !(0x11d >> cr & 1);
    }
    case 0x21: case 0x23: /* MOV DRn: 0 to 7 */
        return rex_r != 0;
    case 0x2b:
        if (s->prefix & (PREFIX_REPZ | PREFIX_REPNZ)) { /* MOVNTSS, MOVNTSD: SSE4A */
            return true;
        }
        break;
    case 0x38: /* MOVBE of a register (with F2 it is CRC32) */
        opcode = translator_ldub(s->uc->tcg_ctx, env, next);
        return (opcode & 0xfe) == 0xf0 && !(s->prefix & PREFIX_REPNZ)
            && MODRM_MOD(translator_ldub(s->uc->tcg_ctx, env, next + 1)) == 3;
    case 0xd6: /* MOVQ to a register or memory; MOVQ2DQ and MOVDQ2Q between registers */
        if (!(s->prefix & (PREFIX_DATA | PREFIX_REPZ | PREFIX_REPNZ))) {
            return true;
        }
        return s->prefix & (PREFIX_REPZ | PREFIX_REPNZ)
            && MODRM_MOD(translator_ldub(s->uc->tcg_ctx, env, next)) != 3;
    case 0x12: case 0x16: /* MOVLPD, MOVHPD from memory; MOVHLPS and the others take registers */
        return (s->prefix & (PREFIX_DATA | PREFIX_REPZ | PREFIX_REPNZ)) == PREFIX_DATA
            && MODRM_MOD(translator_ldub(s->uc->tcg_ctx, env, next)) == 3;
    case 0x13: case 0x17: case 0x18: case 0x50: case 0x71: case 0x72: case 0x73: case 0x78: case 0x79: case 0xae: case 0xba:
    case 0xc3: case 0xc5: case 0xd7: case 0xe7: case 0xf7:
        break;
    default:
        return false;
    }
    modrm = translator_ldub(s->uc->tcg_ctx, env, next);
    return is_partial(s, opcode, modrm);
}

/* The opcode `b` has been read. What follows it is only looked at where it decides, and belongs to the instruction there. */
static bool is_undefined(CPUX86State *env, DisasContext *s, int b, int rex_r)
{
    target_ulong next = s->pc;
    int modrm;

    if (s->prefix & PREFIX_VEX && !(s->cpuid_ext_features & CPUID_EXT_AVX)) {
        return true;
    }
    if (b == 0x0f) {
        b = 0x100 | translator_ldub(s->uc->tcg_ctx, env, next++);
    }
    if (s->prefix & PREFIX_LOCK) {
        if (!lockable(b)) {
            return true;
        }
        modrm = translator_ldub(s->uc->tcg_ctx, env, next);
        return MODRM_MOD(modrm) == 3 || !(lockable(b) >> MODRM_REG(modrm) & 1);
    }
    if (b & 0x100) {
        return is_undefined_0f(env, s, b & 0xff, rex_r, next);
    }
    if (b == 0x8f) { /* POP is /0; the others are XOP, which is not there */
        return MODRM_REG(translator_ldub(s->uc->tcg_ctx, env, next)) != 0;
    }
    if (b == 0xc6 || b == 0xc7) { /* MOV of an immediate is /0; /7 is XABORT, XBEGIN */
        return MODRM_REG(translator_ldub(s->uc->tcg_ctx, env, next)) != 0;
    }
    if (b == 0xff) { /* far CALL and JMP are through memory; there is no /7, whatever its operand */
        modrm = translator_ldub(s->uc->tcg_ctx, env, next);
        return MODRM_REG(modrm) == 7 || (MODRM_MOD(modrm) == 3 && (MODRM_REG(modrm) == 3 || MODRM_REG(modrm) == 5));
    }
    return false;
}
