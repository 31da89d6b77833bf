# SPDX-License-Identifier: GPL-2.0-or-later
"""The data half of a block device: it checks the requests in the ring, carries them out on the image, and answers them.

The checks have blkback's order: the operation exists; the number of segments is allowed, and each segment lies within a
page; the sectors are on the disk, and may be written; the pages are granted. The pages stay mapped until the request is
answered, so the guest cannot use them for something else meanwhile. Data to be written is copied out of the pages at
once, and data that was read is copied into them at the end. The thread that has the file never touches guest memory.

When the ring goes, the pages of requests under way are unmapped. The requests are still carried out, but not answered.
They count as under way until they are done, so a front end that closes and comes back cannot pile up work. (blkback
waits for them before it closes.)

Read beside it: dispatch_rw_block_io, xen_vbd_translate and make_response in Linux's
drivers/block/xen-blkback/blkback.c.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial

from pvhv.abi.io.blkif import (
    BLKIF_MAX_SEGMENTS_PER_REQUEST,
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER,
    BLKIF_RSP_EOPNOTSUPP,
    BLKIF_RSP_ERROR,
    BLKIF_RSP_OKAY,
)
from pvhv.core.errors import GrantError
from pvhv.core.grants.view import GrantView
from pvhv.core.sched.worker import Worker
from pvhv.devices.block.ring import SLOTS, Request, Ring, RingOver
from pvhv.images.image import SECTOR_SIZE, Image
from pvhv.machine.ram import PAGE_SIZE

SECTORS_PER_PAGE = PAGE_SIZE // SECTOR_SIZE
FLUSHING = (BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER)
OPERATIONS = (BLKIF_OP_READ, BLKIF_OP_WRITE, *FLUSHING)
MOST_UNDER_WAY = SLOTS
REQUEST_COST, SEGMENT_COST = 30, 8  # of beginning or answering one, in units of about a microsecond

Grants = Callable[[int, bool], GrantView]  # maps a reference; True: only to read. Raises GrantError


class Bad(Exception):
    """The request is wrong."""


class Transfer:
    """A request under way, and its pages of the guest, mapped."""

    def __init__(self, request: Request, grants: Grants) -> None:
        """Map the pages. Raises GrantError, and then nothing is mapped."""
        self.request = request
        self._views: list[GrantView] = []
        try:
            for segment in request.segments:
                self._views.append(grants(segment.gref, request.operation != BLKIF_OP_READ))
        except GrantError:
            self.let_go()
            raise

    def copied_out(self) -> bytes:
        """The bytes of its segments."""
        return b"".join(part.tobytes() for part in self._parts())

    def copy_in(self, data: bytes) -> None:
        """Fill its segments with `data`."""
        at = 0
        for part in self._parts():
            part[:] = data[at : at + len(part)]
            at += len(part)

    def _parts(self) -> list[memoryview]:
        return [
            view.bytes[segment.first_sect * SECTOR_SIZE : (segment.last_sect + 1) * SECTOR_SIZE]
            for view, segment in zip(self._views, self.request.segments, strict=True)
        ]

    def let_go(self) -> None:
        """Unmap the pages. May be called again."""
        for view in self._views:
            view.release()
        self._views.clear()


class Disk:
    """An image, connected to the ring of one guest."""

    def __init__(self, image: Image, grants: Grants, worker: Worker) -> None:
        self.image = image
        self.grants = grants
        self.worker = worker
        self.under_way = 0  # requests that the worker has, including those of rings that are gone
        self.over = False  # nothing more is taken from the ring
        self._ring: Ring | None = None
        self._notify: Callable[[], None] = lambda: None
        self._transfers: set[Transfer] = set()  # those that will be answered
        self._finished: deque[tuple[Transfer, Future[bytes]]] = deque()  # the worker is done with these
        self._working = False

    # -- the ring --------------------------------------------------------------------------------------------
    def attach(self, page: memoryview, notify: Callable[[], None]) -> None:
        """A ring was found: `page` is its page, `notify()` signals the guest. It may have requests already."""
        self._ring, self._notify, self.over = Ring(page), notify, False
        self.pump()

    def pump(self) -> None:
        """The guest signalled, or a request is done: answer what is done, and begin as many as may be under way."""
        if not self._working:
            self._working = True
            self.worker.in_pieces(self._work())

    def _work(self) -> Iterator[int]:
        try:
            while True:
                if self._finished:
                    transfer, done = self._finished.popleft()
                    self._answer_done(transfer, done)
                    request = transfer.request
                elif (found := self._next()) is not None:
                    request = found
                    self._begin(request)
                else:
                    return
                yield REQUEST_COST + SEGMENT_COST * len(request.segments)
        finally:
            self._working = False

    def _next(self) -> Request | None:
        """The next request of the ring, taken; None if there is none, or too many are under way."""
        ring = self._ring
        if ring is None or self.over:
            return None
        try:
            while self.under_way < MOST_UNDER_WAY:
                request = ring.take()
                if request is not None or not ring.wait_for_more():
                    return request
        except RingOver:
            self.over = True
        return None

    def detach(self) -> None:
        """The ring goes; its page is not touched after this. May be called again."""
        for transfer in self._transfers:
            transfer.let_go()
        self._transfers.clear()
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        self._notify = lambda: None

    # -- a request -------------------------------------------------------------------------------------------
    def _begin(self, request: Request) -> None:
        if request.operation not in OPERATIONS:
            self._answer(request, BLKIF_RSP_EOPNOTSUPP)
            return
        try:
            count = self._sectors(request)
            transfer = Transfer(request, self.grants)
        except (Bad, GrantError):
            self._answer(request, BLKIF_RSP_ERROR)
            return
        if request.operation == BLKIF_OP_READ:
            work: Callable[[], bytes] = partial(self.image.read, request.sector_number, count)
        else:
            work = partial(self._write, request, transfer.copied_out())
        try:
            self.worker.begin(work, partial(self._done, transfer))
        except RuntimeError:
            transfer.let_go()
            self._answer(request, BLKIF_RSP_ERROR)
            return
        self.under_way += 1
        self._transfers.add(transfer)

    def _sectors(self, request: Request) -> int:
        """Check a request, and return how many sectors it names. Raises Bad."""
        if request.nr_segments > BLKIF_MAX_SEGMENTS_PER_REQUEST:
            raise Bad
        if not request.nr_segments and request.operation not in FLUSHING:
            raise Bad
        count = 0
        for segment in request.segments:
            if not segment.first_sect <= segment.last_sect < SECTORS_PER_PAGE:
                raise Bad
            count += segment.last_sect - segment.first_sect + 1
        if request.operation != BLKIF_OP_READ and self.image.readonly:
            raise Bad
        if count and request.sector_number + count > self.image.sectors:
            raise Bad
        return count

    def _write(self, request: Request, data: bytes) -> bytes:
        """Carry out a request that writes or flushes, on the thread of the image. Raises OSError."""
        if request.operation in FLUSHING:
            self.image.flush()
        if data:
            self.image.write(request.sector_number, data)
        return b""

    def _done(self, transfer: Transfer, done: Future[bytes]) -> None:
        """The worker is done with a request. `done` has the sectors that were read, or the error."""
        self._finished.append((transfer, done))
        self.pump()

    def _answer_done(self, transfer: Transfer, done: Future[bytes]) -> None:
        self.under_way -= 1
        if transfer in self._transfers:
            self._transfers.remove(transfer)
            status = BLKIF_RSP_OKAY
            try:
                data = done.result()
            except OSError:
                status = BLKIF_RSP_ERROR
            else:
                if transfer.request.operation == BLKIF_OP_READ:
                    transfer.copy_in(data)
            transfer.let_go()
            self._answer(transfer.request, status)

    def _answer(self, request: Request, status: int) -> None:
        if self._ring is not None and self._ring.answer(request, status):
            self._notify()
