/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a fault says beyond "here": decoded from the instruction, once it has faulted.
 *
 * Read beside it: AMD64 Architecture Programmer's Manual, volume 2, 8.2 (#SS, #GP, #PF); volume 3, 1.2 (prefixes) and
 * appendix A.
 */
#pragma once

#include "exec/cpu_ldst.h"
#include "pvhv/lockable.h"

enum { LONGEST_INSTRUCTION = 15 };

/* An instruction as far as it matters here. `opcode` has 0x100 for the 0F map, 0x200 for 0F 38 and 0F 3A. */
struct instruction {
    int opcode, modrm, sib, next; /* next: the byte behind opcode */
    bool rex_b;
    int segment;                  /* R_ES.. that a prefix names, or -1 */
    uint8_t bytes[LONGEST_INSTRUCTION + 3];
};

/* Read the one at RIP. What it could not read of it is 0: false, then the state of the fault may be another. */
static bool read_instruction(CPUX86State *env, struct instruction *it)
{
    target_ulong pc = env->eip + (env->hflags & HF_CS64_MASK ? 0 : env->segs[R_CS].base);
    bool long_mode = env->hflags & HF_CS64_MASK, all = true;
    const uint8_t *page = NULL, *at = it->bytes;
    int n, rex = 0;

    memset(it, 0, sizeof(*it));
    it->segment = -1;
    for (n = 0; n < LONGEST_INSTRUCTION; n++, pc++) {
        if (!page || !(pc & ~TARGET_PAGE_MASK)) {
            page = tlb_vaddr_to_host(env, pc, MMU_INST_FETCH, cpu_mmu_index(env, true));
            if (!page) {
                all = n > 0; /* behind its page there may be nothing */
                break;
            }
        }
        it->bytes[n] = *page++;
    }
    for (;; at++) {
        if (at == it->bytes + LONGEST_INSTRUCTION) {
            return all;
        } else if (*at == 0x64 || *at == 0x65) {
            it->segment = *at - 0x64 + R_FS;
        } else if (!long_mode && (*at & 0xe7) == 0x26) { /* 64-bit code knows only those two */
            it->segment = *at >> 3 & 3;
        } else if (long_mode && (*at & 0xf0) == 0x40) {
            rex = *at++;
            break;
        } else if (*at != 0x66 && *at != 0x67 && *at != 0xf0 && (*at & 0xfe) != 0xf2 && (*at & 0xe7) != 0x26) {
            break;
        }
    }
    it->rex_b = rex & 1;
    it->opcode = *at++;
    if (it->opcode == 0x0f) {
        it->opcode = 0x100 | *at++;
        if (it->opcode == 0x138 || it->opcode == 0x13a) {
            it->opcode = 0x200 | *at++;
        }
    }
    it->next = at - it->bytes;
    it->modrm = at[0];
    it->sib = at[1];
    return all;
}

static bool has_modrm(int b)
{
    if (b < 0x100) {
        return b < 0x40 ? (b & 7) < 4
                        : (b & 0xf8) == 0x88 || (b & 0xf8) == 0x80 || (b & 0xf8) == 0xd8 || (b & 0xfc) == 0xd0
                              || (b & 0xf6) == 0xf6 || (b & 0xfe) == 0xc0 || (b & 0xfc) == 0xc4 || b == 0x62
                              || b == 0x63 || b == 0x69 || b == 0x6b;
    }
    return b >= 0x200 || (b & 0xf8) != 0x1a0 || b == 0x1a3 || b == 0x1a4 || b == 0x1a5;
}

/* Whether its ModRM names memory whose segment is SS. */
static bool is_based_on_stack(const struct instruction *it)
{
    int mod = MODRM_MOD(it->modrm), base = it->modrm & 7;

    if (!has_modrm(it->opcode) || mod == 3 || it->rex_b) {
        return false;
    }
    if (it->segment >= 0) {
        return it->segment == R_SS;
    }
    if (base == R_ESP) {
        base = it->sib & 7;
        if (base == R_ESP) {
            return true;
        }
    }
    return base == R_EBP && mod != 0;
}

static bool is_canonical(CPUX86State *env, target_ulong address)
{
    return sextract64(address, 0, env->cr[4] & CR4_LA57_MASK ? 57 : 48) == address;
}

/* Whether it reached for the stack, or for memory by way of RSP or RBP. */
static bool wants_stack(CPUX86State *env, const struct instruction *it, MMUAccessType access)
{
    int b = it->opcode, reg = MODRM_REG(it->modrm);

    switch (b) {
    case 0x50 ... 0x5f: /* PUSH, POP */
    case 0x68: case 0x6a: case 0x9c: case 0x9d:
    case 0x1a0: case 0x1a1: case 0x1a8: case 0x1a9:
    case 0xc2: case 0xc3: case 0xca: case 0xcb: case 0xcf: /* RET, IRET */
    case 0xc8: case 0xc9: case 0xe8: /* ENTER, LEAVE, CALL */
        return true;
    case 0x8f: /* POP: the stack is read, the operand written */
        return access == MMU_DATA_LOAD || is_based_on_stack(it);
    case 0xff: /* CALL and PUSH: the other way about; and a CALL's store may stand for where it would go */
        if (reg == 2 && access == MMU_DATA_STORE) {
            return !is_canonical(env, env->regs[R_ESP] - 8);
        }
        return ((reg == 3 || reg == 6) && access == MMU_DATA_STORE) || is_based_on_stack(it);
    }
    return is_based_on_stack(it);
}

/* Whether all of an access lies where there are addresses: in 32-bit code they end at 4 GiB. */
bool is_within(CPUX86State *env, target_ulong address, int size)
{
    target_ulong last = address + size - 1;

    return env->hflags & HF_CS64_MASK ? is_canonical(env, address) && is_canonical(env, last) : last <= UINT32_MAX;
}

/* An access of `size` bytes at `addr` faulted, with RIP at its instruction: complete error code and vector. False: see
 * read_instruction. */
static bool tell_details(CPUX86State *env, target_ulong addr, int size, MMUAccessType access)
{
    CPUState *cs = env_cpu(env);
    struct instruction it;
    int vector = cs->exception_index, code = env->error_code;
    bool beyond = !is_within(env, addr, size);

    if (beyond) {
        vector = EXCP0D_GPF; /* whatever is there of its beginning */
        code = 0;
    }
    if (!beyond && (vector != EXCP0E_PAGE || access == MMU_DATA_STORE)) {
        return true; /* there is nothing to add */
    }
    if (!read_instruction(env, &it)) {
        return false;
    }
    if (vector == EXCP0E_PAGE && changes_memory(it.opcode) >> MODRM_REG(it.modrm) & 1) {
        code |= PG_ERROR_W_MASK;
    } else if (beyond && wants_stack(env, &it, access)) {
        vector = EXCP0C_STACK;
    }
    cs->exception_index = vector;
    env->error_code = code;
    return true;
}

/* A branch went where nothing is, in the block whose code returns to `ra`. If that can be no address at all, the branch is
 * what faults: RIP and RSP are again what they were. */
void check_branch(CPUX86State *env, uintptr_t ra)
{
    struct instruction it;

    if (!(env->hflags & HF_CS64_MASK) || is_canonical(env, env->eip)) {
        return;
    }
    cpu_restore_state(env_cpu(env), ra, true);
    if (!read_instruction(env, &it)) {
        it.opcode = 0;
    }
    if (it.opcode == 0xc3) {
        env->regs[R_ESP] -= 8;
    } else if (it.opcode == 0xc2) {
        env->regs[R_ESP] -= 8 + lduw_le_p(it.bytes + it.next);
    }
    raise_exception_err(env, EXCP0D_GPF, 0);
}
