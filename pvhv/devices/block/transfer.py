# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of one request: where they are in the guest's memory, and how they are copied.

Data to be written is copied out of the guest's pages when the request is begun, and data that was read is copied into
them when it is answered, both on the hypervisor's thread. The thread that has the file never touches guest memory. It
could: a mapped page stays where it is until it is unmapped. But the guest would see the bytes arrive at a time that the
host decides, which a virtual clock must not show; and a domain could not be destroyed before a slow disk had answered.
A page takes about a microsecond to copy; to map one takes seven, and the guest's own work on it far more.

One request has 256 pages at most, which is what is copied at a stretch.
"""

from __future__ import annotations

from pvhv.core.grants.view import wrote
from pvhv.devices.block.pages import Taken
from pvhv.devices.block.request import (
    FIRST_SECT,
    LAST_SECT,
    SECTORS_PER_PAGE,
    SEGMENT_SIZE,
    Request,
)
from pvhv.images.image import SECTOR_SIZE
from pvhv.machine.ram import PAGE_SIZE


class Transfer:
    """A request under way, and its pages of the guest, mapped."""

    __slots__ = ("pages", "request", "sectors", "segments")

    def __init__(self, request: Request, segments: bytes, sectors: int, pages: Taken) -> None:
        self.request = request
        self.segments = segments
        self.sectors = sectors  # of its data; a discard has none
        self.pages = pages

    def copied_out(self) -> bytes:
        """The bytes of its segments."""
        return b"".join(self._parts())

    def copy_in(self, data: bytes) -> None:
        """Fill its segments with `data`. What was there may have been code."""
        left = memoryview(data)
        if self._whole:
            for at, view in zip(range(0, len(data), PAGE_SIZE), self.pages.views, strict=True):
                view.bytes[:] = left[at : at + PAGE_SIZE]
        else:
            for part in self._parts():
                size = len(part)
                part[:] = left[:size]
                left = left[size:]
        wrote(self.pages.views)

    @property
    def _whole(self) -> bool:
        """Whether each segment is a whole page."""
        return self.sectors == len(self.pages.views) * SECTORS_PER_PAGE

    def _parts(self) -> list[memoryview]:
        views = self.pages.views
        if self._whole:
            return [view.bytes for view in views]
        first, last = self.segments[FIRST_SECT::SEGMENT_SIZE], self.segments[LAST_SECT::SEGMENT_SIZE]
        return [
            view.bytes[start * SECTOR_SIZE : (end + 1) * SECTOR_SIZE]
            for view, start, end in zip(views, first, last, strict=True)
        ]
