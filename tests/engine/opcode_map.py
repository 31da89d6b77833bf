# SPDX-License-Identifier: GPL-2.0-or-later
"""The opcode map, enumerated: every opcode of one to three bytes, with its forms, under prefixes, in both modes.

One task each. Registers point into the case's own memory, so that the memory forms reach it, counts are small, RDX
holds a selector that user code may load, and the stack a return address with everything behind it that a far return
and an IRET take.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.engine import records as r
from tests.engine.compare import RF, undefined_flags
from tests.engine.hidden import Opcode, hidden_by, stands_for
from tests.engine.records import Task

PREFIXES64 = [bytes.fromhex(p) for p in (
    "", "66", "f2", "f3", "f0", "67", "48", "64", "65", "2e", "6648", "f248", "f348", "f266", "f366", "f048", "f066",
    "f0f2", "f0f3",
)]  # fmt: skip
PREFIXES32 = [bytes.fromhex(p) for p in ("", "66", "f2", "f3", "f0", "67", "2e", "f266", "f366", "f066")]

_ARE_PREFIXES = {0x0F, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3}
_MODRM1 = {
    *(n for n in range(0x40) if n & 7 < 4), 0x62, 0x63, 0x69, 0x6B, *range(0x80, 0x90), 0xC0, 0xC1, 0xC4, 0xC5, 0xC6,
    0xC7, *range(0xD0, 0xD4), *range(0xD8, 0xE0), 0xF6, 0xF7, 0xFE, 0xFF,
}  # fmt: skip
_NO_MODRM2 = {
    4, 5, 6, 7, 8, 9, 0xA, 0xB, 0xC, 0xE, *range(0x30, 0x38), 0x77, *range(0x80, 0x90), 0xA0, 0xA1, 0xA2, 0xA8, 0xA9,
    0xAA, *range(0xC8, 0xD0),
}  # fmt: skip
# Opcodes of which each ModRM byte in register form is an instruction of its own.
_WHOLE = {(1, o) for o in range(0xD8, 0xE0)} | {(0x0F, 0x01), (0x0F, 0xAE), (0x0F, 0x00), (0x0F, 0xC7), (0x0F, 0x1E)}

FX = bytearray(r.DEFAULT_FX)
struct.pack_into("<HHB", FX, 0, 0x37F, 0x2000, 0xF0)  # TOP is 4: ST0..ST3 are there
for _n, _value in enumerate((0x3FFF_C000_0000_0000_0000, 0xC000_9000_0000_0000_0000, 0x4000_C000_0000_0000_0000,
                             0x4005_C800_0000_0000_0000)):  # fmt: skip
    FX[32 + 16 * _n : 42 + 16 * _n] = _value.to_bytes(10, "little")
for _n in range(16):
    struct.pack_into("<2d" if _n & 1 else "<4f", FX, 160 + 16 * _n, *((1.5 + _n, -0.75 * _n) * (1 if _n & 1 else 2)))
MAP_FX = bytes(FX)

OPERAND = struct.pack("<QdQdff8xQQ", 0x8070_6050_4030_2011, 2.5, 0x33, -3.0, 1.25, -8.0, r.CODE + 0x600, 0x33) + bytes(
    range(1, 65)
)
REGS64 = (
    0x1122_3344_5566_7740, 5, 0x2B, r.OPERAND, r.STACK, r.OPERAND + 0x20, r.OPERAND + 0x40, r.OPERAND + 0x10,
    0x8888_0000_0000_0008, 0x9999, 0xAAAA, 0xBBBB, r.OPERAND, r.OPERAND + 8, 0xEEEE, 0xFFFF_FFFF_FFFF_FFFF,
)  # fmt: skip
REGS32 = (0x5566_7740, 5, 0x2B, r.OPERAND, r.STACK, r.OPERAND + 0x20, r.OPERAND + 0x40, r.OPERAND + 0x10, *[0] * 8)


def stack(mode32: bool, code: int, data: int, *, size: int | None = None) -> bytes:
    """A return address, its CS, flags, the stack outside and its SS, as far returns and IRET take them."""
    words = (r.CODE + 0x400, code, 0x202, r.STACK + 0x20, data)
    size = size or (4 if mode32 else 8)
    return b"".join(word.to_bytes(size, "little") for word in words)


def opcodes(mode32: bool) -> Iterator[tuple[int, int, int | None]]:
    """(table, opcode, ModRM or None) of everything there is."""
    for table in (1, 0x0F, 0x38, 0x3A):
        for opcode in range(256):
            if table == 1 and (opcode in _ARE_PREFIXES or (not mode32 and 0x40 <= opcode < 0x50)):
                continue
            if table == 0x0F and opcode in (0x38, 0x3A):
                continue
            if (opcode not in _MODRM1) if table == 1 else (table == 0x0F and opcode in _NO_MODRM2):
                yield table, opcode, None
                continue
            registers = range(0xC0, 0x100) if (table, opcode) in _WHOLE else range(0xC2, 0x100, 8)
            for modrm in (*range(3, 0x40, 8), *registers):
                yield table, opcode, modrm


def task(prefixes: bytes, table: int, opcode: int, modrm: int | None, mode32: bool) -> Task:
    """That instruction, at CPL 3. What follows it (displacement, immediate) is HLTs, as far as they are needed."""
    op = Opcode(prefixes, table, opcode, modrm)
    escape = {1: b"", 0x0F: b"\x0f", 0x38: b"\x0f\x38", 0x3A: b"\x0f\x3a"}[table]
    tail = escape + bytes((opcode,)) + (b"" if modrm is None else bytes((modrm,)))
    code = prefixes + tail
    form = "" if modrm is None else f" /{op.reg} {'mem' if modrm < 0xC0 else f'reg{modrm & 7}'}"
    name = f"{'32' if mode32 else '64'} cpl3 {prefixes.hex() or '-'} {escape.hex()}{opcode:02x}{form}"
    hidden = hidden_by(op, mode32)
    return Task(
        name=name,
        code=code,
        regs=REGS32 if mode32 else REGS64,
        mode32=mode32,
        fx=MAP_FX,
        operand=OPERAND,
        stack=stack(mode32, 0x23 if mode32 else 0x33, 0x2B),
        bases=(0, 0) if mode32 else (0x18, 0x28),
        unmasked=~(RF | undefined_flags(code + b"\xf4" * 8, mode32)) if hidden is None else ~RF,
        native=hidden is None,
        tags=frozenset({f"hidden:{hidden}"} if hidden else ()),
    )


def enumerate_map(mode32: bool) -> Iterator[Task]:
    """Every task of a mode, at CPL 3."""
    for table, opcode, modrm in opcodes(mode32):
        for prefixes in PREFIXES32 if mode32 else PREFIXES64:
            yield task(prefixes, table, opcode, modrm, mode32)


def for_processor(task: Task) -> bytes:
    """What the processor is given instead, where the guest's has fewer instructions."""
    code = task.code
    for n, byte in enumerate(code):
        if byte == 0x0F:
            op = Opcode(code[:n], 0x0F, code[n + 1], code[n + 2] if n + 2 < len(code) else None)
            other = stands_for(op)
            return code.replace(b"\xf3", bytes((other,)), 1) if other else code
        if byte not in (*_ARE_PREFIXES, *range(0x40, 0x50)):
            break
    return code
