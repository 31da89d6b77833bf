# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2 images that this process has open, each once, however many have it.

An image that is written to has tables in memory that are newer than those in its file. So a second one that opens it
(the next life of a domain, while the last one is being taken apart) gets the same image, not another view of the file.
The image is closed with the last of them. Whoever asks for it only to read cannot write through it.

All of this, for one image, is done on the thread of its file.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

from pvhv.images import opening
from pvhv.images.file import File
from pvhv.images.image import Identity, Image, refused_to_write

_mutex = threading.Lock()
_open: list[_Open] = []


class _Open:
    """An image, and how many have it."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.users = 0


class SharedImage:
    """One's own handle of an image that others may have too."""

    def __init__(self, entry: _Open, readonly: bool) -> None:
        self._entry: _Open | None = entry
        self.readonly = readonly
        self.identity = entry.image.identity
        self.below = entry.image.below

    @property
    def _image(self) -> Image:
        if self._entry is None:
            raise ValueError("I/O operation on closed file")
        return self._entry.image

    @property
    def sectors(self) -> int:
        """How many sectors it has."""
        return 0 if self._entry is None else self._entry.image.sectors

    def run(self, sector: int, count: int) -> tuple[bool, int]:
        """Whether there may be anything but zeros from `sector` on, and for how many of `count` sectors that is so.
        Raises OSError."""
        return self._image.run(sector, count)

    def read(self, sector: int, count: int) -> bytes:
        """Return `count` sectors from `sector` on. Raises OSError."""
        return self._image.read(sector, count)

    def read_now(self, sector: int, count: int, parts: Sequence[memoryview]) -> bool:
        """Fill `parts` with `count` sectors from `sector` on, if that needs no waiting."""
        return self._image.read_now(sector, count, parts)

    def write(self, sector: int, data: bytes) -> None:
        """Write `data` from `sector` on. Raises OSError, and then a part of it may be written."""
        if self.readonly:
            raise refused_to_write()
        self._image.write(sector, data)

    def discard(self, sector: int, count: int) -> None:
        """Forget `count` sectors from `sector` on. Raises OSError."""
        if self.readonly:
            raise refused_to_write()
        self._image.discard(sector, count)

    def flush(self) -> None:
        """Wait until everything that was written is on the host's disk. Raises OSError."""
        self._image.flush()

    def refresh(self) -> None:
        """Find out anew how many sectors it has. Raises OSError."""
        self._image.refresh()

    def close(self) -> None:
        """Let go of it; the last one closes it. May be called again."""
        entry, self._entry = self._entry, None
        if entry is None:
            return
        with _mutex:
            entry.users -= 1
            if entry.users:
                return
            _open.remove(entry)
        entry.image.close()


def open_as(file: File, path: str, format_: str) -> SharedImage:
    """Open an image in a file that is open already, or join those who have it. The file belongs to the image, or is
    closed. Raises BadImage."""
    readonly = not file.writable
    with _mutex:
        entry = _find(file.identity, readonly)
        if entry is not None:
            entry.users += 1
    if entry is not None:
        file.close()
        return SharedImage(entry, readonly)
    made = _Open(opening.open_as(file, path, format_))
    made.users = 1
    with _mutex:
        _open.append(made)
    return SharedImage(made, readonly)


def flush(identity: Identity) -> None:
    """Bring an image's tables into its file, if anybody here writes to it."""
    with _mutex:
        entry = _find(identity, True)
    if entry is not None and not entry.image.readonly:
        with suppress(OSError, ValueError):
            entry.image.flush()


def _find(identity: Identity, readonly: bool) -> _Open | None:
    """One that is open, and can do what is asked; rather one that is written to."""
    found = [each for each in _open if each.image.identity == identity and (readonly or not each.image.readonly)]
    return min(found, key=lambda each: each.image.readonly, default=None)
