# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain 0's end of a block device's ring: one page of slots, for requests and then for their responses.

The guest may change the page at any time. So our own two indices are kept here, and the page has only copies of them. A
request is copied out whole, and checked afterwards. The front end's index is checked each time it is read: if it is
further ahead of the responses than there are slots, nothing more is taken from this ring.

Read beside it: xen/include/public/io/ring.h (RING_REQUEST_PROD_OVERFLOW, RING_FINAL_CHECK_FOR_REQUESTS,
RING_PUSH_RESPONSES_AND_CHECK_NOTIFY); __do_block_io_op in Linux's drivers/block/xen-blkback/blkback.c.
"""

from __future__ import annotations

from typing import NamedTuple

from pvhv.abi.io.blkif import (
    BLKIF_MAX_SEGMENTS_PER_REQUEST,
    BLKIF_REQUEST_CODEC,
    BLKIF_RESPONSE_CODEC,
    blkif_request,
    blkif_response,
)
from pvhv.abi.io.ring import SRING_HEADER_SIZE, ring_size
from pvhv.machine.x86 import MASK32

SLOTS = ring_size(blkif_request, blkif_response)
SLOT_SIZE = BLKIF_REQUEST_CODEC.size
REQ_PROD, REQ_EVENT, RSP_PROD, RSP_EVENT = range(4)  # words of the page


class RingOver(Exception):
    """The front end's index cannot be right. Nothing more can be taken from this ring."""


class Segment(NamedTuple):
    """Some whole sectors of a granted page: the first and the last of them, counted within the page."""

    gref: int
    first_sect: int
    last_sect: int


class Request(NamedTuple):
    """A copy of a slot, not checked yet. It has at most eleven segments, whatever `nr_segments` says."""

    operation: int
    nr_segments: int
    handle: int
    id: int
    sector_number: int
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, slot: bytes) -> Request:
        """The request in the bytes of a slot."""
        operation, nr_segments, handle, id_, sector_number, *rest = BLKIF_REQUEST_CODEC.unpack(slot)
        count = min(nr_segments, BLKIF_MAX_SEGMENTS_PER_REQUEST)
        segments = tuple(Segment(*rest[at : at + 3]) for at in range(0, 3 * count, 3))
        return cls(operation, nr_segments, handle, id_, sector_number, segments)


class Ring:
    """The slots of `page`, and how far both ends have come."""

    def __init__(self, page: memoryview) -> None:
        self._bytes, self._words = page, page.cast("I")
        self._taken = self._answered = self._words[RSP_PROD]  # a front end that comes back may go on from there

    def take(self) -> Request | None:
        """Take the next request; None if there is none. Raises RingOver."""
        produced = self._words[REQ_PROD]
        if (produced - self._answered) & MASK32 > SLOTS:
            raise RingOver
        if produced == self._taken or (self._taken - self._answered) & MASK32 >= SLOTS:
            return None
        at = self._slot(self._taken)
        self._taken = (self._taken + 1) & MASK32
        return Request.parse(bytes(self._bytes[at : at + SLOT_SIZE]))

    def wait_for_more(self) -> bool:
        """Ask the front end for a signal at its next request. True if a request is there already."""
        self._words[REQ_EVENT] = (self._taken + 1) & MASK32
        return self._words[REQ_PROD] != self._taken

    def answer(self, request: Request, status: int) -> bool:
        """Write a response. True if the front end asked for a signal at this one."""
        response = BLKIF_RESPONSE_CODEC.pack(request.id, request.operation, status)
        at, old = self._slot(self._answered), self._answered
        self._bytes[at : at + len(response)] = response
        self._answered = new = (old + 1) & MASK32
        self._words[RSP_PROD] = new
        return (new - self._words[RSP_EVENT]) & MASK32 < (new - old) & MASK32

    def _slot(self, index: int) -> int:
        return SRING_HEADER_SIZE + index % SLOTS * SLOT_SIZE

    def close(self) -> None:
        """Release the page."""
        self._words.release()
