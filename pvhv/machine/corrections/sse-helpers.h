/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What SSE does about floating-point exceptions, and the few of its instructions whose results were others.
 *
 * With every exception masked the flags gather in the softfloat status, and nothing here is called until MXCSR is read.
 * Where one is unmasked, each instruction that may raise some stands between helper_sse_begin and helper_sse_end
 * (sse-rules.h): these keep what it overwrites, and put it back where it traps.
 *
 * Read beside it: AMD64 Architecture Programmer's Manual, volume 1, 4.10 (SIMD floating-point exceptions).
 */
#pragma once

#define SSE_FLAGS 0x3f
#define SSE_IE_DE_ZE 0x07 /* those that show before the operation: with one of them unmasked, it does not take place */
#define SSE_OM 0x0400
#define SSE_UM 0x0800
#define SSE_PM 0x1000
#define SSE_RESERVED 0xffff0000u
#define SSE_UNMASKED(mxcsr) (~(mxcsr) >> 7 & SSE_FLAGS)

void helper_update_mxcsr(CPUX86State *env)
{
    cpu_get_mxcsr(env);
}

static void check_mxcsr_image(CPUX86State *env, target_ulong ptr, uintptr_t ra)
{
    if (cpu_ldl_data_ra(env, ptr + offsetof(X86XSaveArea, legacy.mxcsr), ra) & SSE_RESERVED) {
        raise_exception_ra(env, EXCP0D_GPF, ra);
    }
}

/* `reg` is the number of the destination, whether that is an XMM, an MMX or a general register. */
void helper_sse_begin(CPUX86State *env, uint32_t reg)
{
    uint32_t mxcsr = cpu_get_mxcsr(env);

    env->before_sse.xmm[0] = env->xmm_regs[reg].ZMM_Q(0);
    env->before_sse.xmm[1] = env->xmm_regs[reg].ZMM_Q(1);
    env->before_sse.mmx = env->fpregs[reg & 7].mmx.MMX_Q(0);
    env->before_sse.general = env->regs[reg];
    env->before_sse.cc_src = env->cc_src;
    env->before_sse.reg = reg;
    /* A PE that is masked may as well stay: it is what lets the library calculate on the host. */
    set_float_exception_flags(mxcsr & SSE_PM ? mxcsr & float_flag_inexact : 0, &env->sse_status);
}

void helper_sse_end(CPUX86State *env)
{
    uint32_t raised = get_float_exception_flags(&env->sse_status);
    uint32_t unmasked = SSE_UNMASKED(env->mxcsr), reg = env->before_sse.reg;

    raised &= raised & unmasked & SSE_IE_DE_ZE ? SSE_IE_DE_ZE : SSE_FLAGS;
    env->mxcsr |= raised;
    set_float_exception_flags(env->mxcsr & SSE_FLAGS, &env->sse_status);
    if (raised & unmasked) {
        env->xmm_regs[reg].ZMM_Q(0) = env->before_sse.xmm[0];
        env->xmm_regs[reg].ZMM_Q(1) = env->before_sse.xmm[1];
        env->fpregs[reg & 7].mmx.MMX_Q(0) = env->before_sse.mmx;
        env->regs[reg] = env->before_sse.general;
        env->cc_src = env->before_sse.cc_src;
        raise_exception_ra(env, env->cr[4] & CR4_OSXMMEXCPT_MASK ? EXCP13_XF : EXCP06_ILLOP, GETPC());
    }
}

bool is_within(CPUX86State *env, target_ulong address, int size); /* fault-details.h */

/* An operand that is not aligned, of an instruction that wants it so. */
void x86_cpu_do_unaligned_access(CPUState *cs, vaddr address, MMUAccessType type, int mmu_index, uintptr_t ra)
{
    CPUX86State *env = cs->env_ptr;

    int size = 1 << env->uc->pvhv.alignment;

    if (size >= 16) { /* SSE's operands */
        raise_exception_err_ra(env, EXCP0D_GPF, 0, ra);
    } else if (env->cr[0] & CR0_AM_MASK && is_within(env, address, size)) { /* alignment.toml */
        raise_exception_err_ra(env, EXCP11_ALGN, 0, ra);
    }
}

/* The comparisons that ops_sse.h uses, by the one that notes denormal operands. */
#define float32_lt(a, b, s) (float32_compare(a, b, s) == float_relation_less)
#define float64_lt(a, b, s) (float64_compare(a, b, s) == float_relation_less)
#define float32_le(a, b, s) (float32_compare(a, b, s) <= float_relation_equal)
#define float64_le(a, b, s) (float64_compare(a, b, s) <= float_relation_equal)
#define float32_eq_quiet(a, b, s) (float32_compare_quiet(a, b, s) == float_relation_equal)
#define float64_eq_quiet(a, b, s) (float64_compare_quiet(a, b, s) == float_relation_equal)
#define float32_unordered_quiet(a, b, s) (float32_compare_quiet(a, b, s) == float_relation_unordered)
#define float64_unordered_quiet(a, b, s) (float64_compare_quiet(a, b, s) == float_relation_unordered)

/* This is exact, whatever the mode. */
static inline float64 double_of(int32_t value)
{
    union { double value; float64 bits; } exact = { .value = value };

    return exact.bits;
}
#define int32_to_float64(a, s) double_of(a)

/* As the library does it for additions: by the host, where PE is set already and the result is plainly a normal one. */
static inline float32 float_of(float64 a, float_status *s)
{
    union { double value; float64 bits; } from = { .bits = a };
    union { float value; float32 bits; } to = { .value = (float)from.value };

    if (likely(s->float_exception_flags & float_flag_inexact && s->float_rounding_mode == float_round_nearest_even) &&
        (to.bits & 0x7fffffff) - 0x00800001 < 0x7f800000 - 0x00800001) {
        return to.bits;
    }
    return (float64_to_float32)(a, s);
}
#define float64_to_float32(a, s) float_of(a, s)

/* MIN and MAX give one of their operands, as DAZ makes it. */
#define SSE_OPERAND(size, a) \
    (unlikely(env->sse_status.flush_inputs_to_zero) && float##size##_is_denormal(a) ? (a) & 1ull << (size - 1) : (a))

/* ---- RCP and RSQRT: nothing is raised, denormals are zeroes. How exact they are is each processor's affair: here, quite,
 * so that they are the same on every host. ---- */
static float32 flush32(float32 a)
{
    return float32_is_denormal(a) ? a & 0x80000000u : a;
}

static float32 rcp32(float32 a)
{
    float_status quiet = { 0 };

    return flush32(float32_div(float32_one, flush32(a), &quiet));
}

static float32 rsqrt32(float32 a)
{
    float_status quiet = { 0 };

    return float32_div(float32_one, float32_sqrt(flush32(a), &quiet), &quiet);
}

#define EACH_OF_FOUR(name)                                          \
    void helper_##name##ps(CPUX86State *env, ZMMReg *d, ZMMReg *s)  \
    {                                                               \
        for (int i = 0; i < 4; i++) {                               \
            d->ZMM_S(i) = name##32(s->ZMM_S(i));                       \
        }                                                           \
    }                                                               \
    void helper_##name##ss(CPUX86State *env, ZMMReg *d, ZMMReg *s)  \
    {                                                               \
        d->ZMM_S(0) = name##32(s->ZMM_S(0));                           \
    }
EACH_OF_FOUR(rcp)
EACH_OF_FOUR(rsqrt)

/* ---- ROUND: by the mode in MXCSR or in the instruction, with PE or without ---------------------------------------- */
static float_status round_as(CPUX86State *env, uint32_t mode)
{
    float_status status = env->sse_status;

    if (!(mode & 4)) {
        status.float_rounding_mode = mode & 3; /* the two number them alike */
    }
    return status;
}

static void round_done(CPUX86State *env, uint32_t mode, const float_status *status)
{
    env->sse_status.float_exception_flags |= status->float_exception_flags & ~(mode & 8 ? float_flag_inexact : 0);
}

#define ROUND(name, size, number, field)                                                        \
    void helper_round##name##_xmm(CPUX86State *env, ZMMReg *d, ZMMReg *s, uint32_t mode)        \
    {                                                                                           \
        float_status status = round_as(env, mode);                                              \
        for (int i = 0; i < number; i++) {                                                      \
            d->field(i) = float##size##_round_to_int(s->field(i), &status);                     \
        }                                                                                       \
        round_done(env, mode, &status);                                                         \
    }
ROUND(ps, 32, 4, ZMM_S)
ROUND(ss, 32, 1, ZMM_S)
ROUND(pd, 64, 2, ZMM_D)
ROUND(sd, 64, 1, ZMM_D)

/* ---- DPPS, DPPD: multiplications, then additions in pairs; what the mask leaves out is +0 -------------------------- */
#define DOT(name, size, number, field)                                                                      \
    void helper_dp##name##_xmm(CPUX86State *env, ZMMReg *d, ZMMReg *s, uint32_t mask)                       \
    {                                                                                                       \
        float_status *status = &env->sse_status;                                                            \
        float##size sum[number];                                                                            \
        for (int i = 0; i < number; i++) {                                                                  \
            sum[i] = mask >> (4 + i) & 1 ? float##size##_mul(d->field(i), s->field(i), status) : 0;         \
        }                                                                                                   \
        for (int n = number; n > 1; n /= 2) {                                                               \
            if (unlikely(status->float_exception_flags & SSE_UNMASKED(env->mxcsr))) {                       \
                return; /* each step may trap, and the next is not taken then */                            \
            }                                                                                               \
            for (int i = 0; i < n / 2; i++) {                                                               \
                sum[i] = float##size##_add(sum[2 * i], sum[2 * i + 1], status);                             \
            }                                                                                               \
        }                                                                                                   \
        for (int i = 0; i < number; i++) {                                                                  \
            d->field(i) = mask >> i & 1 ? sum[0] : 0;                                                       \
        }                                                                                                   \
    }
DOT(ps, 32, 4, ZMM_S)
DOT(pd, 64, 2, ZMM_D)
