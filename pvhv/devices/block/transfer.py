# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of one request: where they are in the guest's memory, and how they are copied.

Data to be written is copied out of the guest's pages when the request is begun, and data that was read is copied into
them when it is answered, both on the hypervisor's thread. The thread that has the file never touches guest memory. It
could: a mapped page stays where it is until it is unmapped. But the guest would see the bytes arrive at a time that the
host decides, which a virtual clock must not show; and a domain could not be destroyed before a slow disk had answered.
A page takes about a microsecond to copy; to map one takes seven, and the guest's own work on it far more.

What the host has in memory anyway is read into the guest's pages at once, without that thread: it is the same copy,
made earlier, and nothing is waited for (`read_now`).

One request has 256 pages at most. They are copied out at a stretch, and in by pieces: that takes three times as long,
for each page may have had code.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

from pvhv.core.grants.view import wrote
from pvhv.devices.block.pages import PIECE, Taken
from pvhv.devices.block.request import (
    FIRST_SECT,
    LAST_SECT,
    MAX_INDIRECT_SEGMENTS,
    SECTORS_PER_PAGE,
    SEGMENT_SIZE,
    Request,
)
from pvhv.images.image import SECTOR_SIZE, Image
from pvhv.machine.ram import PAGE_SIZE

ALL = slice(None)
put: Callable[[Any, slice, Any], None] = operator.setitem
PAGES = [slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE) for page in range(MAX_INDIRECT_SEGMENTS)]


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
        return b"".join(self._parts(0, len(self.pages.views)))

    def read_now(self, image: Image) -> bool:
        """Fill its segments with the image's sectors, if the host has them in memory."""
        views = self.pages.views
        if not image.read_now(self.request.sector, self.sectors, self._parts(0, len(views))):
            return False
        wrote(views)
        return True

    def copy_in(self, data: bytes) -> Iterator[int]:
        """Fill its segments with `data`, in pieces; before each, how many pages it has. Who stops in between may find
        them unmapped, and must not go on then. What was there may have been code."""
        left, views = memoryview(data), self.pages.views
        for first in range(0, len(views), PIECE):
            stop = min(first + PIECE, len(views))
            yield stop - first
            left = left[self._fill(first, stop, left) :]

    def copy_in_at_once(self, data: bytes) -> None:
        """The same for a request that is one piece."""
        self._fill(0, len(self.pages.views), memoryview(data))

    def _fill(self, first: int, stop: int, data: memoryview) -> int:
        """Fill these segments from the beginning of `data`. Returns how many bytes that took."""
        parts = self._parts(first, stop)
        if self._whole:
            # (As the same loop written out, but in C: this is where most of a large request's time goes.)
            deque(map(put, parts, repeat(ALL), map(data.__getitem__, PAGES)), maxlen=0)
            at = len(parts) * PAGE_SIZE
        else:
            at = 0
            for part in parts:
                end = at + len(part)
                part[:] = data[at:end]
                at = end
        wrote(self.pages.views[first:stop])
        return at

    @property
    def _whole(self) -> bool:
        """Whether each segment is a whole page."""
        return self.sectors == len(self.pages.views) * SECTORS_PER_PAGE

    def _parts(self, begin: int, stop: int) -> list[memoryview]:
        """The bytes of these segments."""
        views = self.pages.views[begin:stop]
        if self._whole:
            return [view.bytes for view in views]
        segments = self.segments[begin * SEGMENT_SIZE : stop * SEGMENT_SIZE]
        first, last = segments[FIRST_SECT::SEGMENT_SIZE], segments[LAST_SECT::SEGMENT_SIZE]
        return [
            view.bytes[start * SECTOR_SIZE : (end + 1) * SECTOR_SIZE]
            for view, start, end in zip(views, first, last, strict=True)
        ]
