# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain 0's end of a block device's ring: one page of slots, in which requests come and responses go.

Whatever stands in the page may change at any time. So the two indices that are ours are kept here and only shown there,
a request is copied out whole and looked at afterwards, and the producer's index is looked at each time it is read: one
that is further ahead of the responses than there are slots is nonsense, and the ring is over.

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
    """The front end's index is nonsense: nothing more can be taken from this ring."""


class Segment(NamedTuple):
    """Whole sectors of a granted page, the first and the last of them."""

    gref: int
    first_sect: int
    last_sect: int


class Request(NamedTuple):
    """What a front end asked for, as it stood in its slot; of as many segments as it may have, looked at or not."""

    operation: int
    nr_segments: int
    handle: int
    id: int
    sector_number: int
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, slot: bytes) -> Request:
        """A slot's bytes, understood."""
        operation, nr_segments, handle, id_, sector_number, *rest = BLKIF_REQUEST_CODEC.unpack(slot)
        count = min(nr_segments, BLKIF_MAX_SEGMENTS_PER_REQUEST)
        segments = tuple(Segment(*rest[at : at + 3]) for at in range(0, 3 * count, 3))
        return cls(operation, nr_segments, handle, id_, sector_number, segments)


class Ring:
    """The slots of `page`."""

    def __init__(self, page: memoryview) -> None:
        self._bytes, self._words = page, page.cast("I")
        self._taken = self._answered = self._words[RSP_PROD]  # one that comes back may go on where it was

    def take(self) -> Request | None:
        """The next request, taken; None where there is none. Raises RingOver."""
        produced = self._words[REQ_PROD]
        if (produced - self._answered) & MASK32 > SLOTS:
            raise RingOver
        if produced == self._taken or (self._taken - self._answered) & MASK32 >= SLOTS:
            return None
        at = self._slot(self._taken)
        self._taken = (self._taken + 1) & MASK32
        return Request.parse(bytes(self._bytes[at : at + SLOT_SIZE]))

    def wait_for_more(self) -> bool:
        """Ask to be signalled at the next request; whether one is there already."""
        self._words[REQ_EVENT] = (self._taken + 1) & MASK32
        return self._words[REQ_PROD] != self._taken

    def answer(self, request: Request, status: int) -> bool:
        """Put a response there; whether the front end wants to be signalled of it."""
        response = BLKIF_RESPONSE_CODEC.pack(request.id, request.operation, status)
        at, old = self._slot(self._answered), self._answered
        self._bytes[at : at + len(response)] = response
        self._answered = new = (old + 1) & MASK32
        self._words[RSP_PROD] = new
        return (new - self._words[RSP_EVENT]) & MASK32 < (new - old) & MASK32

    def _slot(self, index: int) -> int:
        return SRING_HEADER_SIZE + index % SLOTS * SLOT_SIZE

    def close(self) -> None:
        """The page is not touched any more."""
        self._words.release()
