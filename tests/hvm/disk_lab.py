# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks for tests of disk controllers: an image in memory, a worker on the test's timeline, and plain memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from pvhv.hvm.platform.storage import Backing
from pvhv.images.image import SECTOR_SIZE
from tests.hvm.platform_lab import FakeTimeline

LATENCY = 100_000


def pattern(sector: int, count: int = 1) -> bytes:
    """What sectors of a new image have: each its own bytes."""
    return b"".join((n * 2654435761 & 0xFFFF_FFFF).to_bytes(4, "little") * 128 for n in range(sector, sector + count))


class MemoryImage:
    """An image whose host fails when it is told to. `log`: what was asked for, in order."""

    def __init__(self, sectors: int = 4096, readonly: bool = False) -> None:
        self.readonly = readonly
        self.sectors = sectors
        self.identity = (0, id(self))
        self.below = ()
        self.data = bytearray(pattern(0, sectors))
        self.fails = False
        self.log: list[tuple[str, int, int]] = []

    def _check(self, what: str, sector: int, count: int) -> None:
        self.log.append((what, sector, count))
        if self.fails:
            raise OSError("the host fails")

    def read(self, sector: int, count: int) -> bytes:
        self._check("read", sector, count)
        return bytes(self.data[sector * SECTOR_SIZE : (sector + count) * SECTOR_SIZE])

    def write(self, sector: int, data: bytes) -> None:
        assert not self.readonly and not len(data) % SECTOR_SIZE
        assert sector * SECTOR_SIZE + len(data) <= len(self.data)
        self._check("write", sector, len(data) // SECTOR_SIZE)
        self.data[sector * SECTOR_SIZE : sector * SECTOR_SIZE + len(data)] = data

    def discard(self, sector: int, count: int) -> None:
        raise AssertionError("nobody discards here")

    def flush(self) -> None:
        self._check("flush", 0, 0)

    def refresh(self) -> None:
        pass

    def close(self) -> None:
        pass


class Later:
    """Does work at once, and says so later. `most` is how much was under way at a time."""

    def __init__(self, timeline: FakeTimeline) -> None:
        self.timeline = timeline
        self.under_way = self.most = 0
        self.no_threads = False

    def begin(self, work: Callable[[], Any], finish: Callable[[Future[Any]], None]) -> None:
        if self.no_threads:
            raise RuntimeError("can't start new thread")
        future: Future[Any] = Future()
        try:
            future.set_result(work())
        except OSError as error:
            future.set_exception(error)
        self.under_way += 1
        self.most = max(self.most, self.under_way)

        def finished() -> None:
            self.under_way -= 1
            finish(future)

        self.timeline.after(self.timeline.now() + LATENCY, finished)

    def in_pieces(self, work: Iterator[int]) -> None:
        for cost in work:
            assert 0 < cost < 10_000


class PlainMemory:
    """Memory that a device may access, `size` bytes from address 0 on. Whatever lies beyond is a bug of the device."""

    def __init__(self, size: int = 4 << 20) -> None:
        self.bytes = bytearray(size)

    def holds(self, address: int, size: int) -> bool:
        return address + size <= len(self.bytes)

    def read(self, address: int, size: int) -> bytes:
        assert self.holds(address, size)
        return bytes(self.bytes[address : address + size])

    def write(self, address: int, data: bytes | memoryview) -> None:
        assert self.holds(address, len(data))
        self.bytes[address : address + len(data)] = data


def backing(timeline: FakeTimeline, sectors: int = 4096, readonly: bool = False) -> tuple[Backing, MemoryImage, Later]:
    image, later = MemoryImage(sectors, readonly), Later(timeline)
    return Backing(image, later), image, later
