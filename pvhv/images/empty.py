# SPDX-License-Identifier: GPL-2.0-or-later
"""No image: what is in a CD-ROM drive that is empty. It has no sectors, so nothing can be read.

Read beside it: LIBXL_DISK_FORMAT_EMPTY in tools/libs/light/libxl_device.c.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import NoReturn

from pvhv.images.image import Identity


class NoMedium:
    """A drive without a medium. All methods that would use one raise OSError."""

    readonly = True
    sectors = 0
    identity: Identity = (0, 0)
    below: tuple[Identity, ...] = ()

    def run(self, sector: int, count: int) -> tuple[bool, int]:
        """Nothing is there."""
        return False, count

    def read(self, sector: int, count: int) -> bytes:
        """Raises OSError."""
        _there_is_none()

    def read_now(self, sector: int, count: int, parts: Sequence[memoryview]) -> bool:
        """Nothing is there."""
        return False

    def write(self, sector: int, data: bytes) -> None:
        """Raises OSError."""
        _there_is_none()

    def discard(self, sector: int, count: int) -> None:
        """Raises OSError."""
        _there_is_none()

    def flush(self) -> None:
        """Do nothing: nothing was written."""

    def refresh(self) -> None:
        """Do nothing: it stays empty."""

    def close(self) -> None:
        """Do nothing: there is no file."""


def _there_is_none() -> NoReturn:
    raise OSError(errno.ENOMEDIUM, os.strerror(errno.ENOMEDIUM))
