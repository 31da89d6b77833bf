# SPDX-License-Identifier: GPL-2.0-or-later
"""A raw image: a plain file that has the bytes of a disk.

The file is opened and checked once, and used through that descriptor, so it does not matter if its name leads to
another file later. The disk has the length that the file had then, in whole sectors; `refresh` looks again. If the file
is cut short meanwhile, reading fails; it does not return zeros.

As a backing file it is `padded`: a last sector that is not whole counts, and is filled with zeros.

Not modelled: devices of the host. A host that cannot make holes keeps the room of what is discarded.

Read beside it: drivers/block/loop.c in Linux, which stands between blkback and a file there.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from pvhv.images.file import File
from pvhv.images.image import SECTOR_SIZE, Identity, refused_to_write


class RawImage:
    """The sectors of a file."""

    below: tuple[Identity, ...] = ()

    def __init__(self, file: io.FileIO | File, padded: bool = False) -> None:
        """`file` has no buffer. If it cannot be written to, the disk is read-only."""
        self._file = file if isinstance(file, File) else File(file)
        self._padded = padded
        self.readonly = not self._file.writable
        self.identity = self._file.identity
        self.sectors = 0
        self.refresh()

    def run(self, sector: int, count: int) -> tuple[bool, int]:
        """Whether there may be anything but zeros from `sector` on, and for how many of `count` sectors that is so.
        Raises OSError."""
        offset = sector * SECTOR_SIZE
        data = self._file.next_data(offset)
        if data >= offset + SECTOR_SIZE:
            return False, min(count, (data - offset) // SECTOR_SIZE)
        hole = self._file.next_hole(max(offset, data))
        return True, max(1, min(count, -(-(hole - offset) // SECTOR_SIZE)))

    def read(self, sector: int, count: int) -> bytes:
        """Return `count` sectors from `sector` on. Raises OSError."""
        offset, length = sector * SECTOR_SIZE, count * SECTOR_SIZE
        if self._padded and offset + length > self._length:
            data = self._file.read(offset, max(0, self._length - offset))
            return data.ljust(length, b"\0")
        return self._file.read(offset, length)

    def read_now(self, sector: int, count: int, parts: Sequence[memoryview]) -> bool:
        """Fill `parts` with `count` sectors from `sector` on, if the host has them in memory. (It never has what is
        beyond the end of the file.)"""
        return self._file.read_now(sector * SECTOR_SIZE, count * SECTOR_SIZE, parts)

    def write(self, sector: int, data: bytes) -> None:
        """Write `data` from `sector` on. Raises OSError, and then a part of it may be written."""
        if self.readonly:
            raise refused_to_write()
        self._file.write(sector * SECTOR_SIZE, data)

    def discard(self, sector: int, count: int) -> None:
        """Give the room of `count` sectors back to the host, if it can take it. Raises OSError."""
        if self.readonly:
            raise refused_to_write()
        self._file.punch(sector * SECTOR_SIZE, count * SECTOR_SIZE)

    def flush(self) -> None:
        """Wait until everything that was written is on the host's disk. Raises OSError."""
        self._file.sync()

    def refresh(self) -> None:
        """Find out anew how many sectors it has. Raises OSError."""
        self._length = self._file.measure()
        self.sectors = (self._length + (SECTOR_SIZE - 1 if self._padded else 0)) // SECTOR_SIZE

    def close(self) -> None:
        """Close the file. May be called again."""
        self._file.close()
