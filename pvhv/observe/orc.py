# SPDX-License-Identifier: GPL-2.0-or-later
"""How a Linux kernel's stacks are unwound, told to debuggers.

Distributions' kernels keep no frame pointers and no DWARF; they unwind themselves by tables of their own, ORC: for each
stretch of code six bytes that say where the caller's stack pointer is (a register and a distance) and where the
caller's rbp was saved. These tables are in the stripped file. Here they are written as what every debugger knows, the
call frame information of DWARF (.debug_frame): the caller's stack pointer is DWARF's CFA, the return address lies right
below it, and at the entries to the kernel the caller's registers lie in a struct pt_regs.

Rows are gathered into entries (FDEs) that are short enough to be looked through quickly. Each entry states all of its
rules anew, so entries need not begin at functions.

Not modelled: Linux before 5.10.

Read beside it: arch/x86/include/asm/orc_types.h and arch/x86/kernel/unwind_orc.c in Linux; DWARF 5, section 6.4.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

ROWS = 64  # of an entry
ROW_BYTES = 6
MOST_ROWS = 1 << 21
LONGEST_BANNER = 64
SEARCHED_AT_ONCE = 1 << 20
BANNER = re.compile(rb"Linux version (\d+)\.(\d+)")
RENUMBERED = (6, 4)  # the first Linux with UNDEFINED and END_OF_STACK among the types

# Registers (those of Linux before 7.0), and types of rows (those of Linux 6.4 and later).
UNDEFINED, PREV_SP, DX, DI, BP, SP, R10, R13, BP_INDIRECT, SP_INDIRECT = range(10)
UNKNOWN = 15
NUMBERS = list(range(16))
LATER_NUMBERS = [UNDEFINED, DX, DI, SP, BP, UNKNOWN, R10, R13, PREV_SP, SP_INDIRECT, BP_INDIRECT, *[UNKNOWN] * 5]
TYPE_UNDEFINED, TYPE_END, TYPE_CALL, TYPE_REGS, TYPE_REGS_PARTIAL = range(5)
OLD_TYPES = {0: TYPE_CALL, 1: TYPE_REGS, 2: TYPE_REGS_PARTIAL}
REGISTERS = {DX: 1, DI: 5, BP: 6, SP: 7, R10: 10, R13: 13}  # DWARF's numbers
RBP, RSP, RETURN_ADDRESS = 6, 7, 16
# Where a struct pt_regs has what a caller may miss: DWARF's number -> offset.
PT_REGS = {15: 0, 14: 8, 13: 16, 12: 24, RBP: 32, 3: 40, RETURN_ADDRESS: 128, RSP: 152}
IRET_FRAME = {RETURN_ADDRESS: 0, RSP: 24}

DW_CFA_def_cfa, DW_CFA_def_cfa_expression, DW_CFA_expression, DW_CFA_def_cfa_sf = 0x0C, 0x0F, 0x10, 0x12
DW_CFA_undefined, DW_CFA_same_value, DW_CFA_offset_extended_sf = 0x07, 0x08, 0x11
DW_CFA_advance_loc, DW_CFA_advance_loc1, DW_CFA_advance_loc2, DW_CFA_advance_loc4 = 0x40, 0x02, 0x03, 0x04
DW_OP_deref, DW_OP_plus_uconst, DW_OP_breg0 = 0x06, 0x23, 0x70
DATA_ALIGNMENT = -8


Buffer = bytes | bytearray | mmap


class Table(NamedTuple):
    """Rows, in columns: a kernel has a million of them."""

    addresses: list[int]
    rules: list[Rules]


class Rules(NamedTuple):
    """What a row says, in DWARF."""

    code: bytes
    interrupts: bool  # the caller was interrupted at its address, and did not call from before it


def version(image: Buffer) -> tuple[int, int] | None:
    """The version of the Linux in an image; None if it is no Linux. The search is in pieces, so that other threads
    run."""
    for at in range(0, len(image), SEARCHED_AT_ONCE):
        found = BANNER.search(image, at, at + SEARCHED_AT_ONCE + LONGEST_BANNER)
        if found:
            return int(found[1]), int(found[2])
    return None


def debug_frame(places: Buffer | memoryview, at: int, rows: Buffer | memoryview, linux: tuple[int, int]) -> bytes:
    """.debug_frame from .orc_unwind_ip (which lies at the address `at`) and .orc_unwind; empty if those are larger
    than any kernel's."""
    count = min(len(places) // 4, len(rows) // ROW_BYTES)
    if count > MOST_ROWS:
        return b""
    distances = memoryview(places)[: count * 4].cast("i")
    rows = bytes(rows[: count * ROW_BYTES])
    numbers = _numbers(rows)
    known: dict[bytes, Rules] = {}
    table = Table([], [])
    for n, distance in enumerate(distances):
        row = rows[n * ROW_BYTES : n * ROW_BYTES + ROW_BYTES]
        rules = known.get(row)
        if rules is None:
            rules = known[row] = _rules(row, linux, numbers)
        table.addresses.append(at + 4 * n + distance)
        table.rules.append(rules)
    plain, interrupting = _cie(b""), _cie(b"zS")
    pieces = [plain, interrupting]
    for first, after in _chunks(table.rules):
        interrupts = table.rules[first].interrupts
        code = b"\0" if interrupts else b""  # how much augmentation data there is
        before = begin = table.addresses[first]
        for n in range(first, after):
            code += _advance(table.addresses[n] - before) + table.rules[n].code
            before = table.addresses[n]
        end = table.addresses[after]
        body = struct.pack("<IQQ", len(plain) if interrupts else 0, begin, end - begin) + code
        body += bytes(-(len(body) + 4) % 8)
        pieces.append(struct.pack("<I", len(body)) + body)
    return b"".join(pieces)


def _chunks(rules: list[Rules]) -> Iterator[tuple[int, int]]:
    """The rows of each entry: (the first, one past the last)."""
    begin = 0
    for n in range(1, len(rules)):
        if n - begin == ROWS or rules[n].interrupts != rules[begin].interrupts:
            yield begin, n
            begin = n
    if begin < len(rules) - 1:  # what the last row says is where it all ends
        yield begin, len(rules) - 1


# -- one row ----------------------------------------------------------------------------------------------------------
def _numbers(rows: bytes) -> list[int]:
    """The registers that the numbers in the rows stand for, found by this: in any kernel most rows use the stack
    pointer."""
    used = Counter(bits & 15 for bits in rows[4::ROW_BYTES])
    return LATER_NUMBERS if used[LATER_NUMBERS.index(SP)] > used[SP] else NUMBERS


def _rules(row: bytes, linux: tuple[int, int], numbers: list[int]) -> Rules:
    sp_offset, bp_offset, bits = struct.unpack("<hhH", row)
    sp_register, bp_register = numbers[bits & 15], numbers[bits >> 4 & 15]
    if linux >= RENUMBERED:
        kind = bits >> 8 & 7
    else:
        kind = OLD_TYPES.get(bits >> 8 & 3, TYPE_UNDEFINED)
    cfa = _cfa(sp_register, sp_offset)
    if cfa is None or kind in (TYPE_UNDEFINED, TYPE_END):
        nothing = _cfa(SP, 8)
        assert nothing is not None
        return Rules(nothing + bytes([DW_CFA_undefined, RETURN_ADDRESS, DW_CFA_same_value, RBP]), False)
    if kind in (TYPE_REGS, TYPE_REGS_PARTIAL):
        saved = PT_REGS if kind == TYPE_REGS else IRET_FRAME
        return Rules(cfa + b"".join(_saved(register, offset) for register, offset in saved.items()), True)
    return Rules(cfa + _saved(RETURN_ADDRESS, -8) + _rbp(bp_register, bp_offset), False)


def _cfa(register: int, offset: int) -> bytes | None:
    """The rule for the caller's stack pointer; None if it is not known."""
    if register in REGISTERS:
        number = REGISTERS[register]
        if offset >= 0:
            return bytes([DW_CFA_def_cfa, number]) + _uleb(offset)
        if offset % DATA_ALIGNMENT:
            return None
        return bytes([DW_CFA_def_cfa_sf, number]) + _sleb(offset // DATA_ALIGNMENT)
    if register == BP_INDIRECT:
        expression = bytes([DW_OP_breg0 + RBP]) + _sleb(offset) + bytes([DW_OP_deref])
    elif register == SP_INDIRECT and offset >= 0:
        expression = bytes([DW_OP_breg0 + RSP, 0, DW_OP_deref, DW_OP_plus_uconst]) + _uleb(offset)
    else:
        return None
    return bytes([DW_CFA_def_cfa_expression]) + _uleb(len(expression)) + expression


def _rbp(register: int, offset: int) -> bytes:
    """The rule for the caller's rbp: saved, or unchanged."""
    if register == PREV_SP:
        return _saved(RBP, offset)
    if register == BP:
        expression = bytes([DW_OP_breg0 + RBP]) + _sleb(offset)
        return bytes([DW_CFA_expression, RBP]) + _uleb(len(expression)) + expression
    return bytes([DW_CFA_same_value, RBP])


def _saved(register: int, offset: int) -> bytes:
    """The rule for a register that is saved at `offset` from the CFA."""
    return bytes([DW_CFA_offset_extended_sf, register]) + _sleb(offset // DATA_ALIGNMENT)


# -- how DWARF writes -------------------------------------------------------------------------------------------------
def _cie(augmentation: bytes) -> bytes:
    """The common part of entries (CIE)."""
    body = b"\xff\xff\xff\xff\x01" + augmentation + b"\0" + _uleb(1) + _sleb(DATA_ALIGNMENT) + _uleb(RETURN_ADDRESS)
    body += b"\0" if augmentation else b""
    body += bytes(-(len(body) + 4) % 8)
    return struct.pack("<I", len(body)) + body


def _advance(distance: int) -> bytes:
    if not distance:
        return b""
    if distance < 64:
        return bytes([DW_CFA_advance_loc | distance])
    if distance < 1 << 8:
        return bytes([DW_CFA_advance_loc1, distance])
    if distance < 1 << 16:
        return struct.pack("<BH", DW_CFA_advance_loc2, distance)
    return struct.pack("<BI", DW_CFA_advance_loc4, distance)


def _uleb(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _sleb(value: int) -> bytes:
    written = bytearray()
    while not -0x40 <= value < 0x40:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value & 0x7F])
