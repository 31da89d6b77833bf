# SPDX-License-Identifier: GPL-2.0-or-later
"""What a disk controller tells of its requests: each once, when it comes and when it is answered; and the counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pvhv.abi.io.blkif import (
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    BLKIF_RSP_ERROR,
    BLKIF_RSP_OKAY,
)
from pvhv.core.sched.asked import Counts
from pvhv.hvm.platform.asked import Asked, Requests
from pvhv.images.image import SECTOR_SIZE
from pvhv.machine.wrapping import wrap
from tests.hvm import test_platform_ide as ide
from tests.hvm import test_platform_virtio as virtio
from tests.hvm.disk_lab import LATENCY, pattern

Ended = tuple[int, int, int, int, int]  # operation, sector, sectors, parts, status


class Told:
    """What an observer was told."""

    def __init__(self, requests: Requests) -> None:
        self.begun: list[Asked] = []
        self.answered: list[tuple[Asked, int]] = []
        wrap(requests, "begin", self._begin)
        wrap(requests, "end", self._end)

    def _begin(self, original: Callable[..., None]) -> Callable[..., None]:
        def begin(asked: Asked, *rest: Any) -> None:
            self.begun.append(asked)
            original(asked, *rest)

        return begin

    def _end(self, original: Callable[..., None]) -> Callable[..., None]:
        def end(asked: Asked, status: int) -> None:
            assert asked in self.begun and asked not in [each for each, _ in self.answered]
            self.answered.append((asked, status))
            original(asked, status)

        return end

    def ended(self) -> list[Ended]:
        """What was answered since it was asked last."""
        found = [(each.operation, each.sector, each.sectors, each.parts, status) for each, status in self.answered]
        self.answered.clear()
        return found


def ide_disk() -> tuple[ide.Pc, Requests, Told]:
    pc = ide.Pc()
    drive = pc.platform.ide[0].drives[0]
    assert drive is not None
    return pc, drive.requests, Told(drive.requests)


def test_a_read_of_an_ide_disk_is_over_when_the_guest_has_its_last_word() -> None:
    pc, requests, told = ide_disk()
    pc.address(5, 3)
    pc.command(ide.READ)
    assert len(told.begun) == 1 and told.begun[0].sector == 5
    pc.timeline.run(LATENCY)
    for block in range(3):
        assert told.ended() == [] and pc.inb(ide.STATUS) == ide.READY | ide.DRQ, block
        pc.words(255)
        assert told.ended() == []
        pc.words(1)
    assert told.ended() == [(BLKIF_OP_READ, 5, 3, 3, BLKIF_RSP_OKAY)]
    assert requests.counts == Counts(rd_req=1, rd_sect=3)


def test_the_blocks_of_an_ide_command_are_counted() -> None:
    pc, requests, told = ide_disk()
    pc.address(0, 40)
    pc.command(ide.READ_MULTIPLE)  # of 16 sectors each
    pc.timeline.run(LATENCY)
    pc.platform.bus.read_string(ide.DATA, 2, 40 * SECTOR_SIZE // 2)
    assert told.ended() == [(BLKIF_OP_READ, 0, 40, 3, BLKIF_RSP_OKAY)]
    pc.address(0, 40)
    pc.command(ide.WRITE)
    pc.put(pattern(1, 40))
    assert told.ended() == [], "not before it is in the image"
    pc.timeline.run(LATENCY)
    assert told.ended() == [(BLKIF_OP_WRITE, 0, 40, 40, BLKIF_RSP_OKAY)]
    pc.command(ide.FLUSH)
    pc.timeline.run(LATENCY)
    assert told.ended() == [(BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 0, BLKIF_RSP_OKAY)]
    assert requests.counts == Counts(rd_req=1, wr_req=1, f_req=1, rd_sect=40, wr_sect=40)
    assert [each.id for each in told.begun] == [1, 2, 3]


def test_what_an_ide_disk_refuses_is_told_and_not_counted() -> None:
    pc, requests, told = ide_disk()
    pc.address(4090, 10)
    pc.aborted(ide.WRITE)
    assert told.ended() == [(BLKIF_OP_WRITE, 4090, 10, 10, BLKIF_RSP_ERROR)]
    assert requests.counts == Counts()
    pc.image.fails = True
    pc.address(0, 1)
    pc.aborted(ide.READ)
    pc.aborted(ide.FLUSH)
    assert [each[-1] for each in told.ended()] == [BLKIF_RSP_ERROR] * 2
    assert requests.counts == Counts(rd_req=1, rd_sect=1, f_req=1), "they were begun"


def test_what_is_no_request_for_sectors_is_not_told() -> None:
    pc, requests, told = ide_disk()
    pc.outb(ide.DEVICE, 0xA0)
    pc.command(ide.IDENTIFY)
    pc.words(256)
    pc.outb(ide.COUNT, 8)
    pc.ok(ide.SET_MULTIPLE)
    pc.command(0x00)
    assert told.begun == [] and told.ended() == [] and requests.counts == Counts()


def test_a_reset_forgets_a_request() -> None:
    pc, requests, told = ide_disk()
    pc.address(0, 2)
    pc.command(ide.READ)
    pc.outb(ide.CONTROL, ide.SRST, 0)
    pc.timeline.run(2 * LATENCY)
    pc.address(7, 1)
    pc.command(ide.READ)
    pc.timeline.run(LATENCY)
    pc.words(256)
    assert told.ended() == [(BLKIF_OP_READ, 7, 1, 1, BLKIF_RSP_OKAY)]
    assert requests.counts.rd_req == 2


def virtio_disk() -> tuple[virtio.Pc, Requests, Told]:
    pc = virtio.Pc()
    return pc, pc.disk.requests, Told(pc.disk.requests)


def test_requests_of_a_virtio_disk() -> None:
    pc, requests, told = virtio_disk()
    pc.do(virtio.IN, 7, virtio.PIECE + 512)
    assert told.ended() == [(BLKIF_OP_READ, 7, virtio.PIECE // 512 + 1, 1, BLKIF_RSP_OKAY)]
    pc.do(virtio.OUT, 3, 1024)
    pc.do(virtio.T_FLUSH)
    pc.do(virtio.GET_ID, size=20)
    pc.do(virtio.SCSI)
    assert told.ended() == [
        (BLKIF_OP_WRITE, 3, 2, 1, BLKIF_RSP_OKAY),
        (BLKIF_OP_FLUSH_DISKCACHE, 0, 0, 0, BLKIF_RSP_OKAY),
    ]
    counts = Counts(rd_req=1, rd_sect=virtio.PIECE // 512 + 1, wr_req=1, wr_sect=2, f_req=1)
    assert requests.counts == counts
    pc.do(virtio.IN, 4095, 1024)
    assert told.ended() == [(BLKIF_OP_READ, 4095, 2, 1, BLKIF_RSP_ERROR)]
    assert requests.counts == counts, "it was not begun"
    pc.image.fails = True
    pc.do(virtio.IN, 0, 512)
    assert [each[-1] for each in told.ended()] == [BLKIF_RSP_ERROR]


def test_a_virtio_request_has_its_own_head_and_buffers() -> None:
    pc, _requests, told = virtio_disk()
    at = virtio.DATA
    pc.memory.write(at, virtio.struct.pack("<IIQ", virtio.OUT, 0, 9))
    pieces = [(at, 16), (at + 16, 500), (at + 516, 12)]
    table = [(place, size, virtio.NEXT, n + 1) for n, (place, size) in enumerate(pieces, 40)]
    pc.describe([*table, (at + 600, 1, virtio.WRITE, 0)], first=40)
    pc.offer(40)
    pc.timeline.run(LATENCY)
    assert told.ended() == [(BLKIF_OP_WRITE, 9, 1, 2, BLKIF_RSP_OKAY)] and told.begun[0].id == 40


@pytest.mark.parametrize("how", ["reset", "broken"])
def test_what_a_driver_gave_up_is_not_answered(how: str) -> None:
    pc, requests, told = virtio_disk()
    pc.describe(pc.request(virtio.IN, 0, 512))
    pc.offer(0)
    if how == "reset":
        pc.start()
    else:
        pc.describe([(1 << 40, 16, 0, 0)], first=9)
        pc.offer(9)
        assert pc.disk.broken
    pc.timeline.run(2 * LATENCY)
    assert len(told.begun) == 1 and told.ended() == [] and requests.counts.rd_req == 1
