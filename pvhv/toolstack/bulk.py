# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes by the hundred million, which come and go while guests run.

To make room for so many, and above all to give it back, is long work; a bytes object's is done with the interpreter's
lock held, and everybody waits. So what is large lies in memory that is mapped for it, whose pages come as they are
written and are given back without the lock, by whichever thread lets go of it last. (The
hypervisor's shall not be that: see pvhv.toolstack.host.)
"""

from __future__ import annotations

import mmap

LARGE = 1 << 20

Buffer = bytes | bytearray | mmap.mmap


class TooMuch(Exception):
    """More was written than there is room for."""


def zeroes(size: int) -> bytearray | mmap.mmap:
    """So many bytes, to be written."""
    return mmap.mmap(-1, size) if size >= LARGE else bytearray(size)


def is_large(data: Buffer) -> bool:
    """Whether it takes long to give them back."""
    return isinstance(data, mmap.mmap)


class Writer:
    """Fills a buffer from its beginning on."""

    def __init__(self, size: int) -> None:
        self.buffer = zeroes(size)
        self.size = size
        self.written = 0

    def write(self, data: bytes | bytearray) -> None:
        """Raises TooMuch."""
        end = self.written + len(data)
        if end > self.size:
            raise TooMuch
        self.buffer[self.written : end] = data
        self.written = end
