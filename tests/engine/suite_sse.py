# SPDX-License-Identifier: GPL-2.0-or-later
"""Generated programs of SSE to SSE4.2: every instruction of the map that has no other prefix than its column's, with
special values, all rounding modes, FTZ and DAZ, exceptions masked and not, MMX forms among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random

import iced_x86 as iced

from tests.engine import records as r
from tests.engine.hidden import Opcode, hidden_by
from tests.engine.records import Task
from tests.engine.values import MASK64, image, integer, mxcsr, operand, registers, task

_COLUMNS = (b"", b"\x66", b"\xf3", b"\xf2")
_SSE = {
    iced.CpuidFeature.SSE, iced.CpuidFeature.SSE2, iced.CpuidFeature.SSE3, iced.CpuidFeature.SSSE3,
    iced.CpuidFeature.SSE4_1, iced.CpuidFeature.SSE4_2, iced.CpuidFeature.MMX,
}  # fmt: skip
_NOT_THESE = {iced.Mnemonic.FXSAVE, iced.Mnemonic.FXRSTOR, iced.Mnemonic.CRC32, iced.Mnemonic.EMMS}


@cache
def instructions() -> list[tuple[bytes, int]]:
    """(prefix and opcode, bytes of immediate) of everything the guest's CPUID names."""
    found = []
    for table, escape in ((0x0F, b"\x0f"), (0x38, b"\x0f\x38"), (0x3A, b"\x0f\x3a")):
        for opcode in range(256):
            for column in _COLUMNS:
                for modrm in range(0xC0, 0x100, 8) if opcode in (0x71, 0x72, 0x73) and table == 0x0F else (0xC1, 0x03):
                    op = Opcode(column, table, opcode, modrm)
                    code = column + escape + bytes((opcode,))
                    full = code + bytes((modrm,)) + bytes(8)
                    instruction = next(iter(iced.Decoder(64, full)))
                    known = instruction.code != iced.Code.INVALID and set(instruction.cpuid_features()) & _SSE
                    if not known or hidden_by(op, False) or instruction.mnemonic in _NOT_THESE:
                        continue
                    size = instruction.len - len(code) - 1
                    found.append((code + bytes((modrm,)), size))
                    if modrm == 0xC1:
                        break
    return found


def instruction(rng: Random, number: int) -> bytes:
    """Instruction `number` of them all, with operands in a few registers or in memory."""
    code, immediate = instructions()[number % len(instructions())]
    stem, modrm = code[:-1], code[-1]
    whole_opcode = stem[-1] in (0x71, 0x72, 0x73) and stem[-2] == 0x0F
    memory = modrm < 0xC0 or (not whole_opcode and rng.random() < 0.4 and _has_memory(stem))
    reg = modrm >> 3 & 7 if whole_opcode else rng.choice((0, 1, 2))
    if memory:
        tail = bytes((0x43 | reg << 3, rng.choice((0, 16, 32))))
    else:
        tail = bytes((0xC0 | reg << 3 | rng.choice((0, 1, 2, 3)),))
    wide = rng.random() < 0.25 and immediate < 4
    prefixes = stem[: stem.index(0x0F)]
    body = stem[len(prefixes) :]
    return prefixes + (b"\x48" if wide else b"") + body + tail + bytes(rng.getrandbits(8) for _ in range(immediate))


def generate(count: int, seed: int = 2) -> Iterator[Task]:
    """`count` programs."""
    rng = Random(seed)
    for n in range(count):
        code = instruction(rng, n)
        masked = rng.random() < 0.75
        regs = registers(rng, rax=_length(rng), rdx=_length(rng))
        x87 = bytearray(r.DEFAULT_FX[:160])
        x87[4] = rng.choice((0, 0xFF))
        for st in range(8):
            x87[32 + 16 * st : 42 + 16 * st] = (integer(rng) | 0xFFFF << 64).to_bytes(10, "little")
        yield task(
            "sse", n, code, regs, fx=image(rng, control=mxcsr(rng, masked), x87=bytes(x87)), operand=operand(rng),
        )  # fmt: skip


def _length(rng: Random) -> int:
    """What a string comparison takes for a string's length, and others for a number."""
    return rng.choice((integer(rng), rng.randrange(20), -rng.randrange(20) & MASK64, 0x8000_0000, 1 << 63, 1 << 32))


def _has_memory(stem: bytes) -> bool:
    instruction = next(iter(iced.Decoder(64, stem + b"\x03" + bytes(8))))
    return bool(instruction.code != iced.Code.INVALID)
