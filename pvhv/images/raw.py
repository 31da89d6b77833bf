# SPDX-License-Identifier: GPL-2.0-or-later
"""A raw image: a plain file that has the bytes of a disk.

The file is opened and checked once, and used through that descriptor, so it does not matter if its name leads to
another file later. The disk has the length that the file had then, in whole sectors. If the file is cut short
meanwhile, reading fails; it does not return zeros.

Not modelled: other formats, devices of the host, holes (they are read as zeros, and writing zeros fills them).

Read beside it: drivers/block/loop.c in Linux, which stands between blkback and a file there.
"""

from __future__ import annotations

import io
import os

from pvhv.images.image import SECTOR_SIZE


class RawImage:
    """The sectors of a file."""

    def __init__(self, file: io.FileIO) -> None:
        """`file` has no buffer. If it cannot be written to, the disk is read-only."""
        self._file = file
        self.readonly = not file.writable()
        status = os.fstat(file.fileno())
        self.sectors = status.st_size // SECTOR_SIZE
        self.identity = status.st_dev, status.st_ino

    def read(self, sector: int, count: int) -> bytes:
        """Return `count` sectors from `sector` on. Raises OSError."""
        self._file.seek(sector * SECTOR_SIZE)
        data, left = [], count * SECTOR_SIZE
        while left:
            piece = self._file.read(left)
            if not piece:
                raise OSError("the image became shorter")
            data.append(piece)
            left -= len(piece)
        return b"".join(data)

    def write(self, sector: int, data: bytes) -> None:
        """Write `data` from `sector` on. Raises OSError, and then a part of it may be written."""
        self._file.seek(sector * SECTOR_SIZE)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]

    def discard(self, sector: int, count: int) -> None:
        """Do nothing: the bytes stay, and so does the room that they take."""

    def flush(self) -> None:
        """Wait until everything that was written is on the host's disk. Raises OSError."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. May be called again."""
        self._file.close()
