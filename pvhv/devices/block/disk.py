# SPDX-License-Identifier: GPL-2.0-or-later
"""The data half of a block device: what is asked for in the ring is checked, done with the image, and answered.

A request is looked at in blkback's order: whether there is such an operation, whether it has as many segments as it may
and each lies within a page, whether the sectors are the disk's and may be written, whether the pages are granted. The
pages stay mapped until it is answered, so the guest cannot give them to others meanwhile. What is to be written is
copied out of them at once, and what was read is copied in when it is there: the thread that has the file never touches
the guest's memory.

When the ring goes, what is under way is done all the same, but its pages are let go, and nobody hears of it. It counts
among what may be under way until it is done; so a front end that closes and comes back cannot heap up work.

Read beside it: dispatch_rw_block_io, xen_vbd_translate and make_response in Linux's
drivers/block/xen-blkback/blkback.c.
"""

from __future__ import annotations

from collections.abc import Callable
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
from pvhv.devices.block.image import SECTOR_SIZE, Image
from pvhv.devices.block.ring import SLOTS, Request, Ring, RingOver
from pvhv.devices.block.worker import Worker
from pvhv.machine.ram import PAGE_SIZE

SECTORS_PER_PAGE = PAGE_SIZE // SECTOR_SIZE
FLUSHING = (BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER)
OPERATIONS = (BLKIF_OP_READ, BLKIF_OP_WRITE, *FLUSHING)
MOST_UNDER_WAY = SLOTS

Grants = Callable[[int, bool], GrantView]  # map what a reference grants, perhaps only to read; raises GrantError


class Bad(Exception):
    """The request cannot be done."""


class Transfer:
    """A request under way, and the parts of the guest's pages that it is about."""

    def __init__(self, request: Request, grants: Grants) -> None:
        """Map them. Raises GrantError; nothing is mapped then."""
        self.request = request
        self._views: list[GrantView] = []
        try:
            for segment in request.segments:
                self._views.append(grants(segment.gref, request.operation != BLKIF_OP_READ))
        except GrantError:
            self.let_go()
            raise

    def copied_out(self) -> bytes:
        """What the guest has there."""
        return b"".join(part.tobytes() for part in self._parts())

    def copy_in(self, data: bytes) -> None:
        """Give it what was read."""
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
        """Unmap them. Harmless when done already."""
        for view in self._views:
            view.release()
        self._views.clear()


class Disk:
    """An image behind one guest's ring."""

    def __init__(self, image: Image, grants: Grants, worker: Worker) -> None:
        self.image = image
        self.grants = grants
        self.worker = worker
        self.under_way = 0  # requests that the worker has, those of a ring that is gone among them
        self.over = False  # the ring is: nothing more is taken from it
        self._ring: Ring | None = None
        self._notify: Callable[[], None] = lambda: None
        self._transfers: set[Transfer] = set()  # of the ring

    # -- the ring --------------------------------------------------------------------------------------------
    def attach(self, page: memoryview, notify: Callable[[], None]) -> None:
        """A guest's ring, and how to signal its port. There may be requests in it already."""
        self._ring, self._notify, self.over = Ring(page), notify, False
        self.pump()

    def pump(self) -> None:
        """The guest signalled, or there is room for more: begin with what it asks for."""
        ring = self._ring
        if ring is None or self.over:
            return
        try:
            while self.under_way < MOST_UNDER_WAY:
                request = ring.take()
                if request is not None:
                    self._begin(request)
                elif not ring.wait_for_more():
                    return
        except RingOver:
            self.over = True

    def detach(self) -> None:
        """The ring goes. Harmless when there is none."""
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
        """How many sectors it is about. Raises Bad."""
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
        """What writing is, for the thread that has the image. Raises OSError."""
        if request.operation in FLUSHING:
            self.image.flush()
        if data:
            self.image.write(request.sector_number, data)
        return b""

    def _done(self, transfer: Transfer, done: Future[bytes]) -> None:
        """The thread has done it, or could not."""
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
        self.pump()

    def _answer(self, request: Request, status: int) -> None:
        if self._ring is not None and self._ring.answer(request, status):
            self._notify()
