# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes on the disks of one domain: functions around those of a disk that take a request and answer it.

A record is made when a request is answered. It says what was asked, and how long ago: the round trip, from the ring and
back into it. A request whose ring goes before it is answered has no record.

A disk that is attached while a trace runs is not in it.

Read beside it: pvhv/devices/block/disk.py, whose functions these are; blkback's own events, blktrace(8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from pvhv.devices.block.disk import MOST_UNDER_WAY, Disk
from pvhv.devices.block.names import name_of
from pvhv.machine.wrapping import wrap
from pvhv.observe.record import Record, Sink

if TYPE_CHECKING:
    from pvhv.core.domain import Domain

MOST_KEPT = 4 * MOST_UNDER_WAY  # requests of one disk whose beginning is known

Disks = Iterable[tuple[int, Disk]]  # numbers, and data halves


class DeviceProbes:
    """What is watched of a domain's disks, until `remove`."""

    def __init__(self, domain: Domain, disks: Disks, sink: Sink) -> None:
        self.domain = domain
        self.sink = sink
        self._unwrap: list[Callable[[], None]] = []
        for number, disk in disks:
            began: dict[tuple[int, int], int] = {}  # by ring and the request's id
            self._unwrap.append(wrap(disk, "take", partial(self._take, began)))
            self._unwrap.append(wrap(disk, "answer", partial(self._answer, began, name_of(number))))

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
            now = self.domain.timeline.now()
            begin = began.pop((id(queue), request.id), now)
            moved = request.amount if request.discards else sectors
            segments = 0 if request.discards else request.amount
            data = (name, queue.number, request.operation, status, request.sector, segments, moved, request.id)
            self.sink(Record(now, self.domain.domid, -1, "device", 0, True, data, now - begin))

        return answer
