/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A cheaper check for a stop (stock engine).
 *
 * The stock engine begins each block with a call of a helper that checks whether a stop was asked for; in short loops
 * most of the time is spent there.  Here that call is jumped over as long as no stop was asked for.
 *
 * With pacer_ease as a UC_HOOK_BLOCK, a block begins with two calls:
 *
 *     begin:  mov $uc,%rdi; mov $pc,%rsi; mov $size,%edx; mov $p,%rcx; call pacer_ease
 *     next:   mov $uc,%rdi; xor %esi,%esi; call helper_check_exit_request
 *
 * and the first call is made once: it overwrites itself with
 *
 *     begin:  cmpl $0,-flag(%rbp); jns behind the second call; jmp next
 *
 * where %rbp is the CPU state and -flag(%rbp) a word of the engine's that is negative while a stop is asked for.  A
 * block whose code differs from this (another kind of host, another build of the engine) is left unchanged.
 */
#pragma once

#include "pacer.h"

#if defined(__x86_64__) && !defined(_WIN32)
enum { FLAG_WITHIN = 64, LONGEST_CALL = 64, SHORTEST_CALL = 12, NO_FLAG = 1 };

/* The length of the instruction at `at` if it loads the first argument with the engine, else 0. */
static u32 loads_engine(const u8 *at, const void *uc)
{
    u64 value;
    int distance;
    if (at[0] == 0x48 && at[1] == 0xbf) { /* mov $imm64,%rdi */
        __builtin_memcpy(&value, at + 2, 8);
        return value == (u64)uc ? 10 : 0;
    }
    if (at[0] == 0x48 && at[1] == 0x8d && at[2] == 0x3d) { /* lea distance(%rip),%rdi */
        __builtin_memcpy(&distance, at + 3, 4);
        return (u64)at + 7 + (u64)(long long)distance == (u64)uc ? 7 : 0;
    }
    return 0;
}

/* The distance before the state of the word that a stop makes negative, NO_FLAG if there is not exactly one.  The
 * search ends the run. */
static u64 find_flag(void *uc, const struct pacer *p)
{
    const volatile int *words = (const volatile int *)p->state - FLAG_WITHIN / 4;
    u64 before = 0, found = 0;
    for (u32 n = 0; n < FLAG_WITHIN / 4; n++)
        before |= (u64)(words[n] < 0) << n;
    p->emu_stop(uc);
    for (u32 n = 0; n < FLAG_WITHIN / 4; n++)
        if (words[n] < 0 && !(before >> n & 1)) {
            if (found)
                return NO_FLAG;
            found = FLAG_WITHIN - 4 * n;
        }
    return found ? found : NO_FLAG;
}

EXPORT void pacer_ease(void *uc, u64 pc, u32 size, struct pacer *p)
{
    u8 *next = __builtin_return_address(0), *begin = next - SHORTEST_CALL, *end;
    u32 length = loads_engine(next, uc);
    (void)pc, (void)size;

    p->blocks++;
    end = next + length + 2;
    if (!length || end[-2] != 0x33 || end[-1] != 0xf6) /* xor %esi,%esi */
        return;
    if (*end != 0xe8 && !(*end == 0xff && end[1] == 0x15)) /* call, direct or indirect */
        return;
    end += *end == 0xe8 ? 5 : 6;
    while (!loads_engine(begin, uc))
        if (next - --begin > LONGEST_CALL)
            return;
    if (!p->flag)
        p->flag = find_flag(uc, p);
    if (p->flag == NO_FLAG)
        return;
    begin[0] = 0x83, begin[1] = 0x7d, begin[2] = (u8)-p->flag, begin[3] = 0; /* cmpl $0,-flag(%rbp) */
    begin[4] = 0x79, begin[5] = (u8)(end - (begin + 6));                     /* jns end */
    begin[6] = 0xeb, begin[7] = (u8)(next - (begin + 8));                    /* jmp next */
    p->eased++;
}
#else
EXPORT void pacer_ease(void *uc, u64 pc, u32 size, struct pacer *p)
{
    (void)uc, (void)pc, (void)size, (void)p;
}
#endif
