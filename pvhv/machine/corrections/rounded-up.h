/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The library's three functions that round, for the x87: they say whether that was up, which is C1.
 */
#pragma once

static inline float32 packed32(flag zSign, int zExp, uint32_t zSig, float_status *status);
static inline float64 packed64(flag zSign, int zExp, uint64_t zSig, float_status *status);
static inline floatx80 packed80(int8_t precision, flag zSign, int32_t zExp, uint64_t zSig0, uint64_t zSig1,
                         float_status *status);

static inline void rounded(bool up, float_status *status)
{
    status->float_exception_flags |= up ? float_flag_output_denormal : 0;
}

/* The bits of what is packed count magnitudes: where nothing is rounded they are the exponent and, behind it, the
 * significand without its leading bit, which the exponent's being one less makes up for. */
static float32 roundAndPackFloat32(flag zSign, int zExp, uint32_t zSig, float_status *status)
{
    float32 result = packed32(zSign, zExp, zSig, status), magnitude = result & 0x7fffffff;
    uint32_t cut = zExp > 0xfd ? 0x7f7fffff : zExp >= 0 ? ((uint32_t)zExp << 23) + (zSig >> 7)
                 : zExp > -32 ? zSig >> -zExp >> 7 : 0;

    rounded(magnitude > cut, status);
    return result;
}

static float64 roundAndPackFloat64(flag zSign, int zExp, uint64_t zSig, float_status *status)
{
    float64 result = packed64(zSign, zExp, zSig, status), magnitude = result & ~(1ull << 63);
    uint64_t cut = zExp > 0x7fd ? 0x7fefffffffffffffull : zExp >= 0 ? ((uint64_t)zExp << 52) + (zSig >> 10)
                 : zExp > -64 ? zSig >> -zExp >> 10 : 0;

    rounded(magnitude > cut, status);
    return result;
}

/* With an exception unmasked the result that is too large or too small is given with the exponent brought nearer. */
static floatx80 __attribute__((noinline)) packed80_trapping(int8_t precision, flag zSign, int32_t *zExp, uint64_t zSig0,
                                                            uint64_t zSig1, float_status *status)
{
    uint8_t flags = status->float_exception_flags;
    floatx80 result;

    status->float_exception_flags = 0;
    result = packed80(precision, zSign, *zExp, zSig0, zSig1, status);
    if (status->float_exception_flags & float_flag_overflow && status->float_detect_tininess & float_traps_overflow) {
        flags |= float_flag_overflow;
        *zExp -= 0x6000;
    } else if (status->float_exception_flags & float_flag_underflow &&
               status->float_detect_tininess & float_traps_underflow) {
        flags |= float_flag_underflow;
        *zExp += 0x6000;
    } else {
        status->float_exception_flags |= flags;
        return result;
    }
    status->float_exception_flags = flags;
    return packed80(precision, zSign, *zExp, zSig0, zSig1, status);
}

/* What is near the ends of the exponents, or rounded to less than 64 bits. */
static floatx80 __attribute__((noinline)) packed80_seldom(int8_t precision, flag zSign, int32_t zExp, uint64_t zSig0,
                                                          uint64_t zSig1, float_status *status)
{
    floatx80 result = packed80_trapping(precision, zSign, &zExp, zSig0, zSig1, status);
    int exponent = result.high & 0x7fff;

    if (zExp > 0) {
        rounded(exponent == 0x7fff || exponent > zExp || (exponent == zExp && result.low > zSig0), status);
    } else {
        rounded(result.low > (zExp > -63 ? zSig0 >> (1 - zExp) : 0), status);
    }
    return result;
}

floatx80 roundAndPackFloatx80(int8_t precision, flag zSign, int32_t zExp, uint64_t zSig0, uint64_t zSig1,
                              float_status *status)
{
    if (likely(precision == 80 && (uint32_t)(zExp - 1) < 0x7ffd)) {
        return packed80(80, zSign, zExp, zSig0, zSig1, status);
    }
    return packed80_seldom(precision, zSign, zExp, zSig0, zSig1, status);
}
