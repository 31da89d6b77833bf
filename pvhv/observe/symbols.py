# SPDX-License-Identifier: GPL-2.0-or-later
"""Names for addresses: a kernel's own symbol table, asked the way a stack trace asks.

A symbol covers its size, or, where the assembler gave it none, everything up to the next symbol. An address
outside the kernel has no name, and a kernel without symbols has none at all: both stay bare numbers.

A kernel's file may hold any number of symbols, and whoever reads them does so beside guests that run. So there are no
more than `MOST_SYMBOLS` and `MOST_NAME_BYTES`, or none at all and a word why; they are kept in columns, not as an
object each; and they are sorted in pieces, since a sort of many is done in one go, for which everybody waits.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from heapq import merge
from itertools import islice
from typing import NamedTuple

MOST_SYMBOLS = 1 << 19  # a distribution's Linux has 150000
MOST_NAME_BYTES = 32 << 20
SORTED_AT_ONCE = 1 << 13
MASK64 = (1 << 64) - 1


class Symbol(NamedTuple):
    address: int
    size: int
    name: str


class TooMany(Exception):
    """There are more symbols than are kept: `why`, in words."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Symbols:
    """A symbol table, sorted once. `missing` says why there are none, where there could be."""

    def __init__(self, symbols: Iterable[Symbol] = ()) -> None:
        """Raises TooMany."""
        self.missing = ""
        self.addresses: array[int] = array("Q")
        self.sizes: array[int] = array("Q")
        self.names: list[str] = []
        for address, size, name in _sorted(_counted(symbols)):
            if self.names and self.addresses[-1] == address:
                # Of several names for one address the one with a size is the function, the others are marks in it.
                if _rank(size, name) > _rank(self.sizes[-1], self.names[-1]):
                    self.sizes[-1], self.names[-1] = size, name
                continue
            self.addresses.append(address)
            self.sizes.append(size)
            self.names.append(name)

    @classmethod
    def none(cls, why: str) -> Symbols:
        """No names, for that reason."""
        symbols = cls()
        symbols.missing = why
        return symbols

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Symbol]:
        return map(Symbol, self.addresses, self.sizes, self.names)

    @cached_property
    def by_name(self) -> dict[str, int]:
        """The addresses of names."""
        return dict(zip(self.names, self.addresses, strict=True))

    def find(self, address: int) -> tuple[str, int] | None:
        """(name, offset) of the symbol around `address`, or None."""
        at = bisect_right(self.addresses, address) - 1
        if at < 0:
            return None
        offset = address - self.addresses[at]
        if self.sizes[at]:
            inside = offset < self.sizes[at]
        else:
            inside = at + 1 < len(self.names) and address < self.addresses[at + 1]
        return (self.names[at], offset) if inside else None

    def name(self, address: int) -> str:
        """`symbol+0x12`, or the bare address."""
        found = self.find(address)
        if found is None:
            return f"{address:#x}"
        return f"{found[0]}+{found[1]:#x}" if found[1] else found[0]


def _rank(size: int, name: str) -> tuple[int, bool]:
    return size, not name.startswith("_")


def _counted(symbols: Iterable[Symbol]) -> Iterator[tuple[int, int, str]]:
    """They, as long as they are not too many; as plain tuples, which the garbage collector need not look at."""
    room = MOST_NAME_BYTES
    for count, (address, size, name) in enumerate(symbols):
        room -= len(name)
        if count >= MOST_SYMBOLS:
            raise TooMany(f"it has more than {MOST_SYMBOLS} symbols")
        if room < 0:
            raise TooMany(f"its symbols have more than {MOST_NAME_BYTES >> 20} MiB of names")
        yield address & MASK64, size & MASK64, name


def _sorted(symbols: Iterator[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    pieces = []
    while piece := list(islice(symbols, SORTED_AT_ONCE)):
        piece.sort()
        pieces.append(piece)
    return merge(*pieces)
