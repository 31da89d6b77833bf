# SPDX-License-Identifier: GPL-2.0-or-later
"""Buffers of hundreds of megabytes, which are made and freed while guests run.

To allocate so much, and above all to free it, takes long. A bytes object is freed with the interpreter's lock held, and
every thread waits. So a large buffer is a memory mapping: its pages come as they are written, and they are freed
without the lock, by the thread that drops the last reference. (That must not be the hypervisor's thread: see
pvhv.toolstack.host.)
"""

from __future__ import annotations

import mmap

LARGE = 1 << 20

Buffer = bytes | bytearray | mmap.mmap


class TooMuch(Exception):
    """More was written than there is room for."""


def zeroes(size: int) -> bytearray | mmap.mmap:
    """A buffer of `size` zeroes, to be written; a memory mapping if it is large."""
    return mmap.mmap(-1, size) if size >= LARGE else bytearray(size)


def is_large(data: Buffer) -> bool:
    """Whether a buffer takes long to free."""
    return isinstance(data, mmap.mmap)


class Writer:
    """Fills a buffer from its beginning on."""

    def __init__(self, size: int) -> None:
        self.buffer = zeroes(size)
        self.size = size
        self.written = 0

    def write(self, data: bytes | bytearray) -> None:
        """Append bytes. Raises TooMuch when there is no room for them."""
        end = self.written + len(data)
        if end > self.size:
            raise TooMuch
        self.buffer[self.written : end] = data
        self.written = end
