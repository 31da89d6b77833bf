# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux's unwinding tables mean the same when they are written as DWARF."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from elftools.dwarf.callframe import CIE, FDE
from elftools.elf.elffile import ELFFile

from pvhv.observe import orc, symbol_file
from pvhv.observe.orc import BP, BP_INDIRECT, DI, PREV_SP, R10, SP, SP_INDIRECT, UNDEFINED

TEXT, PLACES = 0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_82C0_0000
RBP, RSP, RIP = 6, 7, 16
CALL, REGS, PARTIAL, END = "call", "regs", "partial", "end"
TYPES = {
    (6, 1): {CALL: 0, REGS: 1, PARTIAL: 2, END: 0},
    (6, 12): {CALL: 2, REGS: 3, PARTIAL: 4, END: 1},
    (7, 2): {CALL: 2, REGS: 3, PARTIAL: 4, END: 1},
}

Row = tuple[int, str, int, int, int, int]  # offset in the text, type, sp register and offset, bp register and offset


def tables(rows: list[Row], linux: tuple[int, int]) -> tuple[bytes, bytes]:
    number = (orc.LATER_NUMBERS if linux >= (7, 0) else orc.NUMBERS).index
    places = b"".join(struct.pack("<i", TEXT + row[0] - PLACES - 4 * n) for n, row in enumerate(rows))
    packed = b"".join(
        struct.pack("<hhH", sp_offset, bp_offset, number(sp) | number(bp) << 4 | TYPES[linux][kind] << 8)
        for _, kind, sp, sp_offset, bp, bp_offset in rows
    )
    return places, packed


def entries(rows: list[Row], linux: tuple[int, int]) -> list[Any]:
    """The entries, as a reader of DWARF has them."""
    places, packed = tables(rows, linux)
    frames = orc.debug_frame(places, PLACES, packed, linux)
    file = ELFFile(io.BytesIO(symbol_file.write([], [symbol_file.Section(".text", TEXT, 4096, 6)], frames=frames)))
    return list(file.get_dwarf_info(relocate_dwarf_sections=False).CFI_entries())


def decoded(rows: list[Row], linux: tuple[int, int]) -> dict[int, dict[Any, Any]]:
    """Offset in the text -> the rules that begin there."""
    return {
        line["pc"] - TEXT: line
        for entry in entries(rows, linux)
        if isinstance(entry, FDE)
        for line in entry.get_decoded().table
    }


@pytest.mark.parametrize("linux", TYPES)
def test_rows(linux: tuple[int, int]) -> None:
    rows: list[Row] = [
        (0, CALL, SP, 8, UNDEFINED, 0),  # at a function's entry
        (1, CALL, SP, 16, PREV_SP, -16),  # behind push %rbp
        (4, CALL, BP, 16, PREV_SP, -16),
        (80, CALL, R10, 8, BP, -24),
        (0x200, CALL, BP_INDIRECT, -8, UNDEFINED, 0),
        (0x201, CALL, SP_INDIRECT, 8, UNDEFINED, 0),
        (0x300, REGS, SP, 0, UNDEFINED, 0),  # at an entry to the kernel
        (0x302, PARTIAL, SP, 8, UNDEFINED, 0),
        (0x310, END, UNDEFINED, 0, UNDEFINED, 0),
        (0x320, CALL, DI, -8, UNDEFINED, 0),
        (0x330, CALL, SP, 8, UNDEFINED, 0),  # where the last one ends
    ]
    found = decoded(rows, linux)
    assert sorted(found) == [row[0] for row in rows[:-1]]

    def cfa(at: int) -> tuple[int, int]:
        return found[at]["cfa"].reg, found[at]["cfa"].offset

    def saved(at: int, register: int) -> tuple[str, int | None]:
        rule = found[at][register]
        return rule.type, rule.arg

    assert [cfa(at) for at in (0, 1, 4, 80, 0x300, 0x302)] == [
        (RSP, 8), (RSP, 16), (RBP, 16), (10, 8), (RSP, 0), (RSP, 8),
    ]  # fmt: skip
    assert cfa(0x320) == (5, -8 // orc.DATA_ALIGNMENT)  # which this reader does not multiply
    for at in (0, 1, 4, 80, 0x200, 0x201, 0x320):
        assert saved(at, RIP) == ("OFFSET", -8)
    assert saved(0, RBP)[0] == saved(0x320, RBP)[0] == "SAME_VALUE" and saved(4, RBP) == ("OFFSET", -16)
    assert saved(80, RBP) == ("EXPRESSION", [0x76, 0x68])  # breg6 -24
    assert found[0x200]["cfa"].expr == [0x76, 0x78, 0x06] and found[0x201]["cfa"].expr == [0x77, 0, 0x06, 0x23, 8]
    assert [saved(0x300, register) for register in (RIP, RSP, RBP, 3, 12, 15)] == [
        ("OFFSET", 128), ("OFFSET", 152), ("OFFSET", 32), ("OFFSET", 40), ("OFFSET", 24), ("OFFSET", 0),
    ]  # fmt: skip
    assert saved(0x302, RIP) == ("OFFSET", 0) and saved(0x302, RSP) == ("OFFSET", 24)
    assert saved(0x310, RIP)[0] == "UNDEFINED"


def test_entries_join_and_none_is_long() -> None:
    """Every address is in one entry, of those that interrupt or of the others, and none is looked through for long."""
    rows: list[Row] = [(3 * n, REGS if n % 150 == 149 else CALL, SP, 8 + 8 * (n % 4), UNDEFINED, 0) for n in range(500)]
    found = entries(rows, (6, 1))
    commons = [entry for entry in found if isinstance(entry, CIE)]
    assert [common["augmentation"] for common in commons] == [b"", b"zS"]
    ranges = [entry for entry in found if isinstance(entry, FDE)]
    at = TEXT
    for entry in ranges:
        assert entry["initial_location"] == at
        at += entry["address_range"]
        assert len(entry.get_decoded().table) <= orc.ROWS
        interrupts = (entry["initial_location"] - TEXT) // 3 % 150 == 149
        assert entry.cie["augmentation"] == (b"zS" if interrupts else b"")
    assert at == TEXT + 3 * 499


def test_which_linux() -> None:
    assert orc.version(b"..Linux version 6.12.107+deb13-amd64 (gcc)") == (6, 12)
    assert orc.version(b"Linux version") is None


def test_nothing_comes_of_nothing() -> None:
    assert [type(entry) for entry in entries([], (6, 1))] == [CIE, CIE]
    assert len(orc.debug_frame(b"\0" * 7, PLACES, b"\0" * 20, (6, 1))) == len(orc.debug_frame(b"", PLACES, b"", (6, 1)))
