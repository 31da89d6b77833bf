# SPDX-License-Identifier: GPL-2.0-or-later
"""A front end of a disk, in Python: it keeps to the protocol, or does not, as a test has it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pvhv.abi.grant_table import GRANT_ENTRY_V1_CODEC, GTF_permit_access, GTF_reading, GTF_writing
from pvhv.abi.io.blkif import (
    BLKIF_OP_DISCARD,
    BLKIF_OP_INDIRECT,
    BLKIF_REQUEST_CODEC,
    BLKIF_RESPONSE_CODEC,
    blkif_request_discard,
    blkif_request_indirect,
    blkif_request_segment,
)
from pvhv.abi.io.xenbus import (
    XenbusStateClosed,
    XenbusStateClosing,
    XenbusStateConnected,
    XenbusStateInitialised,
    XenbusStateInitialising,
)
from pvhv.abi.layout import codec
from pvhv.core.grants.view import GrantView
from pvhv.core.mm.frames import WRITABLE
from pvhv.core.sched.worker import Thread, Worker
from pvhv.devices.block.disk import Disk
from pvhv.devices.block.ring import REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, SLOT_SIZE, slots_of
from pvhv.devices.xenbus import state_of
from pvhv.devices.xenstore import tree
from pvhv.devices.xenstore.permissions import Caller
from pvhv.images.image import SECTOR_SIZE
from pvhv.images.raw import RawImage
from pvhv.testing import Machine
from pvhv.toolstack.beside import Beside
from pvhv.toolstack.guest import Guest

T = TypeVar("T")
Segments = list[tuple[int, int, int]]
XVDA = 51712
SECTORS = 64
FIRST, LISTS, RING = 101, 120, 128  # grants: pages of data, pages that list segments, and pages of rings
PAGES, MOST_RING_PAGES = 12, 64
SLOTS = slots_of(1)
MASK32 = 0xFFFF_FFFF
SEGMENT, DISCARD, INDIRECT = codec(blkif_request_segment), codec(blkif_request_discard), codec(blkif_request_indirect)


class Gate:
    """A thread that does what it was given when it is told to: nothing depends on the host's speed."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.broken = False

    def do(self, work: Callable[[], T]) -> Future[T]:
        if self.broken:
            raise RuntimeError("can't start new thread")
        future: Future[T] = Future()

        def now() -> None:
            try:
                future.set_result(work())
            except OSError as failure:
                future.set_exception(failure)

        self.waiting.append(now)
        return future

    def open(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class FrontRing:
    """The front end's side of one ring: what it writes into slots, and what it finds in them."""

    def __init__(self, pages: list[memoryview]) -> None:
        self.pages = pages
        self.page = pages[0]
        self.words = self.page.cast("I")
        self.slots = slots_of(len(pages))
        self.begin()

    def begin(self) -> None:
        for page in self.pages:
            page[:] = bytes(4096)
        self.words[REQ_EVENT] = self.words[RSP_EVENT] = 1
        self.heard = 0

    def at(self, index: int, length: int) -> list[tuple[memoryview, int]]:
        """The bytes of a slot, one by one: it may lie in two pages."""
        start = 64 + index % self.slots * SLOT_SIZE
        return [(self.pages[byte // 4096], byte % 4096) for byte in range(start, start + length)]

    def put_bytes(self, slot: bytes) -> None:
        """A request, without a word about it."""
        for (page, at), byte in zip(self.at(self.words[REQ_PROD], len(slot)), slot, strict=True):
            page[at] = byte
        self.words[REQ_PROD] = (self.words[REQ_PROD] + 1) & MASK32

    def answers(self) -> list[tuple[int, int, int]]:
        """Those that came since: id, operation, status."""
        found = []
        while self.heard != self.words[RSP_PROD]:
            data = bytes(page[at] for page, at in self.at(self.heard, BLKIF_RESPONSE_CODEC.size))
            found.append(BLKIF_RESPONSE_CODEC.unpack(data))
            self.heard = (self.heard + 1) & MASK32
        self.words[RSP_EVENT] = (self.heard + 1) & MASK32
        return found


class FrontEnd:
    """A guest's end of a disk: pages that it grants, rings in some of them, and what it writes into the store."""

    def __init__(self, machine: Machine, guest: Guest, image: RawImage, thread: Thread, **kind: Any) -> None:
        self.machine, self.guest, self.image = machine, guest, image
        hv = self.hv = machine.hypervisor
        grants = partial(GrantView, hv.dom0, guest.domid)
        self.disk = Disk(image, grants, Worker(thread, hv.scheduler, guest.domain), **kind)
        self.backend = guest.plug("vbd", XVDA, self.disk)
        self.me = Caller(guest.domid)
        frames = hv.frames
        own = [mfn for mfn in frames.owned_by(guest.domid) if mfn not in guest.domain.hypervisor_frames]
        refs = [*range(FIRST, FIRST + PAGES), LISTS, LISTS + 1, *range(RING, RING + MOST_RING_PAGES)]
        mfns = [mfn for mfn in own if frames.types[mfn] & 7 in (0, WRITABLE)][-len(refs) :]
        self.mfns = dict(zip(refs, mfns, strict=True))
        for ref, mfn in self.mfns.items():
            self.grant(ref, mfn)
        self.rings = [FrontRing([hv.ram.frame(self.mfns[RING])])]
        self.before = held(self)

    # -- one ring of one page is what most tests have ----------------------------------------------------------
    @property
    def ring(self) -> FrontRing:
        return self.rings[0]

    @property
    def page(self) -> memoryview:
        return self.ring.page

    @property
    def words(self) -> memoryview:
        return self.ring.words

    def begin_ring(self) -> None:
        self.ring.begin()

    # -- pages -------------------------------------------------------------------------------------------------
    def grant(self, ref: int, mfn: int, flags: int = GTF_permit_access, domid: int = 0) -> None:
        entry = GRANT_ENTRY_V1_CODEC.pack(flags, domid, mfn)
        self.hv.ram.words[self.guest.domain.grants.entries.slot(ref)] = int.from_bytes(entry, "little")

    def in_use(self, ref: int) -> int:
        slot = self.guest.domain.grants.entries.slot(ref)
        return self.hv.ram.words[slot] & (GTF_reading | GTF_writing)

    def data(self, page: int) -> memoryview:
        return self.hv.ram.frame(self.mfns[FIRST + page])

    # -- the store ---------------------------------------------------------------------------------------------
    def write(self, node: str, value: object) -> None:
        tree.write(self.guest.store.tree, self.me, f"{self.backend.front}/{node}", str(value).encode())
        self.guest.store.settle()

    def remove(self, node: str) -> None:
        if self.guest.store.read(f"{self.backend.front}/{node}") is not None:
            tree.remove(self.guest.store.tree, self.me, f"{self.backend.front}/{node}")
            self.guest.store.settle()

    def offered(self, node: str) -> bytes | None:
        return self.guest.store.read(f"{self.backend.back}/{node}")

    @property
    def error(self) -> bytes | None:
        return self.guest.store.read(f"{self.backend.errors}/error")

    @property
    def other(self) -> int:
        return state_of(self.offered("state"))

    def connect(self, queues: int = 1, order: int | None = None, persistent: bool = False) -> None:
        """Make rings, as blkfront does, and tell where they are."""
        each = 1 << (order or 0)
        for node in ("ring-page-order", "multi-queue-num-queues"):
            self.remove(node)
        if order is not None:
            self.write("ring-page-order", order)
        if queues > 1:
            self.write("multi-queue-num-queues", queues)
        rings = []
        for queue in range(queues):
            directory = f"queue-{queue}/" if queues > 1 else ""
            refs = range(RING + queue * each, RING + (queue + 1) * each)
            names = ["ring-ref"] if order is None else [f"ring-ref{page}" for page in range(each)]
            for name, ref in zip(names, refs, strict=True):
                self.write(f"{directory}{name}", ref)
            self.write(f"{directory}event-channel", self.guest.domain.events.alloc_unbound(0))
            if queues > 1 or order is not None:
                rings.append(FrontRing([self.hv.ram.frame(self.mfns[ref]) for ref in refs]))
        self.rings = rings or self.rings[:1]
        self.write("protocol", "x86_64-abi")
        self.write("feature-persistent", int(persistent))
        self.write("state", XenbusStateInitialised)

    def close(self) -> None:
        for state in (XenbusStateClosing, XenbusStateClosed, XenbusStateInitialising):
            self.write("state", state)

    # -- requests ----------------------------------------------------------------------------------------------
    def put(
        self,
        operation: int,
        sector: int = 0,
        segments: Segments | None = None,
        count: int | None = None,
        id_: int = 7,
        queue: int = 0,
    ) -> None:
        """A request, without a word about it."""
        segments = segments if segments is not None else [(FIRST, 0, 0)]
        flat = [number for segment in segments for number in segment][:33]
        head = (operation, len(segments) if count is None else count, 0, id_, sector)
        self.rings[queue].put_bytes(BLKIF_REQUEST_CODEC.pack(*head, *flat, *[0] * (33 - len(flat))))

    def put_discard(self, sector: int, count: int, flag: int = 0, id_: int = 7) -> None:
        slot = DISCARD.pack(BLKIF_OP_DISCARD, flag, 0, id_, sector, count)
        self.ring.put_bytes(slot.ljust(SLOT_SIZE, b"\0"))

    def list_segments(self, segments: Segments) -> list[int]:
        """Fill pages that list segments. Returns their grants."""
        data = b"".join(SEGMENT.pack(*segment) for segment in segments)
        for at in range(0, len(data), 4096):
            part = data[at : at + 4096]
            self.hv.ram.frame(self.mfns[LISTS + at // 4096])[: len(part)] = part
        return [LISTS + at // 4096 for at in range(0, max(1, len(data)), 4096)]

    def put_indirect(
        self,
        operation: int,
        sector: int,
        segments: Segments,
        count: int | None = None,
        lists: list[int] | None = None,
        id_: int = 7,
        queue: int = 0,
    ) -> None:
        refs = (lists or self.list_segments(segments)) + [0] * 8
        head = (BLKIF_OP_INDIRECT, operation, len(segments) if count is None else count, id_, sector, 0)
        self.rings[queue].put_bytes(INDIRECT.pack(*head, *refs[:8]).ljust(SLOT_SIZE, b"\0"))

    def answers(self, queue: int = 0) -> list[tuple[int, int, int]]:
        """Those that came since: id, operation, status."""
        return self.rings[queue].answers()

    def settle(self) -> None:
        """Let the disk do all it has to do."""
        self.disk.pump()
        scheduler = self.hv.scheduler
        assert self.hv.run_until(
            lambda: not (self.disk.under_way or scheduler.deferred or scheduler.background), 10
        )

    def answered(self) -> int:
        """Let the one request that was put be done. Returns its status."""
        self.settle()
        ((_id, _operation, status),) = self.answers()
        return status

    def does(self, *arguments: Any, **named: Any) -> int:
        """One request, and what came of it."""
        self.put(*arguments, **named)
        self.settle()
        ((id_, operation, status),) = self.answers(named.get("queue", 0))
        assert (id_, operation) == (named.get("id_", 7), arguments[0])
        return status


def held(front: FrontEnd) -> tuple[int, int]:
    """What domain 0 holds: its ports, and its mappings of grants."""
    return front.hv.dom0.events.active, len(front.hv.dom0.grants.views)


def image_at(path: Path, sectors: int = SECTORS) -> Path:
    """A file with noise in it, and a little more than whole sectors."""
    path.write_bytes(random.Random(1).randbytes(sectors * SECTOR_SIZE + 100))
    return path


class Cold(RawImage):
    """An image that the host never has in memory: its thread does everything."""

    def read_now(self, _sector: int, _count: int, _parts: Sequence[memoryview]) -> bool:
        return False


def opened(path: Path, mode: str = "r+b", image: type[RawImage] = Cold) -> RawImage:
    return image(path.open(mode, buffering=0))  # type: ignore[arg-type]


def fronted(machine: Machine, path: Path, thread: Thread | None = None, mode: str = "r+b", **kind: Any) -> FrontEnd:
    """A front end of a guest that does nothing by itself; not connected. With a `thread`, it is that which reads."""
    guest = machine.create("test-hello", paused=True, clock="wall")
    return FrontEnd(machine, guest, opened(path, mode, Cold if thread else RawImage), thread or Beside(1), **kind)


def connected(machine: Machine, path: Path, thread: Thread | None = None, **how: Any) -> FrontEnd:
    """The same, connected with one ring of one page unless `how` says otherwise."""
    front = fronted(machine, path, thread)
    front.connect(**how)
    assert front.other == XenbusStateConnected, front.error
    return front
