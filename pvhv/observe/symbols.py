# SPDX-License-Identifier: GPL-2.0-or-later
"""Symbols for addresses: a kernel's symbol table, looked up as a stack trace needs it.

A symbol covers its size, or, where the assembler gave it none, everything up to the next symbol. An address
outside the kernel has no name, and a kernel without symbols has none at all: both stay bare numbers.

A kernel's file may have any number of symbols, and they are read while guests run. So there may be `MOST_SYMBOLS` and
`MOST_NAME_BYTES` at most; for more, none are kept, and `missing` says why. They are kept in columns, and the names in
one text: Python frees half a million objects in one go, while all threads wait. They are sorted in pieces, since a sort
of many is done in one go, too.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from heapq import merge
from itertools import islice
from typing import NamedTuple, TypeVar

from pvhv.machine.x86 import MASK64

MOST_SYMBOLS = 1 << 19  # a distribution's Linux has 150000
MOST_NAME_BYTES = 32 << 20
SORTED_AT_ONCE = 1 << 13
T = TypeVar("T")


class Symbol(NamedTuple):
    address: int
    size: int
    name: str


class TooMany(Exception):
    """There are more symbols than may be kept; `why` is a message."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Symbols:
    """A sorted symbol table. `missing` says why there are no symbols, if there could be some."""

    def __init__(self, symbols: Iterable[Symbol] = ()) -> None:
        """Sort the symbols. Raises TooMany."""
        self.missing = ""
        self.addresses: array[int] = array("Q")
        self.sizes: array[int] = array("Q")
        self._text = bytearray()  # the names, one after another
        self._ends: array[int] = array("I")  # of each in it
        last, begin = "", 0
        for address, size, name in _sorted(_counted(symbols)):
            if self._ends and self.addresses[-1] == address:
                # Of several names for one address the one with a size is the function, the others are marks in it.
                if _rank(size, name) <= _rank(self.sizes[-1], last):
                    continue
                for column in (self.addresses, self.sizes, self._ends):
                    column.pop()
                del self._text[begin:]
            last, begin = name, len(self._text)
            self._text += name.encode("utf-8", "surrogatepass")
            self.addresses.append(address)
            self.sizes.append(size)
            self._ends.append(len(self._text))

    @classmethod
    def none(cls, why: str) -> Symbols:
        """An empty table; `why` is the reason."""
        symbols = cls()
        symbols.missing = why
        return symbols

    def __len__(self) -> int:
        return len(self.addresses)

    def __iter__(self) -> Iterator[Symbol]:
        return map(Symbol, self.addresses, self.sizes, self._names())

    def _names(self) -> Iterator[str]:
        return map(self._name, range(len(self)))

    def _name(self, at: int) -> str:
        begin = self._ends[at - 1] if at else 0
        return self._text[begin : self._ends[at]].decode("utf-8", "surrogatepass")

    @cached_property
    def by_name(self) -> dict[str, int]:
        """The addresses of symbols, by name."""
        return dict(zip(self._names(), self.addresses, strict=True))

    def find(self, address: int) -> tuple[str, int] | None:
        """(name, offset) of the symbol around `address`, or None."""
        at = bisect_right(self.addresses, address) - 1
        if at < 0:
            return None
        offset = address - self.addresses[at]
        if self.sizes[at]:
            inside = offset < self.sizes[at]
        else:
            inside = at + 1 < len(self) and address < self.addresses[at + 1]
        return (self._name(at), offset) if inside else None

    def name(self, address: int) -> str:
        """`symbol+0x12`, or the bare address."""
        found = self.find(address)
        if found is None:
            return f"{address:#x}"
        return f"{found[0]}+{found[1]:#x}" if found[1] else found[0]


def _rank(size: int, name: str) -> tuple[int, bool]:
    return size, not name.startswith("_")


def _counted(symbols: Iterable[Symbol]) -> Iterator[tuple[int, int, str]]:
    """The symbols as plain tuples, which the garbage collector need not look at. Raises TooMany."""
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
        piece.sort(reverse=True)
        pieces.append(drained(piece))
    return merge(*pieces)


def drained(symbols: list[T]) -> Iterator[T]:
    """The symbols from the last to the first. Each is freed as it is taken, instead of all together at the end."""
    while symbols:
        yield symbols.pop()
