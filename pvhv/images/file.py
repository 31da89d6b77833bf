# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of an image: bytes at places, each read and each write one system call where the host can.

There is no position in the file, so nothing has to be kept in step. While the host works, other threads run Python.

A failed sync is not forgotten. The host drops what it could not write, and its next sync succeeds as if all were well.
So after one failure each sync of this file fails, until it is opened anew.

Not modelled: direct I/O, devices of the host.

Read beside it: handle_aiocb_flush and handle_aiocb_discard in QEMU's block/file-posix.c.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from pvhv.images.image import Identity, input_output_error
from pvhv.images.locks import Lock

Bytes = bytes | bytearray | memoryview
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2  # linux/falloc.h
FAR = 1 << 62
_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)  # Linux has it
NO_HOLES = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV)


class File:
    """A plain file that is open."""

    def __init__(self, opened: io.FileIO) -> None:
        """`opened` has no buffer. It belongs to this object from now on."""
        self.io = opened
        self.writable = opened.writable()
        status = os.fstat(opened.fileno())
        self.identity: Identity = status.st_dev, status.st_ino
        self.end = status.st_size  # as far as we know: where we did not write, nobody should
        self._reads_now = bool(_NOWAIT)
        self._sync_failure: OSError | None = None
        self._lock: Lock | None = None

    def lock(self, name: str) -> None:
        """Keep other programs from it, until it is closed. Raises BadImage if one has it; `name` is for its message."""
        self._lock = Lock(self.io.fileno(), self.identity, self.writable, name)

    def read_some(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes; fewer only at the end of the file. Raises OSError."""
        descriptor = self.io.fileno()
        data = _pread(descriptor, length, offset)
        if len(data) == length or not data:
            return data
        pieces = [data]  # the end of the file, or the host's limit for one call
        got = len(data)
        while got < length and (data := _pread(descriptor, length - got, offset + got)):
            pieces.append(data)
            got += len(data)
        return b"".join(pieces)

    def read(self, offset: int, length: int) -> bytes:
        """Read `length` bytes. Raises OSError, also if the file has not so many."""
        data = self.read_some(offset, length)
        if len(data) != length:
            raise input_output_error("the image became shorter")
        return data

    def read_now(self, offset: int, length: int, parts: Sequence[memoryview]) -> bool:
        """Fill `parts`, which have `length` bytes, from the host's memory. False if some of it would have to be waited
        for (the host's disk, a lock), or if the host's file system cannot say that."""
        if not self._reads_now:
            return False
        try:
            return os.preadv(self.io.fileno(), parts, offset, _NOWAIT) == length
        except OSError as error:
            self._reads_now = error.errno == errno.EAGAIN
            return False

    def write(self, offset: int, *pieces: Bytes) -> None:
        """Write these pieces one after the other. Raises OSError, and then a part may be written."""
        descriptor, left = self.io.fileno(), sum(map(len, pieces))
        self.end = max(self.end, offset + left)  # though it fail: a part may be there
        while left:
            done = _pwrite(descriptor, pieces, offset)
            left -= done
            offset += done
            if left:
                pieces = tuple(_without(pieces, done))

    def punch(self, offset: int, length: int) -> bool:
        """Give the room of these bytes to the host; they are zeros then. False if the host cannot. Raises OSError."""
        if _fallocate is None or not length:
            return not length
        mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        if not _fallocate(self.io.fileno(), mode, offset, length):
            return True
        number = ctypes.get_errno()
        if number in NO_HOLES:
            return False
        raise OSError(number, os.strerror(number))

    def next_data(self, offset: int) -> int:
        """Where the next bytes are that are not in a hole; far away if there are none. Raises OSError."""
        return self._seek(offset, "SEEK_DATA", offset)

    def next_hole(self, offset: int) -> int:
        """Where the next hole begins, or the end of the file. Raises OSError."""
        return self._seek(offset, "SEEK_HOLE", max(offset, self.end))

    def _seek(self, offset: int, how: str, otherwise: int) -> int:
        if not hasattr(os, how):
            return otherwise
        try:
            return os.lseek(self.io.fileno(), offset, getattr(os, how))
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole, to the end
                return FAR
            return otherwise

    def sync(self) -> None:
        """Wait until what was written is on the host's disk. Raises OSError, and then each time."""
        if self._sync_failure is not None:
            raise input_output_error(f"a sync failed before ({self._sync_failure.strerror})")
        try:
            getattr(os, "fdatasync", os.fsync)(self.io.fileno())
        except OSError as failure:
            self._sync_failure = failure
            raise

    def truncate(self, length: int) -> None:
        """Make the file so long. Raises OSError."""
        os.ftruncate(self.io.fileno(), length)
        self.end = length

    def measure(self) -> int:
        """How long the file is now. Raises OSError."""
        self.end = os.fstat(self.io.fileno()).st_size
        return self.end

    def close(self) -> None:
        """Close it. May be called again."""
        if self._lock is not None:
            self._lock.release()
        self.io.close()


def _without(pieces: Sequence[Bytes], done: int) -> list[memoryview]:
    """The pieces without their first `done` bytes."""
    left = []
    for piece in pieces:
        view = memoryview(piece)
        left.append(view[done:])
        done = max(0, done - len(view))
    return [view for view in left if view]


def _read_at(descriptor: int, length: int, offset: int) -> bytes:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, length)


def _write_at(descriptor: int, pieces: Sequence[Bytes], offset: int) -> int:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, next(piece for piece in pieces if len(piece)))


# Windows has neither of these; there each image is used by one thread, so a position in the file does no harm.
_pread: Callable[[int, int, int], bytes] = getattr(os, "pread", _read_at)
_pwrite: Callable[[int, Sequence[Bytes], int], int] = getattr(os, "pwritev", _write_at)


def _find_fallocate() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    with suppress(OSError, AttributeError):
        found = ctypes.CDLL(None, use_errno=True).fallocate64
        found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        return found
    return None


_fallocate = _find_fallocate()
