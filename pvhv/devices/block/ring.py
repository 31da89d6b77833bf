# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain 0's end of one ring: slots in one or more pages, for requests and then for their responses.

    page 0                                        page 1
    | indices | slot 0 | slot 1 | ... | slot 36 (first part) | slot 36 (rest) | slot 37 | ...

The pages are one stretch of memory to the front end, so a slot may begin in one page and end in the next.

The guest may change the pages at any time. So our own two indices are kept here, and the page has only copies of them.
A request is copied out whole, and checked afterwards. The front end's index is checked each time it is read: if it is
further ahead of the responses than there are slots, nothing more is taken from this ring.

Read beside it: xen/include/public/io/ring.h (RING_REQUEST_PROD_OVERFLOW, RING_FINAL_CHECK_FOR_REQUESTS,
RING_PUSH_RESPONSES_AND_CHECK_NOTIFY); __do_block_io_op in Linux's drivers/block/xen-blkback/blkback.c.
"""

from __future__ import annotations

from collections.abc import Sequence

from pvhv.abi.io.blkif import BLKIF_REQUEST_CODEC, BLKIF_RESPONSE_CODEC, blkif_request, blkif_response
from pvhv.abi.io.ring import SRING_HEADER_SIZE, ring_size
from pvhv.machine.ram import PAGE_SIZE
from pvhv.machine.x86 import MASK32

SLOT_SIZE = BLKIF_REQUEST_CODEC.size
REQ_PROD, REQ_EVENT, RSP_PROD, RSP_EVENT = range(4)  # words of the first page


def slots_of(pages: int) -> int:
    """How many slots a ring of so many pages has."""
    return ring_size(blkif_request, blkif_response, pages * PAGE_SIZE)


class RingOver(Exception):
    """The front end's index cannot be right. Nothing more can be taken from this ring."""


class Ring:
    """The slots of `pages`, and how far both ends have come."""

    def __init__(self, pages: Sequence[memoryview]) -> None:
        self.slots = slots_of(len(pages))
        self._pages = list(pages)
        self._words = pages[0].cast("I")
        # A front end that comes back may go on from where it was.
        self._taken = self._answered = self._shown = self._words[RSP_PROD]

    def take(self) -> bytes | None:
        """Take the next request, a copy of its slot; None if there is none. Raises RingOver."""
        produced = self._words[REQ_PROD]
        if (produced - self._answered) & MASK32 > self.slots:
            raise RingOver
        if produced == self._taken or (self._taken - self._answered) & MASK32 >= self.slots:
            return None
        page, at = self._place(self._taken)
        self._taken = (self._taken + 1) & MASK32
        slot = bytes(self._pages[page][at : at + SLOT_SIZE])
        if len(slot) < SLOT_SIZE:  # the rest is in the next page
            slot += bytes(self._pages[page + 1][: SLOT_SIZE - len(slot)])
        return slot

    def wait_for_more(self, count: int = 1) -> bool:
        """Ask the front end for a signal when it has put so many requests more. True if one is there already."""
        self._words[REQ_EVENT] = (self._taken + count) & MASK32
        return self._words[REQ_PROD] != self._taken

    def answer(self, id_: int, operation: int, status: int) -> None:
        """Write a response. The front end does not see it yet."""
        response = BLKIF_RESPONSE_CODEC.pack(id_, operation, status)
        page, at = self._place(self._answered)
        room = PAGE_SIZE - at
        if room >= len(response):
            self._pages[page][at : at + len(response)] = response
        else:
            self._pages[page][at:] = response[:room]
            self._pages[page + 1][: len(response) - room] = response[room:]
        self._answered = (self._answered + 1) & MASK32

    def show(self) -> bool:
        """Show the front end all responses. True if it asked for a signal at one of those that it did not see yet."""
        old, new = self._shown, self._answered
        self._shown = self._words[RSP_PROD] = new
        return (new - self._words[RSP_EVENT]) & MASK32 < (new - old) & MASK32

    def _place(self, index: int) -> tuple[int, int]:
        """The page in which a slot begins, and where in it."""
        return divmod(SRING_HEADER_SIZE + index % self.slots * SLOT_SIZE, PAGE_SIZE)

    def close(self) -> None:
        """Release the pages."""
        self._words.release()
        self._pages.clear()
