# SPDX-License-Identifier: GPL-2.0-or-later
"""What every image can do: its sectors are read, written, discarded and made durable.

An image is used by one thread at a time, and any of its methods may wait for the host's disk. One is different:
`read_now` never waits, and may be called beside the others.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Protocol

SECTOR_SIZE = 512  # bytes; sectors are counted in these, whatever the sector size is that a guest is told
FORMATS = ("raw", "qcow2")
QCOW2_MAGIC = b"QFI\xfb"  # the first bytes of a qcow2 image

Identity = tuple[int, int]  # of a file: the host's device and inode number


class BadImage(Exception):
    """A file is not the image that it should be, or may not be used now. `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InUse(BadImage):
    """Another program has it."""


class Image(Protocol):
    """The sectors of a disk."""

    @property
    def readonly(self) -> bool:
        """Whether it cannot be written to."""

    @property
    def sectors(self) -> int:
        """How many sectors it has."""

    @property
    def identity(self) -> Identity:
        """Of its file."""

    @property
    def below(self) -> tuple[Identity, ...]:
        """Of the files that it only reads: its backing file, and the backing file of that one, and so on."""

    def run(self, sector: int, count: int) -> tuple[bool, int]:
        """Whether there may be anything but zeros from `sector` on, and for how many of `count` sectors that is so.
        Raises OSError."""

    def read(self, sector: int, count: int) -> bytes:
        """Return `count` sectors from `sector` on. Raises OSError."""

    def read_now(self, sector: int, count: int, parts: Sequence[memoryview]) -> bool:
        """Fill `parts` with `count` sectors from `sector` on, if that needs no waiting. If it does (False), some of
        them may have been filled."""

    def write(self, sector: int, data: bytes) -> None:
        """Write `data` from `sector` on. Raises OSError, and then a part of it may be written."""

    def discard(self, sector: int, count: int) -> None:
        """Forget `count` sectors from `sector` on: what they have afterwards is not said. Raises OSError."""

    def flush(self) -> None:
        """Wait until everything that was written is on the host's disk. Raises OSError."""

    def refresh(self) -> None:
        """Find out anew how many sectors it has: someone may have made the file longer. Raises OSError."""

    def close(self) -> None:
        """Close its files. May be called again."""


def input_output_error(why: str) -> OSError:
    """The error that a guest gets for a sector whose bytes cannot be had."""
    return OSError(errno.EIO, why)


def refused_to_write() -> OSError:
    """The error for a write to an image that is read-only."""
    return OSError(errno.EROFS, os.strerror(errno.EROFS))
