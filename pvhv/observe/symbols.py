# SPDX-License-Identifier: GPL-2.0-or-later
"""Names for addresses: a kernel's own symbol table, asked the way a stack trace asks.

A symbol covers its size, or, where the assembler gave it none, everything up to the next symbol. An address
outside the kernel has no name, and a kernel without symbols has none at all: both stay bare numbers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple


class Symbol(NamedTuple):
    address: int
    size: int
    name: str


class Symbols:
    """A symbol table, sorted once."""

    def __init__(self, symbols: Iterable[Symbol] = ()) -> None:
        unique: dict[int, Symbol] = {}
        for symbol in symbols:
            known = unique.get(symbol.address)
            # Of several names for one address the one with a size is the function, the others are marks in it.
            if known is None or (symbol.size, not symbol.name.startswith("_")) > (
                known.size,
                not known.name.startswith("_"),
            ):
                unique[symbol.address] = symbol
        self.table = sorted(unique.values())
        self.addresses = [symbol.address for symbol in self.table]
        self.by_name = {symbol.name: symbol.address for symbol in self.table}

    def __len__(self) -> int:
        return len(self.table)

    def find(self, address: int) -> tuple[str, int] | None:
        """(name, offset) of the symbol around `address`, or None."""
        at = bisect_right(self.addresses, address) - 1
        if at < 0:
            return None
        symbol = self.table[at]
        offset = address - symbol.address
        if symbol.size:
            inside = offset < symbol.size
        else:
            inside = at + 1 < len(self.table) and address < self.addresses[at + 1]
        return (symbol.name, offset) if inside else None

    def name(self, address: int) -> str:
        """`symbol+0x12`, or the bare address."""
        found = self.find(address)
        if found is None:
            return f"{address:#x}"
        return f"{found[0]}+{found[1]:#x}" if found[1] else found[0]
