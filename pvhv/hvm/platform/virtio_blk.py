# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtio block device: a disk whose requests are chains of buffers in the guest's memory.

    readable   type, 0, sector (16 bytes), and for a write the data
    writable   for a read the data, and one byte of status

The device does nothing by itself: the guest puts chains into the one queue and notifies once for all of them. The
device moves the data between the image and the guest's pages, gives each chain back, and asks for an interrupt.
Compare ata.py, where the guest moves each word itself.

At most `MOST_UNDER_WAY` requests are begun, and each moves at most `PIECE` bytes at a time, so a guest cannot have the
host keep more. The work of the hypervisor's thread is done in pieces, and charged to the guest.

A request without room for header and status breaks the queue, as in QEMU; an unknown one, and one beyond the end of the
disk, get a status.

Not modelled: several queues, DISCARD and WRITE_ZEROES, topology, requests for SCSI (all not offered).

Read beside it: VIRTIO 1.1, 5.2; hw/block/virtio-blk.c in QEMU; pvhv/devices/block/disk.py, which is Xen's counterpart.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from pvhv.abi.io.blkif import (
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    BLKIF_RSP_ERROR,
    BLKIF_RSP_OKAY,
)
from pvhv.core.sched.worker import Done
from pvhv.hvm.names import VIRTIO
from pvhv.hvm.platform.asked import Asked, Requests
from pvhv.hvm.platform.ata_identify import HEADS, SECTORS_PER_TRACK, cylinders
from pvhv.hvm.platform.storage import Backing, Memory
from pvhv.hvm.platform.virtio_pci import DRIVER_OK, F_INDIRECT_DESC, VirtioDevice
from pvhv.hvm.platform.virtqueue import Broken, Buffer, Chain, Virtqueue
from pvhv.images.image import SECTOR_SIZE

DEVICE, SUBSYSTEM, CLASS = 0x1001, 2, 0x01_0000
QUEUE_SIZE = 256
F_SEG_MAX, F_GEOMETRY, F_RO, F_BLK_SIZE, F_FLUSH, F_CONFIG_WCE = 1 << 2, 1 << 4, 1 << 5, 1 << 6, 1 << 9, 1 << 11
T_IN, T_OUT, T_FLUSH, T_GET_ID = 0, 1, 4, 8
T_BARRIER = 1 << 31  # in old drivers' types
S_OK, S_IOERR, S_UNSUPP = 0, 1, 2
OPERATIONS: Final = {T_IN: BLKIF_OP_READ, T_OUT: BLKIF_OP_WRITE, T_FLUSH: BLKIF_OP_FLUSH_DISKCACHE}
HEADER: Final = struct.Struct("<IIQ")
CONFIGURATION: Final = struct.Struct("<QIIHBBI")  # capacity, size_max, seg_max, cylinders, heads, sectors, blk_size
SEGMENTS = QUEUE_SIZE - 2  # header and status are two more
ID_SIZE = 20
WRITE_CACHE = 32  # the register of F_CONFIG_WCE
MOST_UNDER_WAY = 32
PIECE = 128 << 10
PER_REQUEST, PER_BUFFER = 30, 8  # of beginning or answering one, in units of about a microsecond


class Request:
    """A chain, understood: where it goes, and how far it has come."""

    def __init__(self, queue: Virtqueue, chain: Chain) -> None:
        """`chain` has room for header and status."""
        self.queue = queue
        self.head = chain.head
        self.header = _part(chain.readable, 0, HEADER.size)
        last = chain.writable[-1]
        self.status_at = last.address + last.size - 1
        self.readable = _part(chain.readable, HEADER.size, _size(chain.readable))
        self.writable = _part(chain.writable, 0, _size(chain.writable) - 1)
        self.written = _size(chain.writable)
        self.kind = self.sector = 0
        self.buffers: list[Buffer] = []  # of the data
        self.size = self.done = 0  # bytes of the data
        self.asked: Asked | None = None  # if it is one to be told of

    def moves(self, buffers: list[Buffer]) -> None:
        """Its data is in these."""
        self.buffers, self.size = buffers, _size(buffers)

    def piece(self) -> list[Buffer]:
        """Where the next piece of the data is."""
        return _part(self.buffers, self.done, PIECE)

    def understood(self) -> Asked:
        """What it asks for; its kind is one of OPERATIONS."""
        sector = 0 if self.kind == T_FLUSH else self.sector
        sectors = self.size // SECTOR_SIZE
        self.asked = Asked(OPERATIONS[self.kind], sector, sectors, len(self.buffers), self.head)
        return self.asked


def _size(buffers: Iterable[Buffer]) -> int:
    return sum(buffer.size for buffer in buffers)


def _part(buffers: Iterable[Buffer], start: int, size: int) -> list[Buffer]:
    """`size` bytes, or as many as there are, from `start` on."""
    found = []
    for address, length in buffers:
        skipped = min(start, length)
        start -= skipped
        taken = min(length - skipped, size)
        if taken > 0:
            found.append(Buffer(address + skipped, taken))
            size -= taken
    return found


class VirtioBlk(VirtioDevice):
    """One disk."""

    def __init__(self, memory: Memory, backing: Backing, number: int) -> None:
        """`number` counts the machine's virtio disks from 0: vda, vdb ..."""
        super().__init__(memory, device=DEVICE, subsystem=SUBSYSTEM, class_code=CLASS, queues=1, size=QUEUE_SIZE)
        self.image, self.beside = backing.image, backing.beside
        self.number = number
        self.requests = Requests(VIRTIO)
        self.write_cache = True
        self.notifications = self.moved = 0  # by the guest, and bytes of data moved to and from its pages, so far
        self.under_way = 0  # pieces that the worker has, those included that nobody waits for any more
        self._life: object = object()  # changes at a reset
        self._finished: deque[tuple[Request, Done[bytes]]] = deque()
        self._working = False

    @property
    def features(self) -> int:
        readonly = F_RO if self.image.readonly else 0
        return F_SEG_MAX | F_GEOMETRY | F_BLK_SIZE | F_FLUSH | F_CONFIG_WCE | F_INDIRECT_DESC | readonly

    def configuration(self) -> bytes:
        sectors = self.image.sectors
        fixed = CONFIGURATION.pack(
            sectors, 0, SEGMENTS, cylinders(sectors), HEADS, SECTORS_PER_TRACK, SECTOR_SIZE
        )
        return fixed + bytes(WRITE_CACHE - len(fixed)) + bytes((self.write_cache,)) + bytes(3)

    def configure(self, at: int, value: int) -> None:
        if at == WRITE_CACHE:
            self.write_cache = bool(value & 1)

    def forget(self) -> None:
        self._life = object()
        self._finished.clear()

    # -- work --------------------------------------------------------------------------------------------------------
    def notified(self, queue: Virtqueue) -> None:
        self.notifications += 1
        if self.status & DRIVER_OK:
            self.pump()

    def pump(self) -> None:
        """Answer what is done, and begin as much as may be under way."""
        if not self._working:
            self._working = True
            self.beside.in_pieces(self._work())

    def _work(self) -> Iterator[int]:
        try:
            while True:
                if self._finished:
                    request, done = self._finished.popleft()
                    self._piece_done(request, done)
                elif (found := self._next()) is not None:
                    request = found
                    self._begin(request)
                else:
                    return
                yield PER_REQUEST + PER_BUFFER * len(request.buffers)
        except Broken as broken:
            self.broken = str(broken)
        finally:
            self._working = False

    def _next(self) -> Request | None:
        """The next request, taken; None if there is none, or enough are under way. Raises Broken."""
        queue = self.queues[0]
        if self.broken or not queue.page or self.under_way >= MOST_UNDER_WAY:
            return None
        chain = queue.take()
        if chain is None:
            return None
        if _size(chain.readable) < HEADER.size or not chain.writable:
            raise Broken("a request without a header, or without room for its status")
        return Request(queue, chain)

    def _begin(self, request: Request) -> None:
        kind, _, request.sector = HEADER.unpack(self._copy_out(request.header))
        request.kind = kind & ~T_BARRIER
        if request.kind in (T_IN, T_OUT):
            request.moves(request.writable if request.kind == T_IN else request.readable)
            possible = self._possible(request)
            self.requests.begin(request.understood(), possible)
            if not possible:
                self._answer(request, S_IOERR)
            elif not request.size:
                self._answer(request, S_OK)
            else:
                self._begin_piece(request)
        elif request.kind == T_FLUSH:
            self.requests.begin(request.understood())
            self._begin_piece(request)
        elif request.kind == T_GET_ID:
            request.moves(request.writable)
            self._copy_in(request.piece(), f"pvhv-vd{self.number}".encode().ljust(ID_SIZE, b"\0"))
            self._answer(request, S_OK)
        else:
            self._answer(request, S_UNSUPP)

    def _possible(self, request: Request) -> bool:
        """Whether it is whole sectors of this disk, which may be accessed so."""
        if request.kind == T_OUT and self.image.readonly:
            return False
        return not request.size % SECTOR_SIZE and request.sector + request.size // SECTOR_SIZE <= self.image.sectors

    def _begin_piece(self, request: Request) -> None:
        piece, sector = request.piece(), request.sector + request.done // SECTOR_SIZE
        if request.kind == T_IN:
            work: Callable[[], bytes] = partial(self.image.read, sector, _size(piece) // SECTOR_SIZE)
        else:
            data = self._copy_out(piece)
            last = request.done + len(data) >= request.size
            flushes = last and (request.kind == T_FLUSH or not self._caches)
            work = partial(self._write, sector, data, flushes)
        try:
            self.beside.begin(work, partial(self._done, self._life, request))
        except RuntimeError:
            self._answer(request, S_IOERR)
            return
        self.under_way += 1

    @property
    def _caches(self) -> bool:
        """Whether a write may wait for a flush: only if the driver knows that there are flushes."""
        return self.write_cache and bool(self.guest_features & F_FLUSH)

    def _write(self, sector: int, data: bytes, flushes: bool) -> bytes:
        """Carry out a request that writes or flushes, on the thread of the image. Raises OSError."""
        if data:
            self.image.write(sector, data)
        if flushes:
            self.image.flush()
        return b""

    def _done(self, life: object, request: Request, done: Done[bytes]) -> None:
        """The worker is done with a piece. `done` has what was read, or the error."""
        self.under_way -= 1
        if life is self._life:
            self._finished.append((request, done))
        self.pump()

    def _piece_done(self, request: Request, done: Done[bytes]) -> None:
        piece = request.piece()
        try:
            data = done.result()
        except OSError:
            self._answer(request, S_IOERR)
            return
        if request.kind == T_IN:
            self._copy_in(piece, data)
        request.done += _size(piece)
        self.moved += _size(piece)
        if request.done < request.size:
            self._begin_piece(request)
        else:
            self._answer(request, S_OK)

    def _copy_out(self, buffers: list[Buffer]) -> bytes:
        return b"".join(self.memory.read(*buffer) for buffer in buffers)

    def _copy_in(self, buffers: list[Buffer], data: bytes) -> None:
        at, view = 0, memoryview(data)
        for address, size in buffers:
            self.memory.write(address, view[at : at + size])
            at += size

    def _answer(self, request: Request, status: int) -> None:
        if self.broken:
            return
        self.memory.write(request.status_at, bytes((status,)))
        if request.queue.give_back(request.head, request.written):
            self.interrupt()
        if request.asked is not None:
            self.requests.end(request.asked, BLKIF_RSP_ERROR if status else BLKIF_RSP_OKAY)
