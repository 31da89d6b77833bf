# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables in the file, in slices of at most 4 KiB, of which the latest are in memory.

A slice is an array of numbers. Whoever changes one says so (`changed`), and `write` writes those that were. The cache
has a bound: whoever looks for a slice that is not there makes room by letting others go. If all have changes,
`make_room` is called, which has to write them: in which order tables may be written, the cache does not know.

Read beside it: block/qcow2-cache.c in QEMU.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable

from pvhv.images.file import File
from pvhv.images.shares import in_shares

SLICE_SIZE = 4096
MOST_SLICES = 2048  # of one cache: 8 MiB; of L2 tables they cover 64 GiB of disk, with clusters of 64 KiB
LITTLE_ENDIAN = sys.byteorder == "little"


def numbers(raw: bytes, typecode: str = "Q") -> array[int]:
    """The big-endian numbers in some bytes."""
    found = array(typecode, raw)
    if LITTLE_ENDIAN:
        found.byteswap()
    return found


def as_bytes(entries: array[int]) -> bytes:
    """The reverse of `numbers`."""
    if LITTLE_ENDIAN:
        entries = entries[:]
        entries.byteswap()
    return entries.tobytes()


class Slice:
    """A part of a table."""

    __slots__ = ("dirty", "entries", "offset", "used")

    def __init__(self, offset: int, entries: array[int]) -> None:
        self.offset = offset
        self.entries = entries
        self.dirty = False
        self.used = True


class Cache:
    """The slices of one kind of table."""

    def __init__(
        self,
        file: File,
        size: int,
        make_room: Callable[[], object],
        decode: Callable[[bytes], array[int]] = numbers,
        encode: Callable[[array[int]], bytes] = as_bytes,
    ) -> None:
        """A slice has `size` bytes in the file."""
        self.size = size
        self.most = MOST_SLICES
        self._file = file
        self._make_room = make_room
        self._decode, self._encode = decode, encode
        self._slices: dict[int, Slice] = {}
        self._dirty: list[Slice] = []

    def get(self, offset: int) -> Slice:
        """The slice at this place of the file. What lies beyond the file's end is zero, as in QEMU. Raises OSError."""
        found = self._slices.get(offset)
        if found is not None:
            found.used = True
            return found
        raw = self._file.read_some(offset, self.size).ljust(self.size, b"\0")
        if len(self._slices) >= self.most:
            self._evict()
        self._slices[offset] = found = Slice(offset, self._decode(raw))
        return found

    def _evict(self) -> None:
        """Let half of the slices go, first those that were not used since the last time. Raises OSError."""
        if len(self._dirty) > self.most // 2:
            self._make_room()
        for used in (False, True):
            for offset, each in in_shares(list(self._slices.items())):
                if len(self._slices) > self.most // 2 and not each.dirty and each.used == used:
                    del self._slices[offset]
        for each in in_shares(self._slices.values()):
            each.used = False

    def changed(self, changed: Slice) -> None:
        """This slice has to be written."""
        if not changed.dirty:
            changed.dirty = True
            self._dirty.append(changed)

    @property
    def dirty(self) -> bool:
        return bool(self._dirty)

    def write(self) -> None:
        """Write what has changed. Raises OSError, and then what is not written still has to be."""
        while self._dirty:
            last = self._dirty[-1]
            self._file.write(last.offset, self._encode(last.entries))
            last.dirty = False
            self._dirty.pop()

    def forget(self, offset: int, length: int) -> None:
        """This part of the file is another table's now: drop what is in memory of it."""
        for at in range(offset, offset + length, self.size):
            gone = self._slices.pop(at, None)
            if gone is not None and gone.dirty:
                self._dirty.remove(gone)
