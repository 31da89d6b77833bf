/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Instructions that read memory and write it again.
 *
 * Read beside it: AMD64 Architecture Programmer's Manual, volume 3, 1.2.5 (LOCK) and appendix A (the opcode maps).
 */
#pragma once

#define MODRM_MOD(modrm) ((modrm) >> 6)
#define MODRM_REG(modrm) ((modrm) >> 3 & 7)

enum { ANY_REG = 0xff };

/* Which values of ModRM's reg field make an instruction that takes LOCK (on memory): a bit each. `b` is the opcode, with
 * 0x100 for the 0F map. */
static inline int lockable(int b)
{
    switch (b) {
    case 0x80: case 0x81: case 0x82: case 0x83:
        return 0x7f; /* ADD OR ADC SBB AND SUB XOR, not CMP */
    case 0xf6: case 0xf7:
        return 1 << 2 | 1 << 3; /* NOT, NEG */
    case 0xfe: case 0xff:
        return 1 << 0 | 1 << 1; /* INC, DEC */
    case 0x1ba:
        return 1 << 5 | 1 << 6 | 1 << 7; /* BTS, BTR, BTC */
    case 0x1c7:
        return 1 << 1; /* CMPXCHG8B, CMPXCHG16B */
    case 0x86: case 0x87: /* XCHG */
    case 0x1ab: case 0x1b3: case 0x1bb: /* BTS, BTR, BTC */
    case 0x1b0: case 0x1b1: case 0x1c0: case 0x1c1: /* CMPXCHG, XADD */
        return ANY_REG;
    }
    return b < 0x38 && (b & 7) < 2 ? ANY_REG : 0; /* ADD .. XOR of a register to memory */
}

/* The same of those that change memory, with LOCK or without. */
static inline int changes_memory(int b)
{
    switch (b) {
    case 0xc0: case 0xc1: case 0xd0: case 0xd1: case 0xd2: case 0xd3: /* rotates and shifts */
    case 0x1a4: case 0x1a5: case 0x1ac: case 0x1ad: /* SHLD, SHRD */
    case 0xc8: /* ENTER: its new stack */
        return ANY_REG;
    }
    return lockable(b);
}
