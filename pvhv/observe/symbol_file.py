# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's names as a file that debuggers load: an ELF program of sections without contents, and a symbol table.

A debugger reads memory from the machine, and needs the file for names only. So each section has its address, size and
rights, but no contents (NOBITS). A symbol belongs to the section that its address is in, or follows. The tables that
unwind the stack, if there are any, are in .debug_frame.

Read beside it: elf(5); include/uapi/linux/elf.h in Linux.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pvhv.abi.elf import (
    ELF_HEADER_BYTES,
    EM_X86_64,
    ET_EXEC,
    SECTION_BYTES,
    SHF_EXECINSTR,
    SHN_ABS,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_STRTAB,
    SHT_SYMTAB,
    SYMBOL_BYTES,
)
from pvhv.observe.symbols import Symbol

GLOBAL_NOTYPE, GLOBAL_OBJECT, GLOBAL_FUNC = 0x10, 0x11, 0x12

_SYMBOL = struct.Struct("<IBBHQQ")


class Section(NamedTuple):
    """A stretch of the kernel's memory; `flags` are SHF_*."""

    name: str
    address: int
    size: int
    flags: int


class _Strings:
    """A string table under construction."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = [b"\0"]
        self.size = 1

    def add(self, text: str) -> int:
        at = self.size
        piece = text.encode() + b"\0"
        self.pieces.append(piece)
        self.size += len(piece)
        return at

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


def write(symbols: Iterable[Symbol], sections: Sequence[Section], entry: int = 0, frames: bytes = b"") -> bytes:
    """The file. `frames` is the contents of .debug_frame."""
    placed = sorted(sections, key=lambda section: section.address)
    strings = _Strings()
    table = b"".join(
        [bytes(SYMBOL_BYTES), *(_symbol(symbol, strings.add(symbol.name), placed) for symbol in symbols)]
    )
    names = _Strings()
    bodies = [b""]  # of the sections that have contents
    headers = [bytes(SECTION_BYTES)]
    at = ELF_HEADER_BYTES

    def add(name: str, kind: int, data: bytes, link: int = 0, info: int = 0, entry_size: int = 0) -> None:
        nonlocal at
        padding = -at % 8
        bodies.append(bytes(padding) + data)
        at += padding
        headers.append(
            struct.pack("<IIQQQQIIQQ", names.add(name), kind, 0, 0, at, len(data), link, info, 8, entry_size)
        )
        at += len(data)

    for section in placed:
        headers.append(
            struct.pack(
                "<IIQQQQIIQQ", names.add(section.name), SHT_NOBITS, section.flags, section.address, at, section.size,
                0, 0, 1, 0,
            )
        )  # fmt: skip
    if frames:
        add(".debug_frame", SHT_PROGBITS, frames)
    add(".symtab", SHT_SYMTAB, table, link=len(headers) + 1, info=1, entry_size=SYMBOL_BYTES)
    add(".strtab", SHT_STRTAB, strings.data)
    name_of_names = names.add(".shstrtab")
    data = names.data
    headers.append(struct.pack("<IIQQQQIIQQ", name_of_names, SHT_STRTAB, 0, 0, at, len(data), 0, 0, 1, 0))
    bodies.append(data + bytes(-(at + len(data)) % 8))
    at += len(bodies[-1])
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, ET_EXEC, EM_X86_64, 1, entry, 0, at, 0,
        ELF_HEADER_BYTES, 0, 0, SECTION_BYTES, len(headers), len(headers) - 1,
    )  # fmt: skip
    return b"".join([header, *bodies, *headers])


def _symbol(symbol: Symbol, name: int, sections: Sequence[Section]) -> bytes:
    at = bisect_right(sections, symbol.address, key=lambda section: section.address) - 1
    if at < 0:
        return _SYMBOL.pack(name, GLOBAL_NOTYPE, 0, SHN_ABS, symbol.address, symbol.size)
    kind = GLOBAL_FUNC if sections[at].flags & SHF_EXECINSTR else GLOBAL_OBJECT
    return _SYMBOL.pack(name, kind, 0, at + 1, symbol.address, symbol.size)
