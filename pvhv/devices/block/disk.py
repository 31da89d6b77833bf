# SPDX-License-Identifier: GPL-2.0-or-later
"""The data half of a block device: an image, and the rings of one guest that reach it.

All rings of a disk are served in turn, as an errand of the hypervisor's thread: in shares, so that nobody waits for a
guest that asks for much. Two bounds are the disk's, not a ring's: how many requests may be under way, and how many
bytes they may have. What exceeds them waits in the rings.

The image may change while the guest runs. While there is a ring, a timer has the disk look once a second how long the
file is, and whether pages were unused for long (blkback looks ten times a second). On a virtual clock there is none:
when the host's file changes is not in the guest's time. The medium of a CD-ROM drive is changed when no request is
under way (`change_image`). In both cases `on_resize` tells the front end.

Read beside it: xen_blkif_schedule, xen_vbd_translate and xen_vbd_resize in Linux's drivers/block/xen-blkback/blkback.c.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar

from pvhv.abi.io.blkif import BLKIF_OP_READ
from pvhv.core.grants.view import GrantView
from pvhv.core.sched.asked import Counts
from pvhv.core.sched.timeline import Timer
from pvhv.core.sched.worker import Done, Thread, Worker
from pvhv.devices.block.pages import PIECE, Grants
from pvhv.devices.block.queue import NO_PIECES, Queue, Work
from pvhv.devices.block.request import Bad, Request
from pvhv.devices.block.transfer import Transfer
from pvhv.images.image import SECTOR_SIZE, Image

MOST_UNDER_WAY = 64  # requests
MOST_BYTES_UNDER_WAY = 8 << 20
REQUEST_COST, PAGE_COST = 30, 8  # of beginning or answering one, in units of about a microsecond
UNMAPPED_AT_ONCE = 2 * PIECE  # pages, when rings go
RATHER_MANY = 16  # requests that a guest need not signal, if it will rest soon
MOST_UNSEEN = 32  # answers that may wait for more, to be signalled together
LOOK_NS = 1_000_000_000  # between two looks at the image and at the pages


class Disk:
    """An image, connected to the rings of one guest."""

    WRAPPABLE: ClassVar = frozenset({"answer", "grants", "take"})  # grants: before a ring is found

    def __init__(
        self,
        image: Image,
        grants: Grants,
        worker: Worker,
        *,
        sector_size: int = SECTOR_SIZE,
        discards: bool = True,
        cdrom: bool = False,
    ) -> None:
        """`sector_size` is the least that a guest can read or write; it is told, and enforced. `discards`: the front
        end is told that it can discard (and if it is not told, it still can, as with blkback)."""
        self.image = image
        self.grants = grants
        self.worker = worker
        self.sector_size = sector_size
        self.discards = discards
        self.cdrom = cdrom
        self.sectors = self._whole(image.sectors)
        self.counts = Counts()
        self.under_way = 0  # requests that the worker has, including those of rings that are gone
        self.bytes_under_way = 0
        self._had_many = False  # whether more than one was, before none was
        self._has_many = False  # ... since then
        self._unseen = 0  # answers that no front end was shown
        self.on_resize: Callable[[], None] = lambda: None  # called when `sectors` is another number
        self._queues: deque[Queue] = deque()
        self._finished: deque[tuple[Queue, Transfer, Done[bytes]]] = deque()  # the worker is done with these
        self._begun: deque[Iterator[int]] = deque()  # what is left of the beginnings of requests
        self._working = False
        self._next_look: Timer | None = None
        self._looking = False
        self._change: tuple[Image, Thread, Callable[[], None]] | None = None
        self._drained: Callable[[], None] | None = None
        worker.on_reported = self.pump

    @property
    def readonly(self) -> bool:
        """Whether the guest may only read."""
        return self.cdrom or self.image.readonly

    @property
    def changing(self) -> bool:
        """Whether another image is about to take this one's place."""
        return self._change is not None

    @property
    def over(self) -> bool:
        """Whether nothing more is taken from a ring, because its index could not be right."""
        return any(queue.over for queue in self._queues)

    @property
    def reads_now(self) -> bool:
        """Whether a read may be made at once, if the host has the sectors in memory. Not while something is under way:
        a read has what was written before it. Not on a virtual clock: a disk takes its time there."""
        return not self.under_way and not self.worker.timeline.virtual

    def heard(self) -> bool:
        """The guest signals, and is inside its hypercall. If nothing is under way, begin one request, so that the file
        is read or written while the guest goes on. True if nothing is left for `pump`.

        A guest that had many under way when it had some last need not signal each: `pump` looks when it rests."""
        if self._working or self.under_way or self._change is not None or self.worker.timeline.virtual:
            return False
        if (found := self.take()) is None:
            return False
        queue, request = found
        pieces = queue.begin(request)
        if pieces is not NO_PIECES:
            self._begun.append(pieces)
        elif not self._had_many:
            return not (queue.wait_for_more() or self._unseen or self._finished or self._drained)
        else:
            queue.wait_for_more(RATHER_MANY)
        return False

    # -- rings -----------------------------------------------------------------------------------------------
    def attach(self, page: memoryview, notify: Callable[[], None]) -> None:
        """A ring of one page was found."""
        self.add_queue([page], notify, False)
        self.pump()

    def add_queue(self, pages: Sequence[memoryview], notify: Callable[[], None], persistent: bool) -> None:
        """A ring was found: `pages` are its pages, `notify()` signals the guest. It may have requests already, which
        the next `pump` begins. `persistent`: the front end never ends a grant of data, so they are kept mapped."""
        self._queues.append(Queue(self, pages, notify, persistent, len(self._queues)))
        self._look_later()

    def drain(self, drained: Callable[[], None]) -> None:
        """Take what is in the rings now, nothing more after that, and call `drained()` when all of it is answered.

        A signal may not have been looked at yet (`can_wait`). A Linux whose last request is never answered does not let
        go of its disk."""
        self.pump()
        self._drained = drained
        self.pump()

    def detach(self) -> None:
        """All rings go; their pages are not touched after this. May be called again."""
        self._drained = None
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        views = [view for queue in self._queues for view in queue.close()]
        self._queues.clear()
        if len(views) > UNMAPPED_AT_ONCE:
            self.worker.in_pieces(_costs(_unmap(views)))
        else:
            for view in views:
                view.release()

    def pump(self) -> None:
        """The guest signalled, or a request is done: answer what is done, and begin as many as may be under way."""
        if not self._working:
            self._working = True
            self.worker.in_pieces(self._work())

    def _work(self) -> Iterator[int]:
        try:
            for queue in tuple(self._queues):
                yield from _costs(queue.pages.purge())
            while True:
                if self._unseen >= MOST_UNSEEN:
                    self._show_answers()
                elif self._finished:
                    queue, transfer, done = self._finished.popleft()
                    yield REQUEST_COST + PAGE_COST * min(PIECE, len(transfer.pages.views))
                    yield from _costs(self._finish(queue, transfer, done))
                elif self._begun:
                    yield from _costs(self._begun.popleft())
                elif (found := self.take()) is not None:
                    queue, request = found
                    yield REQUEST_COST + PAGE_COST * min(PIECE, request.amount)
                    yield from _costs(queue.begin(request))
                elif self._unseen:
                    self._show_answers()
                elif self.under_way:
                    return
                elif self._drained is not None:
                    for queue in tuple(self._queues):
                        yield from _costs(queue.pages.unmap_all())
                    drained, self._drained = self._drained, None
                    if drained is not None:  # or else all rings went meanwhile
                        drained()
                elif self._change is not None and not self._looking:
                    self._change_now(*self._change)
                else:
                    return
        finally:
            self._working = False

    def take(self) -> tuple[Queue, Request] | None:
        """The next request of the ring whose turn it is; None if there is none, or too many are under way."""
        if (
            self._drained is not None
            or self._change is not None
            or self.under_way >= MOST_UNDER_WAY
            or self.bytes_under_way >= MOST_BYTES_UNDER_WAY
        ):
            return None
        for _ in range(len(self._queues)):
            queue = self._queues[0]
            self._queues.rotate(-1)
            if (request := queue.next()) is not None:
                return queue, request
        return None

    # -- requests --------------------------------------------------------------------------------------------
    def require_access(self, request: Request, count: int) -> None:
        """Check that `count` sectors from the request's on are on the disk, and may be written if it writes. Raises
        Bad. (xen_vbd_translate)"""
        if request.operation != BLKIF_OP_READ and self.readonly:
            raise Bad
        if count and request.sector + count > self.sectors:
            raise Bad

    def begin(self, queue: Queue, transfer: Transfer, work: Work) -> bool:
        """Have `work` done on the image's thread, and the request answered. False if the host allows no thread."""
        try:
            self.worker.begin(work, partial(self._done, queue, transfer))
        except RuntimeError:
            return False
        self.under_way += 1
        self._has_many |= self.under_way > 1
        self.bytes_under_way += transfer.sectors * SECTOR_SIZE
        self.counts.add(transfer.request.operation, transfer.sectors)
        return True

    def _done(self, queue: Queue, transfer: Transfer, done: Done[bytes]) -> None:
        self._finished.append((queue, transfer, done))

    def _finish(self, queue: Queue, transfer: Transfer, done: Done[bytes]) -> Iterator[int]:
        self.under_way -= 1
        if not self.under_way:
            self._had_many, self._has_many = self._has_many, False
        self.bytes_under_way -= transfer.sectors * SECTOR_SIZE
        return queue.done(transfer, done)

    def answer(self, queue: Queue, request: Request, status: int, sectors: int) -> None:
        """Answer a request; `sectors` of data were moved for it."""
        queue.ring.answer(request.id, request.operation, status)
        self._unseen += 1

    def _show_answers(self) -> None:
        """Show all front ends what was answered. Each is signalled once for all."""
        self._unseen = 0
        for queue in self._queues:
            if queue.ring.show():
                queue.notify()

    # -- the image -------------------------------------------------------------------------------------------
    def _look_later(self) -> None:
        """Have the disk look in a second. Not for a domain that has shut down: nothing in it hears of it."""
        timeline, domain = self.worker.timeline, self.worker.domain
        if self._next_look is None and not timeline.virtual and domain.runs:
            self._next_look = timeline.after(timeline.now() + LOOK_NS, self._look_again)

    def _look_again(self) -> None:
        self._next_look = None
        self._look_later()
        self.look()

    def look(self) -> None:
        """Have pages unmapped that are old, and look how long the image is now; if that is another length, the front
        end is told. Not on a virtual clock, where it would hear of it at no time in particular."""
        if any(queue.pages.may_be_old() for queue in self._queues):
            self.pump()
        if not self._looking:
            self._looking = True
            try:
                self.worker.look(partial(self._has_changed, self.image), self._changed)
            except RuntimeError:  # the host allows no thread: it is looked at again later
                self._looking = False

    def _has_changed(self, image: Image) -> bool:
        """On the thread of the image: whether somebody waits to hear of this look."""
        try:
            image.refresh()
        except OSError:
            pass  # whoever reads is told
        finally:
            self._looking = False  # first this, then the look at `_change`; _change_now does it the other way round
        return self._change is not None or self._whole(image.sectors) != self.sectors

    def _changed(self) -> None:
        self._resize(self.image.sectors)
        if self._change is not None:
            self.pump()

    def _resize(self, sectors: int) -> None:
        whole = self._whole(sectors)
        if whole != self.sectors:
            self.sectors = whole
            self.on_resize()

    def _whole(self, sectors: int) -> int:
        return sectors - sectors % (self.sector_size // SECTOR_SIZE)

    def change_image(self, image: Image, thread: Thread, changed: Callable[[], None]) -> None:
        """Put another image in place of this one, when no request is under way: until then, no other is begun. `thread`
        is that of the new image. `changed()` is called when the old image is out of use, and can be closed."""
        self._change = image, thread, changed
        self.pump()

    def _change_now(self, image: Image, thread: Thread, changed: Callable[[], None]) -> None:
        self._change = None
        self.image, self.worker.thread = image, thread
        self._resize(image.sectors)
        changed()


def _unmap(views: list[GrantView]) -> Iterator[int]:
    """Unmap pages of rings that are gone."""
    for first in range(0, len(views), PIECE):
        piece = views[first : first + PIECE]
        yield len(piece)
        for view in piece:
            view.release()


def _costs(pieces: Iterator[int]) -> Iterator[int]:
    """What pieces of so many pages cost."""
    return (pages * PAGE_COST for pages in pieces)
