# SPDX-License-Identifier: GPL-2.0-or-later
"""A raw image: a plain file whose bytes are the disk's.

It is used through a descriptor that was opened and looked at once, so that whatever its name leads to later is nothing
to us. Its length is what it was then; what is beyond the last whole sector is not shown. A file that is cut short
meanwhile fails to be read, and is not taken for zeros.

Not modelled: other formats, holes (they are read as zeros, and a write of zeros fills them), devices of the host's.

Read beside it: drivers/block/loop.c in Linux, which stands between blkback and a file there.
"""

from __future__ import annotations

import io
import os

SECTOR_SIZE = 512  # of the ring's; and of ours


class Image:
    """A file's sectors. Whoever uses it has one thread do so."""

    def __init__(self, file: io.FileIO) -> None:
        """`file` is without a buffer; what may be done with it says its mode."""
        self._file = file
        self.readonly = not file.writable()
        status = os.fstat(file.fileno())
        self.sectors = status.st_size // SECTOR_SIZE
        self.identity = status.st_dev, status.st_ino

    def read(self, sector: int, count: int) -> bytes:
        """Some sectors. Raises OSError."""
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
        """Put `data` there. Raises OSError; some of it may be there then."""
        self._file.seek(sector * SECTOR_SIZE)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]

    def flush(self) -> None:
        """Return when all that was written is on the host's disk. Raises OSError."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Use it no longer. Harmless when done already."""
        self._file.close()
