# SPDX-License-Identifier: GPL-2.0-or-later
"""One ring at work: its requests are checked, begun and answered.

The checks have blkback's order: the operation exists; the number of segments is allowed, and each segment lies within a
page; the sectors are on the disk, and may be written; the pages are granted. The pages stay mapped until the request is
answered, so the guest cannot use them for something else meanwhile.

To begin a request, and to answer it, is done in pieces: a request may have 256 pages. Between two pieces the ring may
be closed, and then the request is forgotten. The usual request is one piece: its pages are few, and kept.

A ring goes when its requests are answered, as with blkback. If it goes at once, with its domain, the pages of requests
under way are unmapped, and the requests are still carried out. They count as under way until they are done.

Read beside it: dispatch_rw_block_io, dispatch_discard_io and make_response in Linux's
drivers/block/xen-blkback/blkback.c.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Protocol

from pvhv.abi.io.blkif import (
    BLKIF_OP_DISCARD,
    BLKIF_OP_READ,
    BLKIF_RSP_EOPNOTSUPP,
    BLKIF_RSP_ERROR,
    BLKIF_RSP_OKAY,
)
from pvhv.core.errors import GrantError
from pvhv.core.grants.view import GrantView
from pvhv.core.sched.asked import FLUSHING, Counts
from pvhv.core.sched.worker import Done, Worker
from pvhv.devices.block import request as requests
from pvhv.devices.block.pages import PIECE, Grants, Pages, RingGone, Taken
from pvhv.devices.block.request import SEGMENT_SIZE, Bad, Request
from pvhv.devices.block.ring import Ring, RingOver
from pvhv.devices.block.transfer import Transfer
from pvhv.images.image import SECTOR_SIZE, Image

OPTIONAL = (*FLUSHING, BLKIF_OP_DISCARD)  # what an image may be unable to do
READ_NOW = 32  # pages that are read at once: that takes about 15 us
NO_PIECES: Iterator[int] = iter(())
Work = Callable[[], bytes]


class Owner(Protocol):
    """What a queue asks of its disk (pvhv.devices.block.disk.Disk)."""

    image: Image
    grants: Grants
    worker: Worker
    sector_size: int
    counts: Counts

    @property
    def reads_now(self) -> bool: ...
    def require_access(self, request: Request, count: int) -> None: ...
    def begin(self, queue: Queue, transfer: Transfer, work: Work) -> bool: ...
    def answer(self, queue: Queue, request: Request, status: int, sectors: int) -> None: ...


class Queue:
    """One of the rings of a disk, and the requests of it that are under way."""

    def __init__(
        self,
        disk: Owner,
        pages: Sequence[memoryview],
        notify: Callable[[], None],
        persistent: bool,
        number: int = 0,
    ) -> None:
        self.disk = disk
        self.number = number  # of this ring among the disk's
        self.ring = Ring(pages)
        self.notify = notify
        self.pages = Pages(disk.grants, persistent, disk.worker.timeline.now)
        self.over = False  # nothing more is taken from the ring
        self._transfers: set[Transfer] = set()

    def next(self) -> Request | None:
        """The next request, taken; None if there is none. Then a signal comes with the next one."""
        if self.over:
            return None
        try:
            while (slot := self.ring.take()) is None:
                if not self.ring.wait_for_more():
                    return None
        except RingOver:
            self.over = True
            return None
        return requests.read(slot)

    def wait_for_more(self, count: int = 1) -> bool:
        """Ask for a signal when there are so many requests more. True if one is there already."""
        return not self.over and self.ring.wait_for_more(count)

    # -- a request -------------------------------------------------------------------------------------------
    def begin(self, request: Request) -> Iterator[int]:
        """Begin a request, or answer it at once. Before each further piece, how many pages it has."""
        if self.pages.closed:
            return NO_PIECES
        if not request.known:
            self._answer(request, BLKIF_RSP_EOPNOTSUPP)
            return NO_PIECES
        try:
            transfer = self._discard(request) if request.discards else self._transfer_at_once(request)
        except Bad:
            self._answer(request, BLKIF_RSP_ERROR)
            return NO_PIECES
        if transfer is None:
            return self._begin_in_pieces(request)
        self._transfers.add(transfer)
        if self._is_read_now(transfer):
            self._end_at_once(transfer, BLKIF_RSP_OKAY)
            return NO_PIECES
        return NO_PIECES if self._begun(transfer) else self._end(transfer, BLKIF_RSP_ERROR)

    def _begin_in_pieces(self, request: Request) -> Iterator[int]:
        try:
            transfer = yield from self._transfer(request)
        except RingGone:
            return
        except (Bad, GrantError):
            self._answer(request, BLKIF_RSP_ERROR)
            return
        self._transfers.add(transfer)
        if self._is_read_now(transfer):
            yield from self._end(transfer, BLKIF_RSP_OKAY)
        elif not self._begun(transfer):
            yield from self._end(transfer, BLKIF_RSP_ERROR)

    def _begun(self, transfer: Transfer) -> bool:
        """Hand a request to the image's thread. False if the host allows no thread."""
        return self.disk.begin(self, transfer, self._work(transfer))

    def _is_read_now(self, transfer: Transfer) -> bool:
        """Read what the host has in memory, if all of it is there, and it is little."""
        reads = transfer.request.operation == BLKIF_OP_READ and self.disk.reads_now
        if not reads or len(transfer.pages.views) > READ_NOW or not transfer.read_now(self.disk.image):
            return False
        self.disk.counts.add(BLKIF_OP_READ, transfer.sectors)
        return True

    def _transfer_at_once(self, request: Request) -> Transfer | None:
        """The usual case: few pages, all of them kept. None if it is another. Raises Bad."""
        if request.indirect:
            lists = self.pages.find(requests.pages_of(request))
            if lists is None or request.amount > PIECE:
                return None
            segments = _listed(request, lists)
        else:
            requests.require_some(request)
            segments = request.segments
        sectors = self._checked(request, segments)
        pages = self.pages.take_kept(requests.grefs_of(segments))
        return None if pages is None else Transfer(request, segments, sectors, pages)

    def _transfer(self, request: Request) -> Generator[int, None, Transfer]:
        if request.indirect:
            lists = yield from self.pages.take(requests.pages_of(request), True)
            segments = _listed(request, lists.views)
            yield from self.pages.give_back(lists)
        else:
            segments = request.segments
        sectors = self._checked(request, segments)
        pages = yield from self.pages.take(requests.grefs_of(segments), request.operation != BLKIF_OP_READ)
        return Transfer(request, segments, sectors, pages)

    def _checked(self, request: Request, segments: bytes) -> int:
        """Check what a request asks for. Returns how many sectors that are. Raises Bad."""
        sectors = requests.sectors_in(segments)
        self.disk.require_access(request, sectors)
        requests.require_whole_blocks(request, segments, self.disk.sector_size)
        return sectors

    def _discard(self, request: Request) -> Transfer:
        self.disk.require_access(request, request.amount)
        block = self.disk.sector_size // SECTOR_SIZE
        if not request.amount or request.sector % block or request.amount % block:
            raise Bad
        return Transfer(request, b"", 0, Taken([], [], []))

    def _work(self, transfer: Transfer) -> Work:
        """What the thread of the image does for a request."""
        request, image = transfer.request, self.disk.image
        if request.operation == BLKIF_OP_READ:
            return partial(image.read, request.sector, transfer.sectors)
        if request.discards:
            return partial(_discard, image, request.sector, request.amount)
        return partial(_write, image, request.operation in FLUSHING, request.sector, transfer.copied_out())

    def done(self, transfer: Transfer, done: Done[bytes]) -> Iterator[int]:
        """The thread is done with a request. `done` has the sectors that were read, or the error. Before each further
        piece, how many pages it has."""
        if transfer not in self._transfers or len(transfer.pages.views) > PIECE or transfer.pages.own:
            return self._done_in_pieces(transfer, done)
        status, data = _result(transfer.request, done)
        if data:
            transfer.copy_in_at_once(data)
        self._end_at_once(transfer, status)
        return NO_PIECES

    def _end_at_once(self, transfer: Transfer, status: int) -> None:
        """The same as `_end`, if all pages are kept."""
        self.pages.give_back_kept(transfer.pages)
        self._transfers.remove(transfer)
        self._answer(transfer.request, status, transfer.sectors)

    def _done_in_pieces(self, transfer: Transfer, done: Done[bytes]) -> Iterator[int]:
        status, data = _result(transfer.request, done)
        for pages in transfer.copy_in(data) if data else ():
            if transfer in self._transfers:  # or else the ring is gone
                yield pages
            if transfer not in self._transfers:
                return
        yield from self._end(transfer, status)

    def _end(self, transfer: Transfer, status: int) -> Iterator[int]:
        yield from self.pages.give_back(transfer.pages)
        if transfer in self._transfers:
            self._transfers.remove(transfer)
            self._answer(transfer.request, status, transfer.sectors)

    def _answer(self, request: Request, status: int, sectors: int = 0) -> None:
        if not self.pages.closed:
            self.disk.answer(self, request, status, sectors)

    def close(self) -> list[GrantView]:
        """The ring goes; its pages, and those of its requests, are not touched after this. Returns what is to be
        unmapped."""
        views = self.pages.close()
        for transfer in self._transfers:
            views += transfer.pages.own
        self._transfers.clear()
        self.ring.close()
        return views


def _listed(request: Request, lists: Sequence[GrantView]) -> bytes:
    """The segments of an indirect request: a copy of what its pages have, made once."""
    return b"".join(view.bytes for view in lists)[: request.amount * SEGMENT_SIZE]


def _result(request: Request, done: Done[bytes]) -> tuple[int, bytes]:
    """The status of a request, and what was read for it."""
    try:
        return BLKIF_RSP_OKAY, done.result()
    except OSError as error:
        unsupported = error.errno == errno.EOPNOTSUPP and request.operation in OPTIONAL
        return BLKIF_RSP_EOPNOTSUPP if unsupported else BLKIF_RSP_ERROR, b""


def _write(image: Image, flushes: bool, sector: int, data: bytes) -> bytes:
    """Carry out a request that writes or flushes. Raises OSError."""
    if flushes:
        image.flush()
    if data:
        image.write(sector, data)
    return b""


def _discard(image: Image, sector: int, count: int) -> bytes:
    image.discard(sector, count)
    return b""
