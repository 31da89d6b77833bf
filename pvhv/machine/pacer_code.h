/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The guest's code: where its bytes are, and how many instructions they make.
 *
 * Read beside it: AMD64 Architecture Programmer's Manual, volume 3, appendix A (the opcode maps).
 */
#pragma once

#include "pacer.h"

/* ---- how long is an instruction ----------------------------------------------------------- */

/* Which opcodes have a ModRM byte: one bit each, 0x00..0xff from the lowest bit of the first word. */
static const u32 one_byte_modrm[8] = {
    0x0f0f0f0f, 0x0f0f0f0f, 0x00000000, 0x00000000, 0x0000ffff, 0x00000000, 0xff0f00c3, 0xc0c00000,
};

static int one_byte_has_modrm(u32 op, int long_mode)
{
    if (op >= 0x60 && op <= 0x6f)
        return op == 0x63 || op == 0x69 || op == 0x6b || (op == 0x62 && !long_mode);
    if (op == 0xc4 || op == 0xc5)
        return !long_mode;
    return one_byte_modrm[op >> 5] >> (op & 31) & 1;
}

static int two_byte_has_modrm(u32 op)
{
    switch (op >> 4) {
    case 0x0: return op <= 0x03 || op == 0x0d || op == 0x0f;
    case 0x3: return 0;
    case 0x7: return op != 0x77;
    case 0x8: return 0;
    case 0xa: return op >= 0xa3 && op <= 0xa5 ? 1 : op >= 0xab;
    case 0xc: return op < 0xc8;
    default: return 1;
    }
}

/* The length of the instruction at p, of which at least 15 bytes can be read.  Only valid
 * instructions that do not branch are asked about: a block ends at its first branch. */
static u32 instruction_length(const u8 *p, int long_mode)
{
    const u8 *start = p;
    int word = 0, wide = 0, address = 0, rep = 0, repne = 0;
    u32 op, map = 0, modrm = 0;

    for (;; p++) {
        op = *p;
        if (long_mode && (op & 0xf0) == 0x40) {
            wide = op >> 3 & 1;
            continue;
        }
        if (op == 0x66) word = 1;
        else if (op == 0x67) address = 1;
        else if (op == 0xf2) repne = 1;
        else if (op == 0xf3) rep = 1;
        else if (op != 0xf0 && (op & 0xe7) != 0x26 && op != 0x64 && op != 0x65) break;
        wide = 0; /* a REX counts only right before the opcode */
        if (p - start >= 14)
            return 15;
    }
    p++;
    if ((op == 0xc5 || op == 0xc4) && (long_mode || *p >= 0xc0)) { /* VEX */
        map = op == 0xc5 ? 1 : *p++ & 31;
        p++;
        op = *p++;
    } else if (op == 0x0f) {
        map = 1, op = *p++;
        if (op == 0x38) map = 2, op = *p++;
        else if (op == 0x3a) map = 3, op = *p++;
    }

    if (map >= 2 || (map ? two_byte_has_modrm(op) : one_byte_has_modrm(op, long_mode))) {
        u32 mod, rm;
        modrm = *p++;
        mod = modrm >> 6, rm = modrm & 7;
        if (map == 1 && ((op >= 0x20 && op <= 0x23) || op == 0x50 || (op >= 0x71 && op <= 0x73) ||
                         (op == 0xd6 && !word && (rep || repne))))
            mod = 3; /* mov crN, movmskps, psrlw, movq2dq: these have no memory form, and do not look */
        if (!long_mode && address) {
            if (mod == 1) p += 1;
            else if (mod == 2 || (mod == 0 && rm == 6)) p += 2;
        } else if (mod != 3) {
            if (rm == 4 && (*p++ & 7) == 5 && mod == 0) p += 4;
            if (mod == 1) p += 1;
            else if (mod == 2 || (mod == 0 && rm == 5)) p += 4;
        }
    }

    u32 z = word && !wide ? 2 : 4; /* the operand-sized immediate */
    if (map == 3) {
        p += 1;
    } else if (map == 1) {
        if ((op >= 0x70 && op <= 0x73) || op == 0xa4 || op == 0xac || op == 0xba || op == 0xc2 ||
            (op >= 0xc4 && op <= 0xc6) || op == 0x0f) p += 1;
        else if ((op & 0xf0) == 0x80) p += z;
        else if (op == 0x78 && (word || repne)) p += 2; /* extrq, insertq */
    } else if (map == 0) {
        u32 reg = modrm >> 3 & 7;
        if (op < 0x40) {
            if ((op & 7) == 4) p += 1;
            else if ((op & 7) == 5) p += z;
        } else switch (op) {
        case 0x68: case 0x69: case 0x81: case 0xa9: case 0xc7: case 0xe8: case 0xe9: p += z; break;
        case 0x6a: case 0x6b: case 0x80: case 0x82: case 0x83: case 0xa8: case 0xc0: case 0xc1: case 0xc6:
        case 0xcd: case 0xd4: case 0xd5: case 0xeb: p += 1; break;
        case 0xa0: case 0xa1: case 0xa2: case 0xa3:
            p += long_mode ? (address ? 4 : 8) : (address ? 2 : 4); break;
        case 0xc2: case 0xca: p += 2; break;
        case 0xc8: p += 3; break;
        case 0x9a: case 0xea: p += z + 2; break;
        case 0xf6: p += reg < 2 ? 1 : 0; break;
        case 0xf7: p += reg < 2 ? z : 0; break;
        default:
            if ((op & 0xf0) == 0x70 || (op & 0xf8) == 0xb0 || (op & 0xf8) == 0xe0) p += 1;
            else if ((op & 0xf8) == 0xb8) p += wide ? 8 : z;
        }
    }
    return (u32)(p - start);
}

/* ---- reading the guest's code ------------------------------------------------------------- */

/* Where a four-level walk of `va` from `table` ends, or ~0; the tables' own addresses go through `second`.
 * *entry becomes the machine address of the last table entry. */
static u64 walk_to(const struct pacer *p, u64 table, u64 va, u64 (*second)(const struct pacer *, u64), u64 *entry)
{
    for (int shift = 39;; shift -= 9) {
        u64 at = (table & 0x000ffffffffff000ull) + (va >> shift & 511) * 8;
        if (second)
            at = second(p, at);
        *entry = at;
        if (at >= p->ram_bytes)
            return ~0ull;
        table = p->ram[at / 8];
        if (!(table & 1))
            return ~0ull;
        if (shift == 12 || (table & 0x80 && shift < 39))
            return (table & 0x000ffffffffff000ull & ~((1ull << shift) - 1)) | (va & ((1ull << shift) - 1));
    }
}

static u64 walk(const struct pacer *p, u64 table, u64 va, u64 (*second)(const struct pacer *, u64))
{
    u64 entry;
    return walk_to(p, table, va, second, &entry);
}

/* Where the entry is that maps `address`, or ~0. */
static u64 leaf(const struct pacer *p, u64 table, u64 address)
{
    u64 entry;
    return walk_to(p, table, address, 0, &entry) == ~0ull ? ~0ull : entry;
}

/* Machine address of a guest-physical one: the same, unless nested paging is on. */
static u64 machine(const struct pacer *p, u64 guest_physical)
{
    if (!(p->state[HFLAGS] >> 32 & HF2_NPT))
        return guest_physical;
    return walk(p, p->state[NESTED_CR3], guest_physical, 0);
}

/* The page tables that code runs on now. */
static u64 root(const struct pacer *p)
{
    return p->user_root && (p->state[HFLAGS] & MODE) == USERS ? p->user_root : p->state[CR3];
}

static const u8 *code_page(const struct pacer *p, u64 va)
{
    u64 at = p->state[CR0] >> 31 & 1 ? walk(p, root(p), va, machine) : (u32)va;
    if (at != ~0ull)
        at = machine(p, at);
    return at >= p->ram_bytes ? 0 : (const u8 *)p->ram + (at & ~4095ull);
}

/* How many instructions begin in [from, to); *end is where the last of them ends. */
static u64 instructions(const struct pacer *p, u64 from, u64 to, u64 *end)
{
    int long_mode = p->state[HFLAGS] & HF_CS64 ? 1 : 0;
    u64 n = 0;
    while (from < to) {
        u8 bytes[16];
        u32 offset = from & 4095;
        const u8 *page = code_page(p, from);
        if (!page)
            break;
        if (offset > 4096 - 16) {
            const u8 *next = code_page(p, from + 16);
            for (u32 i = 0; i < 16; i++)
                bytes[i] = offset + i < 4096 ? page[offset + i] : next ? next[offset + i - 4096] : 0;
            from += instruction_length(bytes, long_mode);
        } else {
            from += instruction_length(page + offset, long_mode);
        }
        n++;
    }
    *end = from;
    return n;
}
