# SPDX-License-Identifier: GPL-2.0-or-later
"""The symbol table of an ELF file: functions and other named places in code and data.

Read beside it: elf(5); pvhv.observe.symbols, which says how many there may be.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pvhv.abi.elf import SHN_LORESERVE, SHN_UNDEF, SYMBOL_BYTES
from pvhv.observe.symbols import MOST_SYMBOLS, Symbol, Symbols, TooMany
from pvhv.toolstack.elf_image import Damaged, Image

LONGEST_NAME = 1024  # of a symbol; C++ and Rust have such
NAMED_TYPES = 2  # a bare label, an object, a function


def symbols_in(image: Image) -> Iterator[Symbol]:
    """All symbols, in the file's order. Raises TooMany (before the first symbol) and Damaged."""
    table = image.section(".symtab")
    if table is None:
        return
    rows, strings = image.contents(table), image.linked(table)
    count = len(rows) // SYMBOL_BYTES
    if count > MOST_SYMBOLS:
        raise TooMany(f"it has {count} symbols, more than the {MOST_SYMBOLS} that are kept")
    for name_at, info, _other, section, value, size in struct.iter_unpack("<IBBHQQ", rows[: count * SYMBOL_BYTES]):
        if info & 15 > NAMED_TYPES or section == SHN_UNDEF or section >= SHN_LORESERVE or not value:
            continue
        name = image.string(strings.offset + name_at, LONGEST_NAME) if name_at < strings.size else ""
        if name and not name.startswith((".L", "$")):
            yield Symbol(value, size, name)


def own_symbols(image: Image) -> Symbols:
    """The file's own symbol table; empty where it was stripped, or is damaged."""
    try:
        return Symbols(symbols_in(image))
    except TooMany as many:
        return Symbols.none(many.why)
    except Damaged:
        return Symbols()
