# SPDX-License-Identifier: GPL-2.0-or-later
"""What every image can do: its sectors are read, written, discarded and made durable.

An image is used by one thread at a time, and any of its methods may wait for the host's disk.
"""

from __future__ import annotations

from typing import Protocol

SECTOR_SIZE = 512  # bytes; sectors are counted in these, whatever the sector size is that a guest is told


class Image(Protocol):
    """The sectors of a disk."""

    @property
    def readonly(self) -> bool:
        """Whether it cannot be written to."""

    @property
    def sectors(self) -> int:
        """How many sectors it has."""

    @property
    def identity(self) -> tuple[int, int]:
        """The host's device and inode number of its file."""

    def read(self, sector: int, count: int) -> bytes:
        """Return `count` sectors from `sector` on. Raises OSError."""

    def write(self, sector: int, data: bytes) -> None:
        """Write `data` from `sector` on. Raises OSError, and then a part of it may be written."""

    def discard(self, sector: int, count: int) -> None:
        """Forget `count` sectors from `sector` on: what they have afterwards is not said. Raises OSError."""

    def flush(self) -> None:
        """Wait until everything that was written is on the host's disk. Raises OSError."""

    def close(self) -> None:
        """Close its file. May be called again."""
