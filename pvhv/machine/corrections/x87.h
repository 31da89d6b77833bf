/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The x87's instructions, with what they do to the status word: exception flags, stack faults, C1.
 *
 * With every exception masked the flags gather in the softfloat status, and are taken to the status word where that is
 * looked at (cpu_get_fpus). Where one is unmasked (x87_watched) each instruction settles what it raised before it stores
 * anything: it is left without an effect if the exception is of a kind that forbids one, and the next waiting
 * instruction raises #MF (x87-rules.h). An instruction is the last of its block then, so where the next one begins is known.
 *
 * An operand from an empty register is an encoding that the library refuses: it gives an invalid operation and the
 * indefinite value by itself.
 *
 * Read beside it: AMD64 Architecture Programmer's Manual, volume 1, 6.8 (x87 exceptions); volume 5.
 */
#pragma once

#define X87_FLAGS 0x3f
#define X87_C1 0x0200
#define X87_CONDITIONS 0x4700
#define X87_IE_DE_ZE 0x07
#define X87_OE_UE 0x18
#define X87_SETS_EFLAGS 0x100 /* beside what forbids to store: EFLAGS is set all the same */

/* Where C1 is: the result was rounded up, or a stack fault is an overflow. cpu_get_fpus takes it to the status word. */
#define X87_C1_FLAG float_flag_output_denormal

/* What is called so leaves its caller's registers alone: that need not keep any for the case that it is called. */
#define SELDOM __attribute__((noinline, cold, preserve_most))
#define ALWAYS_INLINE inline __attribute__((always_inline))

#define IS_SMALL(a) (!((a).high & 0x7fff)) /* zero or a denormal */
#define IS_DENORMAL(a) (IS_SMALL(a) && (a).low)
#define IS_SIGNALLING(a) (((a).high & 0x7fff) == 0x7fff && !((a).low >> 62 & 1) && (a).low << 2)
#define IS_REFUSED(a) ((a).high == REFUSED.high && (a).low == REFUSED.low)
static const floatx80 REFUSED = { 0xe3b0c442, 1 };

static inline void x87_set_c1(CPUX86State *env, bool c1)
{
    env->fp_status.float_exception_flags &= ~X87_C1_FLAG;
    env->fp_status.float_exception_flags |= c1 ? X87_C1_FLAG : 0;
}

static inline void x87_raise(CPUX86State *env, uint32_t flags)
{
    env->fp_status.float_exception_flags |= flags;
}

/* The control word or the flags are other ones. */
static void x87_changed(CPUX86State *env)
{
    cpu_get_fpus(env);
    env->fp_status.float_exception_flags &= X87_C1_FLAG;
    env->fpus &= ~(FPUS_SE | FPUS_B);
    env->fpus |= env->fpus & ~env->fpuc & X87_FLAGS ? FPUS_SE | FPUS_B : 0;
    env->fp_unmasked &= ~HF_X87_UNMASKED_MASK;
    env->fp_unmasked |= ~env->fpuc & X87_FLAGS ? HF_X87_UNMASKED_MASK : 0;
}

static void x87_clear_flags(CPUX86State *env)
{
    env->fp_status.float_exception_flags &= X87_C1_FLAG;
    env->fpus &= ~(X87_FLAGS | FPUS_SF | FPUS_SE | FPUS_B);
}

/* The instruction ends here. */
static void QEMU_NORETURN x87_leave(CPUX86State *env, bool sets_eflags, uintptr_t ra)
{
    CPUState *cs = env_cpu(env);
    TranslationBlock *tb = tcg_tb_lookup(cs->uc->tcg_ctx, ra);

    cpu_restore_state(cs, ra, true);
    env->cc_op = sets_eflags ? CC_OP_EFLAGS : env->cc_op;
    env->fpip = env->eip;
    env->fpcs = env->segs[R_CS].selector;
    env->eip = tb->pc + tb->size - tb->cs_base;
    cpu_loop_exit_noexc(cs);
}

static SELDOM void x87_settle(CPUX86State *env, uint32_t forbidding, uintptr_t ra)
{
    uint32_t flags = env->fp_status.float_exception_flags, raised = flags & X87_FLAGS;
    uint32_t unmasked = raised & ~env->fpuc;

    if (unmasked & X87_IE_DE_ZE) {
        raised &= X87_IE_DE_ZE;
        if (!(raised & FPUS_IE || forbidding & X87_SETS_EFLAGS)) {
            flags = 0; /* nothing was rounded; else C1 is that of a stack fault, or stays */
        }
    } else if (unmasked & forbidding) {
        raised &= ~FPUS_PE;
        flags = 0;
    }
    env->fp_status.float_exception_flags = raised | (flags & X87_C1_FLAG);
    x87_changed(env);
    if (unmasked & forbidding) {
        x87_leave(env, forbidding & X87_SETS_EFLAGS, ra);
    }
}

/* C1 is clear until an instruction says otherwise. */
static inline void x87_clear_c1(CPUX86State *env)
{
    env->fp_status.float_exception_flags &= ~X87_C1_FLAG;
}

/* Nor does it matter, where this is said, what kind of operand there was. */
static inline void x87_begin(CPUX86State *env)
{
    env->fp_status.float_exception_flags &= ~(X87_C1_FLAG | float_flag_input_denormal);
}

/* Everything is calculated, and nothing stored. */
static inline void x87_done(CPUX86State *env, uint32_t forbidding, uintptr_t ra)
{
    if (unlikely(env->fp_unmasked & HF_X87_UNMASKED_MASK)) {
        x87_settle(env, forbidding, ra);
    }
}

static inline bool x87_is_empty(CPUX86State *env, int n)
{
    return env->fptags[(env->fpstt + n) & 7];
}

/* A value is loaded in two parts as it is stored: of one load the processor would have to wait for both stores. */
static inline floatx80 x87_get(const volatile floatx80 *from)
{
    return make_floatx80(from->high, from->low);
}

static inline void x87_put(volatile floatx80 *to, floatx80 value)
{
    to->low = value.low;
    to->high = value.high;
}

static inline floatx80 x87_register(CPUX86State *env, int n)
{
    return x87_get(&ST(n));
}

/* ST(n), to calculate with. */
static inline floatx80 x87_operand(CPUX86State *env, int n)
{
    floatx80 a = x87_register(env, n);

    if (unlikely(x87_is_empty(env, n))) {
        env->fpus |= FPUS_SF;
        return REFUSED;
    }
    if (unlikely(IS_SMALL(a)) && a.low >> 63) { /* written as a denormal, it is a normal number */
        x87_raise(env, float_flag_input_denormal);
        a.high |= 1;
    }
    return a;
}

static SELDOM void x87_note_stack_fault(CPUX86State *env, uint32_t c1_flag)
{
    env->fpus |= FPUS_SF;
    x87_raise(env, float_flag_invalid | c1_flag);
}

static inline floatx80 x87_stack_fault(CPUX86State *env, uint32_t c1_flag)
{
    x87_note_stack_fault(env, c1_flag);
    return make_floatx80(0xffff, 3ull << 62); /* the indefinite value */
}

/* ST(n), to move about. */
static inline floatx80 x87_value(CPUX86State *env, int n)
{
    return unlikely(x87_is_empty(env, n)) ? x87_stack_fault(env, 0) : x87_register(env, n);
}

static inline void x87_store(CPUX86State *env, int n, floatx80 value)
{
    int reg = (env->fpstt + n) & 7;

    x87_put(&env->fpregs[reg].d, value);
    env->fptags[reg] = 0;
}

static inline void x87_push(CPUX86State *env, floatx80 value, uintptr_t ra)
{
    x87_begin(env);
    if (unlikely(!x87_is_empty(env, -1))) {
        value = x87_stack_fault(env, X87_C1_FLAG);
    }
    x87_done(env, FPUS_IE, ra);
    env->fpstt = (env->fpstt - 1) & 7;
    x87_store(env, 0, value);
}

/* DE counts where no operand is a NaN, and nothing invalid or divided by zero. */
static inline floatx80 x87_result(CPUX86State *env, floatx80 a, floatx80 b, floatx80 result, bool infinite)
{
    if (unlikely(IS_SMALL(a) || IS_SMALL(b) || env->fp_status.float_exception_flags & float_flag_input_denormal)) {
        if (IS_DENORMAL(a) || IS_DENORMAL(b) || env->fp_status.float_exception_flags & float_flag_input_denormal) {
            x87_raise(env, floatx80_is_any_nan(result) || infinite ? 0 : float_flag_denormal);
        }
        env->fp_status.float_exception_flags &= ~float_flag_input_denormal;
    }
    return result;
}

/* ---- loads, and operands from memory ------------------------------------------------------------------------------ */

/* The value of a float or a double, whose fraction has so many bits; a NaN as it is, signalling or not. */
#define WIDEN(bits, type, fraction_bits, bias)                                                              \
    static inline floatx80 widen##bits(CPUX86State *env, type a)                                            \
    {                                                                                                       \
        const int most = (1 << (bits - 1 - fraction_bits)) - 1;                                             \
        int sign = a >> (bits - 1) << 15, exponent = a >> fraction_bits & most;                             \
        uint64_t fraction = (uint64_t)a << (64 - fraction_bits) >> 1;                                       \
        if (likely((unsigned)(exponent - 1) < (unsigned)most - 1)) {                                        \
            return make_floatx80(sign | (exponent + 0x3fff - bias), 1ull << 63 | fraction);                 \
        }                                                                                                   \
        if (exponent) {                                                                                     \
            return make_floatx80(sign | 0x7fff, 1ull << 63 | fraction);                                     \
        }                                                                                                   \
        x87_raise(env, fraction ? float_flag_input_denormal : 0);                                           \
        return float##bits##_to_floatx80(a, &env->fp_status);                                               \
    }
WIDEN(32, uint32_t, 23, 127)
WIDEN(64, uint64_t, 52, 1023)

static inline floatx80 x87_quiet(CPUX86State *env, floatx80 value)
{
    if (unlikely(IS_SIGNALLING(value))) {
        x87_raise(env, float_flag_invalid);
        value.low |= 1ull << 62;
    }
    return value;
}

static inline void x87_load(CPUX86State *env, floatx80 value, uintptr_t ra)
{
    if (likely(x87_is_empty(env, -1))) {
        value = x87_quiet(env, value);
        x87_result(env, value, value, value, false);
    }
    x87_push(env, value, ra);
}

void helper_flds_FT0(CPUX86State *env, uint32_t val) { x87_put(&FT0, widen32(env, val)); }
void helper_fldl_FT0(CPUX86State *env, uint64_t val) { x87_put(&FT0, widen64(env, val)); }
void helper_fildl_FT0(CPUX86State *env, int32_t val) { x87_put(&FT0, int32_to_floatx80(val, &env->fp_status)); }
void helper_fmov_FT0_STN(CPUX86State *env, int n) { x87_put(&FT0, x87_operand(env, n)); }
void helper_fldz_FT0(CPUX86State *env) { x87_put(&FT0, make_floatx80(0, 0)); }

void helper_flds_ST0(CPUX86State *env, uint32_t val) { x87_load(env, widen32(env, val), GETPC()); }
void helper_fldl_ST0(CPUX86State *env, uint64_t val) { x87_load(env, widen64(env, val), GETPC()); }
void helper_fildl_ST0(CPUX86State *env, int32_t val) { x87_push(env, int32_to_floatx80(val, &env->fp_status), GETPC()); }
void helper_fildll_ST0(CPUX86State *env, int64_t val) { x87_push(env, int64_to_floatx80(val, &env->fp_status), GETPC()); }
void helper_fldt_ST0(CPUX86State *env, target_ulong ptr) { x87_push(env, helper_fldt(env, ptr, GETPC()), GETPC()); }

void helper_fld_STN(CPUX86State *env, int n)
{
    floatx80 value = x87_register(env, n);

    if (unlikely(x87_is_empty(env, n))) { /* that counts before there being no room */
        x87_begin(env);
        value = x87_stack_fault(env, 0);
        x87_done(env, FPUS_IE, GETPC());
        env->fpstt = (env->fpstt - 1) & 7;
        x87_store(env, 0, value);
    } else {
        x87_push(env, value, GETPC());
    }
}

/* A constant, rounded as the control word says: the bits behind its 64 are `more`. */
static floatx80 x87_constant(CPUX86State *env, int exponent, uint64_t significand, bool more_than_half)
{
    int mode = env->fp_status.float_rounding_mode;

    significand += mode == float_round_up ? !more_than_half : 0;
    significand -= mode == float_round_down || mode == float_round_to_zero ? more_than_half : 0;
    return make_floatx80(exponent, significand);
}

void helper_fld1_ST0(CPUX86State *env) { x87_push(env, make_floatx80(0x3fff, 1ull << 63), GETPC()); }
void helper_fldz_ST0(CPUX86State *env) { x87_push(env, make_floatx80(0, 0), GETPC()); }

/* The significands are rounded to nearest; `true` where that was up. */
#define CONSTANT(name, exponent, significand, up)                                           \
    void helper_##name##_ST0(CPUX86State *env)                                              \
    {                                                                                       \
        x87_push(env, x87_constant(env, exponent, significand, up), GETPC());               \
    }
CONSTANT(fldl2t, 0x4000, 0xd49a784bcd1b8afeull, false)
CONSTANT(fldl2e, 0x3fff, 0xb8aa3b295c17f0bcull, true)
CONSTANT(fldpi, 0x4000, 0xc90fdaa22168c235ull, true)
CONSTANT(fldlg2, 0x3ffd, 0x9a209a84fbcff799ull, true)
CONSTANT(fldln2, 0x3ffe, 0xb17217f7d1cf79acull, true)

/* ---- stores: they may fault, and then have raised nothing ----------------------------------------------------------- */

/* What is raised when the store is done (gen_x87_stored); but what forbids it is raised now, and the instruction left. */
static inline void x87_storing(CPUX86State *env, uint32_t flags, uint32_t forbidding, uintptr_t ra)
{
    if (unlikely(env->fp_unmasked & HF_X87_UNMASKED_MASK) && flags & ~env->fpuc & X87_FLAGS & forbidding) {
        env->fp_status.float_exception_flags = flags;
        x87_settle(env, forbidding, ra);
    }
    env->fp_stored = flags;
}

void helper_fst_done(CPUX86State *env)
{
    x87_settle(env, 0, GETPC());
}

/* What is exact costs nothing more: most that is stored was loaded as such a number. */
#define NARROW(name, bits, type, fraction_bits, bias)                                                       \
    type helper_##name##_ST0(CPUX86State *env)                                                              \
    {                                                                                                       \
        const int most = (1 << (bits - 1 - fraction_bits)) - 1;                                             \
        floatx80 a = x87_quiet(env, x87_operand(env, 0));                                                   \
        int exponent = (a.high & 0x7fff) - (0x3fff - bias);                                                 \
        float_status status;                                                                                \
        type val;                                                                                           \
        x87_begin(env);                                                                                     \
        if (likely((unsigned)(exponent - 1) < (unsigned)most - 1 && a.low >> 63 && !(a.low << (fraction_bits + 1)))) {  \
            env->fp_stored = env->fp_status.float_exception_flags;                                          \
            val = (type)(a.high >> 15) << (bits - 1);                                                       \
            return val | (type)exponent << fraction_bits | (type)(a.low << 1 >> (64 - fraction_bits));      \
        }                                                                                                   \
        status = env->fp_status;                                                                            \
        val = floatx80_to_float##bits(a, &status);                                                          \
        x87_storing(env, status.float_exception_flags, X87_IE_DE_ZE | X87_OE_UE, GETPC());                  \
        return val;                                                                                         \
    }
NARROW(fsts, 32, uint32_t, 23, 127)
NARROW(fstl, 64, uint64_t, 52, 1023)

/* ST0 as an integer whose magnitude is `most` (or by one more, where it is negative and not `decimal`). */
static ALWAYS_INLINE int64_t x87_to_integer(CPUX86State *env, int64_t most, bool decimal, bool truncate, bool *valid,
                                            uintptr_t ra)
{
    floatx80 a = x87_operand(env, 0);
    float_status status = env->fp_status;
    int64_t val, cut;

    status.float_exception_flags = 0;
    val = truncate ? floatx80_to_int64_round_to_zero(a, &status) : floatx80_to_int64(a, &status);
    x87_begin(env);
    *valid = !(status.float_exception_flags & float_flag_invalid) && val <= most && val >= (decimal ? -most : -most - 1);
    if (unlikely(!*valid)) {
        status.float_exception_flags = float_flag_invalid;
    } else if (status.float_exception_flags && !truncate) {
        cut = floatx80_to_int64_round_to_zero(a, &status);
        status.float_exception_flags |= val != cut ? X87_C1_FLAG : 0;
    }
    x87_storing(env, env->fp_status.float_exception_flags | status.float_exception_flags, X87_IE_DE_ZE, ra);
    return val;
}

static ALWAYS_INLINE int64_t x87_store_integer(CPUX86State *env, int bits, bool truncate, uintptr_t ra)
{
    int64_t most = INT64_MAX >> (64 - bits);
    bool valid;
    int64_t val = x87_to_integer(env, most, false, truncate, &valid, ra);

    return valid ? val : -most - 1;
}

int32_t helper_fist_ST0(CPUX86State *env) { return x87_store_integer(env, 16, false, GETPC()); }
int32_t helper_fistl_ST0(CPUX86State *env) { return x87_store_integer(env, 32, false, GETPC()); }
int64_t helper_fistll_ST0(CPUX86State *env) { return x87_store_integer(env, 64, false, GETPC()); }
int32_t helper_fistt_ST0(CPUX86State *env) { return x87_store_integer(env, 16, true, GETPC()); }
int32_t helper_fisttl_ST0(CPUX86State *env) { return x87_store_integer(env, 32, true, GETPC()); }
int64_t helper_fisttll_ST0(CPUX86State *env) { return x87_store_integer(env, 64, true, GETPC()); }

void helper_fstt_ST0(CPUX86State *env, target_ulong ptr)
{
    floatx80 value = x87_value(env, 0);

    x87_begin(env);
    x87_done(env, X87_IE_DE_ZE, GETPC());
    helper_fstt(env, value, ptr, GETPC());
}

/* ---- moves --------------------------------------------------------------------------------------------------------- */
void helper_fpop(CPUX86State *env) { fpop(env); }

void helper_ffree_STN(CPUX86State *env, int n)
{
    env->fptags[(env->fpstt + n) & 7] = 1;
    x87_begin(env);
}

void helper_fdecstp(CPUX86State *env)
{
    env->fpstt = (env->fpstt - 1) & 7;
    x87_begin(env);
}

void helper_fincstp(CPUX86State *env)
{
    env->fpstt = (env->fpstt + 1) & 7;
    x87_begin(env);
}

/* FST ST(n). There is a form that looks at nothing, and does not copy an empty register: `8`. */
void helper_fmov_STN_ST0(CPUX86State *env, int n)
{
    floatx80 value = x87_register(env, 0);

    x87_begin(env);
    if (unlikely(x87_is_empty(env, 0))) {
        if (n & 8) {
            return;
        }
        value = x87_stack_fault(env, 0);
    }
    x87_done(env, X87_IE_DE_ZE, GETPC());
    x87_store(env, n, value);
}

/* FCMOVcc. Both registers are looked at whether it moves or not. */
void helper_fmov_ST0_STN(CPUX86State *env, int n, uint32_t move)
{
    if (x87_is_empty(env, 0) || x87_is_empty(env, n)) {
        floatx80 value = x87_stack_fault(env, 0);
        x87_begin(env);
        x87_done(env, X87_IE_DE_ZE, GETPC());
        x87_store(env, 0, value);
    } else if (move) {
        x87_store(env, 0, x87_register(env, n));
    }
}

void helper_fxchg_ST0_STN(CPUX86State *env, int n)
{
    floatx80 top = x87_value(env, 0), other = x87_value(env, n);

    x87_begin(env);
    x87_done(env, X87_IE_DE_ZE, GETPC());
    x87_store(env, 0, other);
    x87_store(env, n, top);
}

#define SIGN(name, function)                                        \
    void helper_##name##_ST0(CPUX86State *env)                      \
    {                                                               \
        bool empty = x87_is_empty(env, 0);                          \
        floatx80 value = x87_value(env, 0);                         \
        x87_begin(env);                                             \
        x87_done(env, X87_IE_DE_ZE, GETPC());                       \
        x87_store(env, 0, empty ? value : function(value));         \
    }
SIGN(fchs, floatx80_chs)
SIGN(fabs, floatx80_abs)

void helper_fxam_ST0(CPUX86State *env)
{
    floatx80 a = x87_register(env, 0);
    int exponent = a.high & 0x7fff, class;

    if (x87_is_empty(env, 0)) {
        class = 0x4100;
    } else if (!exponent) {
        class = a.low ? 0x4400 : 0x4000; /* denormal, zero */
    } else if (!(a.low >> 63)) {
        class = 0; /* unsupported */
    } else if (exponent == 0x7fff) {
        class = a.low << 1 ? 0x0100 : 0x0500; /* NaN, infinity */
    } else {
        class = 0x0400; /* normal */
    }
    env->fpus = (env->fpus & ~X87_CONDITIONS) | class;
    x87_set_c1(env, a.high >> 15);
}

/* ---- comparisons: what they say is said whatever is unmasked ---------------------------------------------------------- */
static ALWAYS_INLINE int x87_compare(CPUX86State *env, bool quiet)
{
    floatx80 a = x87_operand(env, 0);
    floatx80 b = x87_get(&FT0);
    int relation = quiet ? floatx80_compare_quiet(a, b, &env->fp_status) : floatx80_compare(a, b, &env->fp_status);

    x87_result(env, a, b, a, relation == float_relation_unordered);
    if (unlikely(relation == float_relation_unordered) && (IS_REFUSED(a) || IS_REFUSED(b))) {
        x87_clear_c1(env);
    }
    return relation + 1;
}

#define COMPARE_ST0_FT0(name, quiet)                                                                        \
    void helper_##name##_ST0_FT0(CPUX86State *env)                                                          \
    {                                                                                                       \
        static const uint16_t conditions[4] = { 0x0100, 0x4000, 0, 0x4500 };                                \
        x87_clear_c1(env);                                                                                  \
        env->fpus &= ~X87_CONDITIONS;                                                                       \
        env->fpus |= conditions[x87_compare(env, quiet)];                                                   \
        x87_done(env, X87_IE_DE_ZE, GETPC());                                                               \
    }                                                                                                       \
    void helper_##name##i_ST0_FT0(CPUX86State *env)                                                         \
    {                                                                                                       \
        static const uint8_t flags[4] = { CC_C, CC_Z, 0, CC_Z | CC_P | CC_C };                              \
        CC_SRC = flags[x87_compare(env, quiet)];                                                            \
        x87_done(env, X87_IE_DE_ZE | X87_SETS_EFLAGS, GETPC());                                             \
    }
COMPARE_ST0_FT0(fcom, false)
COMPARE_ST0_FT0(fucom, true)

/* ---- arithmetic ---------------------------------------------------------------------------------------------------- */
#define ARITHMETIC(name, operation, swapped, divides)                                                       \
    static inline void do_##name(CPUX86State *env, int to, floatx80 a, floatx80 b, uintptr_t ra)            \
    {                                                                                                       \
        floatx80 first = swapped ? b : a, second = swapped ? a : b, result;                                 \
        x87_clear_c1(env);                                                                                  \
        result = operation(first, second, &env->fp_status);                                        \
        bool infinite = divides && floatx80_is_zero(second) && !floatx80_is_infinity(first);                \
        result = x87_result(env, a, b, result, infinite);                                                   \
        x87_done(env, X87_IE_DE_ZE, ra);                                                                    \
        x87_store(env, to, result);                                                                         \
    }                                                                                                       \
    void helper_##name##_ST0_FT0(CPUX86State *env)                                                          \
    {                                                                                                       \
        do_##name(env, 0, x87_operand(env, 0), x87_get(&FT0), GETPC());                                             \
    }                                                                                                       \
    void helper_##name##_STN_ST0(CPUX86State *env, int n)                                                   \
    {                                                                                                       \
        do_##name(env, n & 8 ? 0 : n, x87_operand(env, n), x87_operand(env, 0), GETPC());                   \
    }
ARITHMETIC(fadd, floatx80_add, false, false)
ARITHMETIC(fmul, floatx80_mul, false, false)
ARITHMETIC(fsub, floatx80_sub, false, false)
ARITHMETIC(fsubr, floatx80_sub, true, false)
ARITHMETIC(fdiv, floatx80_div, false, true)
ARITHMETIC(fdivr, floatx80_div, true, true)

static floatx80 round_to_integer(floatx80 a, float_status *status)
{
    floatx80 result = floatx80_round_to_int(a, status);

    if (!floatx80_is_any_nan(result) && (result.high > a.high || (result.high == a.high && result.low > a.low))) {
        float_raise(X87_C1_FLAG, status);
    }
    return result;
}

#define OF_ST0(name, operation)                                                             \
    void helper_##name(CPUX86State *env)                                                    \
    {                                                                                       \
        floatx80 a = x87_operand(env, 0), result;                                           \
        x87_clear_c1(env);                                                                  \
        result = operation(a, &env->fp_status);                                             \
        x87_result(env, a, a, result, false);                                               \
        x87_done(env, X87_IE_DE_ZE, GETPC());                                               \
        x87_store(env, 0, result);                                                          \
    }
OF_ST0(fsqrt, floatx80_sqrt)
OF_ST0(frndint, round_to_integer)

/* ---- decimal integers ---------------------------------------------------------------------------------------------- */
void helper_fbld_ST0(CPUX86State *env, target_ulong ptr)
{
    uint64_t val = 0;
    bool negative = cpu_ldub_data_ra(env, ptr + 9, GETPC()) & 0x80;
    floatx80 value;

    for (int i = 8; i >= 0; i--) {
        unsigned digits = cpu_ldub_data_ra(env, ptr + i, GETPC());
        val = val * 100 + (digits >> 4) * 10 + (digits & 0xf);
    }
    value = int64_to_floatx80(val, &env->fp_status);
    x87_push(env, negative ? floatx80_chs(value) : value, GETPC());
}

void helper_fbst_ST0(CPUX86State *env, target_ulong ptr)
{
    uint8_t bytes[10] = { [7] = 0xc0, 0xff, 0xff }; /* the indefinite value */
    bool valid;
    int64_t val = x87_to_integer(env, 999999999999999999, true, false, &valid, GETPC());

    if (valid) {
        uint64_t left = val < 0 ? -val : val;
        for (int i = 0; i < 9; i++, left /= 100) {
            bytes[i] = left / 10 % 10 << 4 | left % 10;
        }
        bytes[9] = ST0.high >> 15 ? 0x80 : 0;
    }
    for (int i = 9; i >= 0; i--) {
        cpu_stb_data_ra(env, ptr + i, bytes[i], GETPC());
    }
    env->fp_status.float_exception_flags = env->fp_stored;
    x87_done(env, 0, GETPC());
}

/* ---- what only the processor knows exactly ------------------------------------------------------------------------- */
#if defined(__x86_64__)
/* FNSAVE's area. */
struct x87_image {
    uint32_t control, status, tags, pointers[4];
    uint8_t st[8][10];
} __attribute__((packed));

/* It has the exceptions masked that the guest has, so it knows as well what not to do. FNSAVE leaves none pending. */
static void x87_to_host(CPUX86State *env, struct x87_image *image)
{
    memset(image, 0, sizeof *image);
    cpu_get_fpus(env);
    image->control = env->fpuc;
    image->status = (env->fpus & X87_CONDITIONS) | env->fpstt << 11;
    for (int i = 0; i < 8; i++) {
        image->tags |= env->fptags[i] ? 3 << 2 * i : 0;
        memcpy(image->st[i], &ST(i), 10);
    }
}

static void x87_from_host(CPUX86State *env, const struct x87_image *image)
{
    env->fpus = (env->fpus & ~X87_CONDITIONS) | (image->status & (FPUS_SF | X87_CONDITIONS));
    x87_set_c1(env, image->status & X87_C1);
    x87_raise(env, image->status & X87_FLAGS);
    x87_changed(env);
    env->fpstt = image->status >> 11 & 7;
    for (int i = 0; i < 8; i++) {
        env->fptags[i] = (image->tags >> 2 * i & 3) == 3;
        memcpy(&ST(i), image->st[i], 10);
    }
}

#define BY_THE_HOST(name)                                                                                   \
    void helper_##name(CPUX86State *env)                                                                    \
    {                                                                                                       \
        struct x87_image image;                                                                             \
        x87_to_host(env, &image);                                                                           \
        __asm__ volatile("frstor %0; " #name "; fnsave %0" : "+m"(image));                                  \
        x87_from_host(env, &image);                                                                         \
    }
BY_THE_HOST(f2xm1)
BY_THE_HOST(fyl2x)
BY_THE_HOST(fyl2xp1)
BY_THE_HOST(fptan)
BY_THE_HOST(fpatan)
BY_THE_HOST(fsin)
BY_THE_HOST(fcos)
BY_THE_HOST(fsincos)
BY_THE_HOST(fprem)
BY_THE_HOST(fprem1)
BY_THE_HOST(fscale)
BY_THE_HOST(fxtract)
#endif
