# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that is not as an instruction wants it: every memory form of the map against every kind of bad address.

Absent and read-only pages, page-crossing operands, misaligned ones (with and without RFLAGS.AC), addresses that are not
canonical, through DS and through the stack segment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import iced_x86 as iced

from tests.engine import opcode_map as om
from tests.engine import records as r
from tests.engine.records import Task

_NO_ACCESS = {iced.Mnemonic.LEA, iced.Mnemonic.NOP, iced.Mnemonic.RESERVEDNOP}
NONCANONICAL = 0x8000_0000_0000_0000
# name: the base, and whether it is RBP (the stack segment's) instead of RBX; RFLAGS beside IF
_PLACES: dict[str, tuple[int, bool, int]] = {
    "absent": (r.HOLE + 0x100, False, 0),
    "read-only": (r.READ_ONLY + 0x100, False, 0),
    "crossing into read-only": (r.READ_ONLY - 1, False, 0),
    "crossing into absent": (r.HOLE - 1, False, 0),
    "misaligned": (r.OPERAND + 1, False, 0),
    "misaligned by 8": (r.OPERAND + 8, False, 0),
    "misaligned, AC": (r.OPERAND + 1, False, 0x4_0000),
    "not canonical": (NONCANONICAL, False, 0),
    "stack not canonical": (NONCANONICAL, True, 0),
    "crossing out of canonical": (0x7FFF_FFFF_FFFF, False, 0),
    "supervisor": (r.SUPERVISOR + 0x100, False, 0),
    "crossing into supervisor": (r.SUPERVISOR - 1, False, 0),
}
# Instructions with operands on the stack, and others whose memory ModRM does not name: RSI, RDI, RBX are bad as well.
_IMPLICIT = {
    "50": "push", "58": "pop", "9c": "pushf", "9d": "popf", "c3": "ret", "c20800": "ret 8", "c9": "leave",
    "6a01": "push 1", "e800000000": "call", "c8100000": "enter 16", "c8100001": "enter 16, 1", "cf": "iretd",
    "48cf": "iretq", "cb": "retf", "48cb": "retfq", "48ca0800": "retfq 8", "0fa0": "push fs", "0fa1": "pop fs",
    "ff33": "push mem", "8f03": "pop mem", "ff5318": "call far mem", "48ff5318": "call far mem, 64", "ffd2": "call reg",
    "a4": "movs", "f3a4": "rep movs", "48a5": "movsq", "aa": "stos", "f348ab": "rep stosq", "ac": "lods",
    "a6": "cmps", "ae": "scas",
    "d7": "xlat", "660ff7c1": "maskmovdqu", "0ff7c1": "maskmovq", "6c": "ins", "6e": "outs",
}  # fmt: skip
_BAD = {
    "absent": r.HOLE + 0x100, "read-only": r.READ_ONLY + 0x100, "just above absent": r.HOLE + 0x1000,
    "just above read-only": r.READ_ONLY + 4, "not canonical": NONCANONICAL, "misaligned": r.STACK + 1,
    "supervisor": r.SUPERVISOR + 0x100, "just above supervisor": r.SUPERVISOR + 4,
    "top of the lower half": (1 << 47) - 4,
}  # fmt: skip


def has_memory(code: bytes) -> bool:
    """Whether this is an instruction, and one that goes to memory."""
    instruction = next(iter(iced.Decoder(64, code + bytes(8))))
    return bool(instruction.code != iced.Code.INVALID and instruction.mnemonic not in _NO_ACCESS)


def generate(every: int = 1) -> Iterator[Task]:
    """All of them, or one in `every`."""
    n = 0
    for prefixes in (b"", b"\x66", b"\x48", b"\xf3", b"\xf2"):
        for table, opcode, modrm in om.opcodes(False):
            if modrm is None or modrm >= 0xC0:
                continue
            plain = om.task(prefixes, table, opcode, modrm, False)
            if not plain.native or not has_memory(plain.code):
                continue
            for place, (base, by_stack, flags) in _PLACES.items():
                n += 1
                if n % every:
                    continue
                address = bytes((modrm & 0x38 | 0x45, 0)) if by_stack else bytes((modrm & 0x38 | 3,))
                code = plain.code[:-1] + address
                regs = list(plain.regs)
                regs[r.RBP if by_stack else r.RBX] = base
                regs[r.RDX] = 0x2B
                yield replace(
                    plain, name=f"faults {plain.name}, {place}", code=code, regs=tuple(regs), rflags=0x202 | flags,
                    bases=(0, 0),
                )  # fmt: skip
    plain = om.task(b"", 1, 0x90, None, False)
    for text, op in _IMPLICIT.items():
        for place, bad in _BAD.items():
            for flags in (0, 0x4_0000):
                regs = list(plain.regs)
                regs[r.RSP] = regs[r.RBP] = regs[r.RDI] = bad
                if op.startswith(("cmps", "lods", "outs", "xlat")) or bad == r.SUPERVISOR + 0x100:
                    regs[r.RSI] = bad
                if op == "xlat":
                    regs[r.RBX] = bad
                regs[r.RDX] = r.CODE + 0x400
                yield replace(
                    plain, name=f"faults 64 cpl3 - {op}, {place}{', AC' if flags else ''}", code=bytes.fromhex(text),
                    regs=tuple(regs), rflags=0x202 | flags, operand=_FAR,
                )  # fmt: skip


# At RBX + 0x18, where to and which CS: as 16:32 and as 16:64.
_FAR: Final = bytes(24) + struct.pack("<IHHI", r.CODE + 0x400, 0x33, 0, 0) + bytes(64)
