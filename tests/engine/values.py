# SPDX-License-Identifier: GPL-2.0-or-later
"""Operands that are worth trying, and the tasks that are made of them: seeded, so that a suite is the same every
time.
"""

from __future__ import annotations

import struct
from random import Random

import iced_x86 as iced

from tests.engine import records as r
from tests.engine.compare import RF, undefined_flags
from tests.engine.records import Task

MASK64 = (1 << 64) - 1
_EDGES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, MASK64, MASK64 - 1]
_EDGES += [1 << 63, (1 << 63) - 1, 0x1_0000_0000, 0x8000_0001, 0x0123_4567_89AB_CDEF]
ARITHMETIC = 0x8D5

# IEEE values, as bits: zeros, denormals, the least normal, ones and their like, ties, the largest, infinities, NaNs.
FLOATS = [
    0x0000_0000, 0x8000_0000, 0x0000_0001, 0x8000_0001, 0x007F_FFFF, 0x0080_0000, 0x8080_0000, 0x3F80_0000, 0xBF80_0000,
    0x3F00_0000, 0xBF00_0000, 0x3FC0_0000, 0x4020_0000, 0xC020_0000, 0x4060_0000, 0x3F7F_FFFF, 0x3F80_0001, 0x4B00_0001,
    0x4EFF_FFFF, 0x4F00_0000, 0xCF00_0000, 0x5F00_0000, 0xDF00_0000, 0x7F7F_FFFF, 0xFF7F_FFFF, 0x7F80_0000, 0xFF80_0000,
    0x7FC0_0000, 0xFFC0_0000, 0x7FC1_2345, 0x7F80_0001, 0xFFA0_0000, 0x3333_3333,
]  # fmt: skip
DOUBLES = [
    0, 1 << 63, 1, (1 << 63) | 1, 0x000F_FFFF_FFFF_FFFF, 0x0010_0000_0000_0000, 0x8010_0000_0000_0000,
    0x3FF0_0000_0000_0000, 0xBFF0_0000_0000_0000, 0x3FE0_0000_0000_0000, 0xBFE0_0000_0000_0000, 0x3FF8_0000_0000_0000,
    0x4004_0000_0000_0000, 0xC004_0000_0000_0000, 0x3FEF_FFFF_FFFF_FFFF, 0x3FF0_0000_0000_0001, 0x3FF0_0000_1000_0000,
    0x41DF_FFFF_FFC0_0000, 0x41E0_0000_0000_0000, 0xC1E0_0000_0000_0000, 0xC1E0_0000_0020_0000, 0x43E0_0000_0000_0000,
    0xC3E0_0000_0000_0000, 0x47EF_FFFF_E000_0000, 0x47EF_FFFF_F000_0000, 0x36A0_0000_0000_0000, 0x380F_FFFF_FFFF_FFFF,
    0x7FEF_FFFF_FFFF_FFFF, 0xFFEF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000, 0xFFF0_0000_0000_0000, 0x7FF8_0000_0000_0000,
    0xFFF8_0000_0000_0000, 0x7FF8_0000_1234_5678, 0x7FF0_0000_0000_0001, 0xFFF4_0000_0000_0000,
]  # fmt: skip
EXTENDED = [
    0, 1 << 79, 1, 0x7FFF_FFFF_FFFF_FFFF, 1 << 63, (1 << 64) | 1 << 63, 0x3FFF << 64 | 1 << 63, 0xBFFF << 64 | 1 <<
    63, 0x3FFE << 64 | 1 << 63, 0x3FFF << 64 | 3 << 62, 0x4000 << 64 | 5 << 61, 0xC000 << 64 | 5 << 61, 0x3FFF << 64
    | MASK64, 0x3FFF << 64 | 1 << 63 | 1, 0x3FFF << 64 | 1 << 63 | 1 << 10, 0x3FFF << 64 | 1 << 63 | 1 << 39, 0x401E
    << 64 | 1 << 63, 0xC01E << 64 | 1 << 63, 0x403E << 64 | 1 << 63, 0xC03E << 64 | 1 << 63, 0x403D << 64 | MASK64,
    0x43FE << 64 | MASK64, 0x3C01 << 64 | 1 << 63, 0x3F6A << 64 | 1 << 63, 0x7FFE << 64 | MASK64, 0xFFFE << 64 |
    MASK64, 0x7FFF << 64 | 1 << 63, 0xFFFF << 64 | 1 << 63, 0x7FFF << 64 | 3 << 62, 0xFFFF << 64 | 3 << 62, 0x7FFF
    << 64 | 1 << 63 | 12345, 0x4000 << 64 | 0xC90F_DAA2_2168_C235, 0x403A << 64 | 0xDE0B_6B3A_763F_FFF0, 0x403A <<
    64 | 0xDE0B_6B3A_7640_0000,
    # forms that no processor makes: unnormal, pseudo-infinity, pseudo-NaN
    0x3FFF << 64 | 1 << 62, 0x7FFF << 64, 0x7FFF << 64 | 1,
]  # fmt: skip


def integer(rng: Random) -> int:
    """A register's value: on an edge, near one, or any."""
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(_EDGES)
    if kind < 0.7:
        return (rng.choice(_EDGES) + rng.randrange(-3, 4)) & MASK64
    return rng.getrandbits(rng.choice((8, 16, 32, 64)))


def float32(rng: Random) -> int:
    if rng.random() < 0.7:
        return rng.choice(FLOATS)
    return rng.choice((rng.getrandbits(32), 0x3F80_0000 ^ rng.getrandbits(24)))


def float64(rng: Random) -> int:
    if rng.random() < 0.7:
        return rng.choice(DOUBLES)
    return rng.choice((rng.getrandbits(64), (1023 << 52) ^ rng.getrandbits(54)))


def float80(rng: Random) -> int:
    if rng.random() < 0.7:
        return rng.choice(EXTENDED)
    exponent = rng.choice((rng.getrandbits(15), 0x3FFF + rng.randrange(-70, 70)))
    return rng.getrandbits(1) << 79 | exponent << 64 | 1 << 63 | rng.getrandbits(63)


def vector(rng: Random) -> bytes:
    """Sixteen bytes: four singles, two doubles, or integers."""
    kind = rng.random()
    if kind < 0.4:
        return struct.pack("<4I", *(float32(rng) for _ in range(4)))
    if kind < 0.8:
        return struct.pack("<2Q", float64(rng), float64(rng))
    return struct.pack("<2Q", integer(rng), integer(rng))


def mxcsr(rng: Random, masked: bool) -> int:
    value = rng.choice((0, 0, 0x2000, 0x4000, 0x6000)) | rng.choice((0, 0, 0, 0x8000, 0x40, 0x8040))
    value |= rng.choice((0, 0, 0, rng.getrandbits(6)))
    return value | (0x1F80 if masked else rng.choice((0, rng.getrandbits(6) << 7)))


def disassemble(code: bytes, mode32: bool, first: bool = False) -> str:
    """In words, for the name of a task; `first`: only the first instruction."""
    formatter = iced.Formatter(iced.FormatterSyntax.INTEL)
    decoder = iced.Decoder(32 if mode32 else 64, code, ip=r.CODE + r.AT)
    words = []
    for instruction in decoder:
        words.append("(bad)" if instruction.code == iced.Code.INVALID else formatter.format(instruction))
        if first:
            break
    return "; ".join(words)


def task(
    suite: str, number: int, code: bytes, regs: tuple[int, ...], *, mode32: bool = False, rflags: int = 0x202,
    fx: bytes = r.DEFAULT_FX, operand: bytes = bytes(128), stack: bytes = bytes(64), tags: frozenset[str] = frozenset(),
) -> Task:  # fmt: skip
    """A task that is named by what it executes."""
    if mode32:
        regs = (*(value & 0xFFFF_FFFF for value in regs[:8]), *[0] * 8)
    return Task(
        name=f"{suite} {'32' if mode32 else '64'} cpl3 {number} {disassemble(code, mode32)}", code=code, regs=regs,
        mode32=mode32, rflags=rflags, fx=fx, operand=operand, stack=stack, tags=tags,
        unmasked=~(RF | undefined_flags(code, mode32)),
    )  # fmt: skip


def registers(rng: Random, **fixed: int) -> tuple[int, ...]:
    """Any values, with RBX, RSI and RDI at the operand, RSP at the stack, and what is asked for."""
    regs = [integer(rng) for _ in range(16)]
    regs[r.RBX], regs[r.RSI], regs[r.RDI], regs[r.RSP] = r.OPERAND, r.OPERAND + 0x40, r.OPERAND + 0x60, r.STACK
    for name, value in fixed.items():
        regs[r.REGISTERS.index(name)] = value
    return tuple(regs)


def image(rng: Random, *, control: int = 0x1F80, x87: bytes | None = None) -> bytes:
    """An FXSAVE area with XMM registers of any value."""
    head = bytearray(x87 if x87 is not None else r.DEFAULT_FX[:160])
    struct.pack_into("<I", head, 24, control)
    return bytes(head) + b"".join(vector(rng) for _ in range(16))


def operand(rng: Random) -> bytes:
    return b"".join(vector(rng) for _ in range(8))
