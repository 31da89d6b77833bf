# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes on the disks of one domain: functions around those of a disk that take a request and answer it.

A record is made when a request is answered. It says what was asked, and how long ago: the round trip, from the ring and
back into it. A request whose ring goes before it is answered has no record, and neither has one that the guest forgets
by a reset of the controller. A PC's disks (of fully virtualized domains) have other functions for the same.

A disk that is attached while a trace runs is not in it.

Read beside it: pvhv/devices/block/disk.py and pvhv/hvm/platform/asked.py, whose functions these are; blkback's own
events, blktrace(8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from pvhv.abi.io.blkif import BLKIF_RSP_OKAY
from pvhv.devices.block.disk import MOST_UNDER_WAY, Disk
from pvhv.hvm.platform.asked import Asked, Requests
from pvhv.machine.wrapping import wrap
from pvhv.observe.record import Record, Sink

if TYPE_CHECKING:
    from pvhv.core.domain import Domain

MOST_KEPT = 4 * MOST_UNDER_WAY  # requests of one disk whose beginning is known

VBD = "vbd"  # the device model that is no device of a PC: xenbus
Disks = Iterable[tuple[str, Disk | Requests]]  # names; data halves of backends, or the requests of a PC's disks


class DeviceProbes:
    """What is watched of a domain's disks, until `remove`."""

    def __init__(self, domain: Domain, disks: Disks, sink: Sink) -> None:
        self.domain = domain
        self.sink = sink
        self._unwrap: list[Callable[[], None]] = []
        for name, disk in disks:
            if isinstance(disk, Disk):
                self._on_ring(name, disk)
            else:
                self._on_controller(name, disk)

    def _on_ring(self, name: str, disk: Disk) -> None:
        began: dict[tuple[int, int], int] = {}  # by ring and the request's id
        self._unwrap.append(wrap(disk, "take", partial(self._take, began)))
        self._unwrap.append(wrap(disk, "answer", partial(self._answer, began, name)))

    def _on_controller(self, name: str, requests: Requests) -> None:
        began: dict[Asked, int] = {}
        self._unwrap.append(wrap(requests, "begin", partial(self._begin, began)))
        self._unwrap.append(wrap(requests, "end", partial(self._end, began, name, requests.model)))

    def remove(self) -> None:
        """Remove the probes. May be called again."""
        for unwrap in self._unwrap:
            unwrap()
        self._unwrap = []

    def _take(self, began: dict[tuple[int, int], int], original: Callable[[], Any]) -> Callable[[], Any]:
        def take() -> Any:
            found = original()
            if found is not None:
                if len(began) >= MOST_KEPT:  # of rings that went
                    began.clear()
                began[id(found[0]), found[1].id] = self.domain.timeline.now()
            return found

        return take

    def _answer(
        self, began: dict[tuple[int, int], int], name: str, original: Callable[..., None]
    ) -> Callable[..., None]:
        def answer(queue: Any, request: Any, status: int, sectors: int) -> None:
            original(queue, request, status, sectors)
            segments = 0 if request.discards else request.amount
            moved = request.amount if request.discards else sectors
            what = queue.number, request.operation, status, request.sector, segments, moved, request.id
            self._tell(began.pop((id(queue), request.id), None), (name, *what, VBD))

        return answer

    def _begin(self, began: dict[Asked, int], original: Callable[..., None]) -> Callable[..., None]:
        def begin(asked: Asked, possible: bool = True) -> None:
            original(asked, possible)
            if len(began) >= MOST_KEPT:  # of before a reset
                began.clear()
            began[asked] = self.domain.timeline.now()

        return begin

    def _end(
        self, began: dict[Asked, int], name: str, model: str, original: Callable[..., None]
    ) -> Callable[..., None]:
        def end(asked: Asked, status: int) -> None:
            original(asked, status)
            moved = asked.sectors if status == BLKIF_RSP_OKAY else 0
            what = 0, asked.operation, status, asked.sector, asked.parts, moved, asked.id
            self._tell(began.pop(asked, None), (name, *what, model))

        return end

    def _tell(self, begin: int | None, data: tuple[Any, ...]) -> None:
        now = self.domain.timeline.now()
        spent = 0 if begin is None else now - begin
        self.sink(Record(now, self.domain.domid, -1, "device", 0, True, data, spent))
