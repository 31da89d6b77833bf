# SPDX-License-Identifier: GPL-2.0-or-later
"""The names a Linux kernel carries within itself, for kernels whose own symbol table was stripped.

A distribution's kernel has no .symtab, but it prints names when it oopses: its read-only data hold every name, packed,
beside its address. Packing is by pairs: a name is a list of bytes, each of which stands for a token (often several
characters) of a table of 256. What is there, in the order of Linux 5.10 to 6.4, of those after, and of 7.0:

    offsets  relative_base  num_syms  names  markers  [seqs_of_names]  token_table  token_index
    num_syms  names  markers  token_table  token_index  offsets  relative_base  [seqs_of_names]
    num_syms  names  markers  token_table  token_index  offsets  [seqs_of_names]

Nothing says where the tables are, so they are found by their shape: the tokens "0" to "9" follow each other, and behind
the table is an index of 256 offsets that fits them; the markers, behind the names, have the place of every 256th name.
If all of this agrees, the image has these tables; else it has no names.

Addresses are distances from relative_base; in a kernel with per-CPU variables (every one that knows more processors
than one) those are small numbers, and all others are negated. Per-CPU variables have no address, and are left out.
Without a relative_base each distance is from where it stands itself.

A hostile file can look like these tables everywhere, which would make the search long. So the search may take only so
much `Effort`, many times what a kernel needs; and its steps are short, so that other threads get their turns.

Not modelled: kernels before 4.20, whose markers are wider; names of modules, which live in the guest's memory.

Read beside it: scripts/kallsyms.c and kernel/kallsyms.c in Linux.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from itertools import pairwise
from mmap import mmap

from pvhv.abi.elf import PT_LOAD
from pvhv.observe.symbols import MOST_SYMBOLS, Symbol

TOKENS = 256
DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
LONGEST_TOKENS = 4096  # the whole table
NAMES_PER_MARKER = 256
LEAST_NAMES, MOST_NAMES = 256, MOST_SYMBOLS
LONGEST_NAMES = 8 << 20
KERNEL_HALF = 0xFFFF_8000_0000_0000
TYPES = frozenset("aAbBdDgGiInNpPrRsStTuUvVwW?")
CODE_TYPES = frozenset("tTwW")

MOST_EFFORT = 8 << 20  # names looked at, or as much; a distribution's kernel takes two millions
SEARCHED_AT_ONCE = 1 << 20
SEARCHED_BY_EFFORT = 4096  # bytes

Buffer = bytes | bytearray | mmap


class GaveUp(Exception):
    """The search has taken too long."""


class Effort:
    """The effort that the search may still take."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, cost: int) -> None:
        """Take `cost` of the effort. Raises GaveUp when there is none left."""
        self.left -= cost
        if self.left < 0:
            raise GaveUp


def kallsyms(data: Buffer) -> list[Symbol]:
    """The symbols in a kernel's image, by address; an empty list if it has none. A symbol's size is the distance to the
    next."""
    effort = Effort(MOST_EFFORT)
    try:
        for tokens, table, behind in _token_tables(data, effort):
            for names, count in _beginnings(data, tokens, table, effort):
                effort.spend(4 * count)
                addresses = _addresses(data, names, count, behind)
                if addresses is not None:
                    return _symbols(zip(addresses, _names(data, tokens, names, count), strict=True))
    except GaveUp:
        pass
    return []


def _places(data: Buffer, what: bytes, effort: Effort) -> Iterator[int]:
    """The offsets at which the bytes `what` are."""
    for start in range(0, len(data), SEARCHED_AT_ONCE):
        end = start + SEARCHED_AT_ONCE + len(what) - 1
        effort.spend(SEARCHED_AT_ONCE // SEARCHED_BY_EFFORT)
        at = data.find(what, start, end)
        while at >= 0:
            yield at
            at = data.find(what, at + 1, end)


# -- tokens ------------------------------------------------------------------------------------------------------------
def _token_tables(data: Buffer, effort: Effort) -> Iterator[tuple[list[str], int, int]]:
    """(tokens, where their table begins, where the index behind it ends); as a rule there is one."""
    for at in _places(data, DIGITS, effort):
        effort.spend(TOKENS)
        start = _strings_before(data, at, ord("0"))
        if start is not None:
            found = _tokens(data, start)
            if found is not None:
                yield found[0], start, found[1]


def _strings_before(data: Buffer, at: int, count: int) -> int | None:
    """Where the last `count` strings before `at` begin."""
    least = max(at - LONGEST_TOKENS, 0)
    for _ in range(count):
        at = data.rfind(b"\0", least, at - 1) + 1
        if at <= least:
            return None
    return at


def _tokens(data: Buffer, start: int) -> tuple[list[str], int] | None:
    """The tokens at `start` and the end of their index, if there is one."""
    pieces = data[start : start + LONGEST_TOKENS].split(b"\0", TOKENS)
    if len(pieces) <= TOKENS:
        return None
    del pieces[TOKENS:]
    offsets = array("H", [0])
    for piece in pieces:
        offsets.append(offsets[-1] + len(piece) + 1)
    end = start + offsets.pop()
    index = struct.pack(f"<{TOKENS}H", *offsets)
    at = data.find(index, end, end + 64 + len(index))
    return None if at < 0 else ([piece.decode("latin-1") for piece in pieces], at + len(index))


# -- names -------------------------------------------------------------------------------------------------------------
def _beginnings(data: Buffer, tokens: list[str], end: int, effort: Effort) -> Iterator[tuple[int, int]]:
    """(where the names begin, num_syms) for each place before `end` that fits the names and the markers."""
    least = max(end - LONGEST_NAMES, 0) & ~7
    words = memoryview(data)[least : end & ~7].cast("I")
    for n in range(len(words) - 2, -1, -1):
        count = words[n]
        if not n % TOKENS:
            effort.spend(TOKENS // 4)
        if LEAST_NAMES <= count < MOST_NAMES:
            padded = n % 2 == 0 and words[n + 1] == 0
            start = least + n * 4 + (8 if padded else 4)
            if _marked(data, tokens, start, count, end, effort):
                yield start, count


def _marked(data: Buffer, tokens: list[str], at: int, count: int, end: int, effort: Effort) -> bool:
    """Whether `count` names begin at `at`, with their markers behind them."""
    first = at
    markers = array("I")
    for n in range(count):
        if n % NAMES_PER_MARKER == 0:
            markers.append(at - first)
            effort.spend(NAMES_PER_MARKER if n != NAMES_PER_MARKER else (end - at) // SEARCHED_BY_EFFORT)
            if n == NAMES_PER_MARKER and data.find(struct.pack("<2I", *markers), at, end) < 0:
                return False  # soon, for there are many such places
        size, at = _length(data, at)
        if not size or at + size > end or tokens[data[at]][:1] not in TYPES:
            return False
        at += size
    wanted = struct.pack(f"<{len(markers)}I", *markers)
    return wanted in (data[place : place + len(wanted)] for place in (at + 3 & ~3, at + 7 & ~7))


def _length(data: Buffer, at: int) -> tuple[int, int]:
    """(how many bytes a name has, where they begin). The length is one byte, or for a long name two."""
    size = data[at]
    if size & 0x80:
        return size & 0x7F | data[at + 1] << 7, at + 2
    return size, at + 1


def _names(data: Buffer, tokens: list[str], at: int, count: int) -> Iterator[str]:
    """The names, each behind the letter of its type."""
    token = tokens.__getitem__
    for _ in range(count):
        size, at = _length(data, at)
        yield "".join(map(token, data[at : at + size]))
        at += size


# -- addresses ---------------------------------------------------------------------------------------------------------
def _addresses(data: Buffer, names: int, count: int, behind: int) -> list[int] | None:
    """The addresses of all names: before num_syms, or behind the index of tokens."""
    size = count * 4 + 7 & ~7
    after = behind + 7 & ~7
    for offsets, base in ((names - 16 - size, names - 16), (after, after + size)):
        if offsets < 0 or base + 8 > len(data):
            continue
        relative_base = struct.unpack_from("<Q", data, base)[0]
        if relative_base >= KERNEL_HALF:
            addresses = _relative(struct.unpack_from(f"<{count}i", data, offsets), relative_base)
            if _sorted(addresses):
                return addresses
    whole = names - 8 - count * 8
    if whole >= 0:
        addresses = list(struct.unpack_from(f"<{count}Q", data, whole))
        if addresses[-1] >= KERNEL_HALF and _sorted(addresses):
            return addresses
    return _self_relative(data, behind + 3 & ~3, count)


def _self_relative(data: Buffer, offsets: int, count: int) -> list[int] | None:
    place = _loaded_at(data, offsets)
    if place is None or offsets + count * 4 > len(data):
        return None
    distances = struct.unpack_from(f"<{count}i", data, offsets)
    addresses = [place + 4 * n + distance for n, distance in enumerate(distances)]
    return addresses if addresses[0] >= KERNEL_HALF and _sorted(addresses) else None


def _loaded_at(data: Buffer, offset: int) -> int | None:
    """The address of what is at `offset` of an ELF file, by its program headers."""
    if data[:4] != b"\x7fELF" or len(data) < 64:
        return None
    headers, size, count = (*struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54))
    for at in range(headers, min(headers + size * count, len(data) - 55), max(size, 56)):
        kind, begins, address, length = struct.unpack_from("<I4xQQ8xQ", data, at)
        if kind == PT_LOAD and begins <= offset < begins + length:
            return int(address) + offset - int(begins)
    return None


def _sorted(addresses: list[int]) -> bool:
    return all(a <= b for a, b in pairwise(addresses))


def _relative(distances: tuple[int, ...], base: int) -> list[int]:
    if min(distances) < 0:
        return [distance if distance >= 0 else base - 1 - distance for distance in distances]
    return [base + distance for distance in distances]


def _symbols(named: Iterator[tuple[int, str]]) -> list[Symbol]:
    table = [(address, name) for address, name in named if address >= KERNEL_HALF]
    ends = [address for address, _ in table]
    symbols = []
    following = 0
    for address, name in table:
        while following < len(ends) and ends[following] <= address:
            following += 1
        size = ends[following] - address if following < len(ends) and name[0] in CODE_TYPES else 0
        symbols.append(Symbol(address, size, name[1:]))
    return symbols
