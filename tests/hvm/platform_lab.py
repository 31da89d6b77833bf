# SPDX-License-Identifier: GPL-2.0-or-later
"""A timeline made for tests, and a platform on it whose outward calls are recorded."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from pvhv.hvm.platform import Platform

Y2001 = 1_000_000_000 * 1_000_000_000  # 2001-09-09T01:46:40Z, a Sunday


class FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeTimeline:
    """Time goes where it is told to. `sleep_to` is the guest that was not scheduled: all timers come late."""

    def __init__(self, epoch: int = Y2001) -> None:
        self.time = 0
        self.epoch = epoch
        self.heap: list[tuple[int, int, FakeTimer]] = []
        self.serial = 0
        self.fired = 0

    def now(self) -> int:
        return self.time

    def wallclock(self) -> int:
        return self.epoch

    def after(self, deadline: int, callback: Callable[[], None], /) -> FakeTimer:
        assert isinstance(deadline, int)
        timer = FakeTimer(callback)
        self.serial += 1
        heapq.heappush(self.heap, (deadline, self.serial, timer))
        return timer

    def live(self) -> list[int]:
        return sorted(deadline for deadline, _, timer in self.heap if timer.callback is not None)

    def run_to(self, time: int) -> None:
        """Each timer at its time."""
        while self.heap and self.heap[0][0] <= time:
            deadline, _, timer = heapq.heappop(self.heap)
            if timer.callback is not None:
                self.time = max(self.time, deadline)
                self._call(timer)
        self.time = time

    def run(self, ns: int) -> None:
        self.run_to(self.time + ns)

    def sleep_to(self, time: int) -> None:
        """First the time passes, then the timers that came due in it are called."""
        self.time = time
        while self.heap and self.heap[0][0] <= time:
            timer = heapq.heappop(self.heap)[2]
            if timer.callback is not None:
                self._call(timer)

    def _call(self, timer: FakeTimer) -> None:
        callback, timer.callback = timer.callback, None
        assert callback is not None
        self.fired += 1
        callback()


class Machine:
    """A platform, and what a CPU beside it would do."""

    def __init__(self, memory_bytes: int = 64 << 20, epoch: int = Y2001, *, levels: bool = False) -> None:
        """`levels`: PCI's inputs of the PIC are levels, as firmware leaves them. Else all are edges."""
        self.timeline = FakeTimeline(epoch)
        self.said = bytearray()
        self.interrupts = 0
        self.endings: list[tuple[str, int]] = []
        self.platform = Platform(
            self.timeline, memory_bytes, self.said.extend, self._interrupted, lambda how, code: self._end(how, code)
        )
        self.pic = self.platform.pic
        if not levels:
            self.outb(0x4D1, 0)

    def _interrupted(self) -> None:
        self.interrupts += 1

    def _end(self, how: str, code: int) -> None:
        self.endings.append((how, code))

    def inb(self, port: int) -> int:
        return self.platform.bus.read(port, 1)

    def outb(self, port: int, *values: int) -> None:
        for value in values:
            self.platform.bus.write(port, 1, value)

    def init_pics(self, first: int = 0x30, second: int = 0x38, icw4: int = 0x01, mask: int = 0) -> None:
        """As Linux's init_8259A does it; then the masks."""
        self.outb(0x21, 0xFF)
        self.outb(0xA1, 0xFF)
        self.outb(0x20, 0x11)
        self.outb(0x21, first, 0x04, icw4)
        self.outb(0xA0, 0x11)
        self.outb(0xA1, second, 0x02, icw4 & 0x03)
        self.outb(0x21, mask & 0xFF)
        self.outb(0xA1, mask >> 8)

    def taken(self) -> list[int]:
        """Take and end (without nesting) all interrupts there are; their vectors."""
        vectors = []
        while self.pic.pending():
            vectors.append(self.pic.acknowledge())
            if vectors[-1] >= 0x38:
                self.outb(0xA0, 0x20)
            self.outb(0x20, 0x20)
        return vectors
