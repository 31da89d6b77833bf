# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtio disk as a driver uses it, by the legacy registers; and queues that are lies."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

import pytest

from pvhv.hvm.platform.virtio_blk import MOST_UNDER_WAY, PIECE
from pvhv.images.image import SECTOR_SIZE
from tests.hvm.disk_lab import LATENCY, PlainMemory, backing, pattern
from tests.hvm.platform_lab import Machine

FEATURES, GUEST_FEATURES, QUEUE_ADDRESS, QUEUE_SIZE, QUEUE_SELECT, NOTIFY, STATUS, ISR, CONFIG = (
    0, 4, 8, 12, 14, 16, 18, 19, 20,
)  # fmt: skip
SIZE = 256
QUEUE = 0x10_0000  # descriptors; the available ring is at +0x1000, the used ring at +0x2000
AVAIL, USED = QUEUE + 0x1000, QUEUE + 0x2000
DATA = 0x20_0000
F_RO, F_FLUSH, F_INDIRECT = 1 << 5, 1 << 9, 1 << 28
NEXT, WRITE, INDIRECT = 1, 2, 4
IN, OUT, SCSI, T_FLUSH, GET_ID = 0, 1, 2, 4, 8
OK, IOERR, UNSUPP = 0, 1, 2

Descriptor = tuple[int, int, int, int]  # address, length, flags, next


class Pc(Machine):
    """A machine with one virtio disk, and a driver for it."""

    def __init__(self, sectors: int = 4096, readonly: bool = False, features: int = F_FLUSH) -> None:
        super().__init__(levels=True)
        self.init_pics()
        disk, self.image, self.later = backing(self.timeline, sectors, readonly)
        self.memory = PlainMemory()
        self.platform.plug_virtio(0, disk, self.memory)
        self.disk = self.platform.virtio[0]
        self.config(4, 0x0005)  # I/O space, bus master
        self.base = self.disk.function.base(0)
        self.line = 0x30 + self.disk.function.bytes[0x3C]
        self.start(features)

    def config(self, register: int, value: int) -> None:
        self.platform.bus.write(0xCF8, 4, 1 << 31 | 3 << 11 | register)
        self.platform.bus.write(0xCFC, 2, value)

    def get(self, register: int, size: int) -> int:
        return self.platform.bus.read(self.base + register, size)

    def set(self, register: int, size: int, value: int) -> None:
        self.platform.bus.write(self.base + register, size, value)

    def start(self, features: int = F_FLUSH) -> None:
        """As a driver begins: reset, seen, driver, features, queue, ready."""
        for status in (0, 1, 3):
            self.set(STATUS, 1, status)
        self.set(GUEST_FEATURES, 4, features)
        self.memory.bytes[QUEUE : QUEUE + 0x4000] = bytes(0x4000)
        self.set(QUEUE_SELECT, 2, 0)
        self.set(QUEUE_ADDRESS, 4, QUEUE >> 12)
        self.set(STATUS, 1, 7)
        self.available = self.seen = 0

    def describe(self, table: Sequence[Descriptor], first: int = 0, at: int = QUEUE) -> None:
        for n, descriptor in enumerate(table, first):
            self.memory.write(at + 16 * n, struct.pack("<QIHH", *descriptor))

    def offer(self, *heads: int, notify: bool = True) -> None:
        for head in heads:
            self.memory.write(AVAIL + 4 + 2 * (self.available % SIZE), struct.pack("<H", head))
            self.available = self.available + 1 & 0xFFFF
        self.memory.write(AVAIL + 2, struct.pack("<H", self.available))
        if notify:
            self.set(NOTIFY, 2, 0)

    def used(self) -> list[tuple[int, int]]:
        """The (head, written) given back since it was asked last."""
        (index,) = struct.unpack("<H", self.memory.read(USED + 2, 2))
        found = []
        while self.seen != index:
            found.append(struct.unpack("<II", self.memory.read(USED + 4 + 8 * (self.seen % SIZE), 8)))
            self.seen = self.seen + 1 & 0xFFFF
        return found

    def request(self, kind: int, sector: int, size: int, data: bytes = b"", head: int = 0) -> list[Descriptor]:
        """The chain of a usual request; its status is behind the data."""
        at = DATA + head * 0x1000
        self.memory.write(at, struct.pack("<IIQ", kind, 0, sector))
        self.memory.write(at + 16, data.ljust(size, b"\xee"))
        self.memory.write(at + 16 + size, b"\xff")
        flags = 0 if kind & OUT else WRITE
        middle = [(at + 16, size, NEXT | flags, head + 2)] if size else []
        return [(at, 16, NEXT, head + 1), *middle, (at + 16 + size, 1, WRITE, 0)]

    def do(self, kind: int, sector: int = 0, size: int = 0, data: bytes = b"") -> tuple[int, bytes]:
        """Carry out one request alone; its status and its data."""
        self.describe(self.request(kind, sector, size, data))
        self.offer(0)
        self.timeline.run(LATENCY * (2 + size // PIECE))
        ((head, _),) = self.used()
        assert head == 0
        return self.memory.bytes[DATA + 16 + size], self.memory.read(DATA + 16, size)

    def works(self) -> None:
        """After a reset it is as new."""
        self.start()
        assert self.do(IN, 3, 512) == (OK, bytes(self.image.data[3 * 512 : 4 * 512]))


def test_what_the_function_says() -> None:
    pc = Pc()
    function = pc.disk.function
    assert function.read(0, 4) == 0x1001_1AF4 and function.read(0x2C, 4) == 0x0002_1AF4
    assert function.read(8, 4) == 0x01_0000_00, "revision 0: the legacy interface"
    assert pc.get(FEATURES, 4) & (F_FLUSH | F_INDIRECT | F_RO) == F_FLUSH | F_INDIRECT
    assert pc.get(QUEUE_SIZE, 2) == SIZE
    words = struct.pack("<6I", *(pc.get(CONFIG + n, 4) for n in range(0, 24, 4)))
    assert struct.unpack("<QIIHBBI", words) == (4096, 0, 254, 4, 16, 63, 512)
    assert pc.get(CONFIG, 1) == 0 and pc.get(CONFIG + 1, 1) == 0x10, "bytes of it, too"
    pc.set(QUEUE_SELECT, 2, 1)
    assert pc.get(QUEUE_SIZE, 2) == 0 and pc.get(QUEUE_ADDRESS, 4) == 0, "one queue"
    assert Pc(readonly=True).get(FEATURES, 4) & F_RO


@pytest.mark.parametrize("size", [512, 4096, 65536, PIECE + 512])
def test_reads_and_writes(size: int) -> None:
    pc = Pc()
    assert pc.do(IN, 7, size) == (OK, pattern(7, size // 512))
    assert pc.do(OUT, 100, size, pattern(1, size // 512))[0] == OK
    assert pc.image.data[100 * 512 : 100 * 512 + size] == pattern(1, size // 512)


def test_an_interrupt_comes_with_the_answer_and_ends_with_its_register() -> None:
    pc = Pc()
    pc.describe(pc.request(IN, 0, 512))
    pc.offer(0)
    assert not pc.pic.pending() and pc.used() == []
    pc.timeline.run(LATENCY)
    assert pc.used() == [(0, 513)], "the status is one of the bytes written"
    assert pc.pic.acknowledge() == pc.line
    assert pc.get(ISR, 1) == 1 and pc.get(ISR, 1) == 0
    pc.outb(0xA0, 0x20)
    pc.outb(0x20, 0x20)
    assert not pc.pic.pending()


def test_a_driver_that_wants_no_interrupt_gets_none() -> None:
    pc = Pc()
    pc.memory.write(AVAIL, b"\1\0")
    assert pc.do(IN, 0, 512)[0] == OK
    assert not pc.pic.pending() and pc.get(ISR, 1) == 0


def test_many_requests_for_one_notification() -> None:
    pc = Pc()
    for n in range(60):
        pc.describe(pc.request(IN, n, 512, head=4 * n), first=4 * n)
        pc.offer(4 * n, notify=False)
    pc.set(NOTIFY, 2, 0)
    pc.timeline.run(3 * LATENCY)
    assert sorted(pc.used()) == [(4 * n, 513) for n in range(60)]
    for n in range(60):
        assert pc.memory.read(DATA + 0x4000 * n + 16, 512) == pattern(n)
    assert pc.later.most == MOST_UNDER_WAY


def test_a_request_in_many_buffers_and_one_indirect() -> None:
    pc = Pc()
    data = pattern(50, 2)
    pc.memory.write(DATA, struct.pack("<IIQ", OUT, 0, 9) + data)
    pieces = [(DATA, 10), (DATA + 10, 100), (DATA + 110, 906), (DATA + 1016, 24)]
    table = [(at, size, NEXT, n + 1) for n, (at, size) in enumerate(pieces)] + [(DATA + 5000, 1, WRITE, 0)]
    pc.describe(table)
    pc.offer(0)
    pc.timeline.run(LATENCY)
    assert pc.used() == [(0, 1)] and pc.memory.bytes[DATA + 5000] == OK
    assert pc.image.data[9 * 512 : 11 * 512] == data
    pc.describe(pc.request(IN, 20, 4096), at=DATA + 0x8000)
    pc.describe([(DATA + 0x8000, 48, INDIRECT, 0)], first=200)
    pc.offer(200)
    pc.timeline.run(LATENCY)
    assert pc.used() == [(200, 4097)] and pc.memory.read(DATA + 16, 4096) == pattern(20, 8)


def test_statuses() -> None:
    pc = Pc(sectors=100)
    assert pc.do(T_FLUSH)[0] == OK and pc.image.log == [("flush", 0, 0)]
    assert pc.do(GET_ID, size=20) == (OK, b"pvhv-vd0".ljust(20, b"\0"))
    assert pc.do(GET_ID, size=4) == (OK, b"pvhv")
    for kind in (SCSI, 11, 13, 99):
        assert pc.do(kind)[0] == UNSUPP
    for kind, sector, size in ((IN, 99, 1024), (OUT, 100, 512), (IN, 1 << 63, 512), (IN, 0, 100), (OUT, 0, 513)):
        assert pc.do(kind, sector, size)[0] == IOERR, "beyond the end, or no whole sector"
    assert pc.do(IN, 100)[0] == OK, "nothing of nothing"
    pc.image.fails = True
    assert [pc.do(kind, 0, size)[0] for kind, size in ((IN, 512), (OUT, 512), (T_FLUSH, 0))] == [IOERR] * 3
    pc.image.fails, pc.later.no_threads = False, True
    assert pc.do(IN, 0, 512)[0] == IOERR
    readonly = Pc(readonly=True)
    assert readonly.do(OUT, 0, 512)[0] == IOERR and readonly.do(IN, 0, 512)[0] == OK


def test_a_driver_that_knows_no_flush_has_its_writes_made_durable() -> None:
    pc = Pc(features=0)
    assert pc.do(OUT, 0, 512)[0] == OK
    assert [entry[0] for entry in pc.image.log] == ["write", "flush"]
    pc = Pc()
    assert pc.do(OUT, 0, 512)[0] == OK and [entry[0] for entry in pc.image.log] == ["write"]
    pc.set(CONFIG + 32, 1, 0)  # write through
    assert pc.do(OUT, 0, 512)[0] == OK and [entry[0] for entry in pc.image.log[1:]] == ["write", "flush"]


def test_a_reset_forgets_what_was_under_way() -> None:
    pc = Pc()
    for _ in range(50):
        pc.describe(pc.request(IN, 0, 512))
        pc.offer(0)
        pc.start()
    assert pc.later.most <= MOST_UNDER_WAY
    pc.timeline.run(3 * LATENCY)
    assert pc.used() == [] and not pc.pic.pending() and pc.memory.bytes[DATA + 16] == 0xEE
    pc.works()


def test_a_device_that_may_not_access_memory_does_not() -> None:
    pc = Pc()
    pc.config(4, 0x0001)
    pc.describe(pc.request(IN, 0, 512))
    pc.offer(0)
    pc.timeline.run(LATENCY)
    assert pc.used() == []


LIES: dict[str, list[Descriptor]] = {
    "loop": [(DATA, 16, NEXT, 0)],
    "a longer loop": [(DATA, 16, NEXT, 1), (DATA, 16, NEXT, 2), (DATA, 16, NEXT, 1)],
    "next beyond the table": [(DATA, 16, NEXT, SIZE)],
    "an empty buffer": [(DATA, 16, NEXT, 1), (DATA, 0, NEXT, 2), (DATA, 1, WRITE, 0)],
    "no memory": [(DATA, 16, NEXT, 1), (1 << 40, 512, NEXT | WRITE, 2), (DATA, 1, WRITE, 0)],
    "the end of memory": [(DATA, 16, NEXT, 1), ((4 << 20) - 511, 512, NEXT | WRITE, 2), (DATA, 1, WRITE, 0)],
    "around the end of the address space": [(DATA, 16, NEXT, 1), ((1 << 64) - 8, 16, WRITE, 2)],
    "no header": [(DATA, 15, NEXT, 1), (DATA, 1, WRITE, 0)],
    "no room for the status": [(DATA, 16, 0, 0)],
    "nothing to read": [(DATA, 16, WRITE, 0)],
    "read behind write": [(DATA, 16, WRITE | NEXT, 1), (DATA, 16, NEXT, 2), (DATA, 1, WRITE, 0)],
    "an indirect table of half a descriptor": [(DATA, 8, INDIRECT, 0)],
    "an indirect table of nothing": [(DATA, 0, INDIRECT, 0)],
    "an indirect table in no memory": [(1 << 50, 64, INDIRECT, 0)],
    "an indirect table and more": [(DATA, 64, INDIRECT | NEXT, 1), (DATA, 1, WRITE, 0)],
    "an indirect table in itself": [(QUEUE, 16, INDIRECT, 0)],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_makes_the_device_deaf_until_it_is_reset(lie: str) -> None:
    pc = Pc()
    before = bytes(pc.image.data)
    pc.describe(LIES[lie])
    pc.offer(0)
    pc.timeline.run(LATENCY)
    assert pc.disk.broken and pc.used() == [] and not pc.pic.pending()
    pc.describe(pc.request(IN, 0, 512))
    pc.offer(0)
    pc.timeline.run(LATENCY)
    assert pc.used() == [] and pc.image.data == before
    pc.works()


@pytest.mark.parametrize("ahead", [SIZE + 1, 0x8000, 0xFFFF])
def test_an_index_too_far_ahead(ahead: int) -> None:
    pc = Pc()
    pc.memory.write(AVAIL + 2, struct.pack("<H", ahead))
    pc.set(NOTIFY, 2, 0)
    assert pc.disk.broken
    pc.works()


def test_a_head_that_is_no_descriptor_and_a_queue_in_no_memory() -> None:
    pc = Pc()
    pc.offer(SIZE)
    assert pc.disk.broken
    pc.start()
    pc.set(QUEUE_ADDRESS, 4, (4 << 20 >> 12) - 1)
    pc.set(NOTIFY, 2, 0)
    assert pc.disk.broken
    pc.start()
    pc.set(QUEUE_ADDRESS, 4, 0xFFFF_FFFF)
    pc.set(NOTIFY, 2, 0)
    assert pc.disk.broken
    pc.works()


def test_a_break_does_not_answer_what_was_under_way() -> None:
    pc = Pc()
    pc.describe(pc.request(IN, 0, 512))
    pc.offer(0)
    pc.offer(SIZE)
    pc.timeline.run(LATENCY)
    assert pc.disk.broken and pc.used() == []
    pc.works()


def test_a_request_of_all_memory_many_times_is_done_in_pieces() -> None:
    """Ten buffers, all of them the same MiB: the host never has more of it than a piece."""
    pc = Pc(sectors=1)
    pc.image.sectors = 1 << 20
    pc.image.read = lambda sector, count: bytes(count * SECTOR_SIZE)  # type: ignore[method-assign]
    pc.memory.write(DATA - 16, struct.pack("<IIQ", IN, 0, 0))
    table = [(DATA - 16, 16, NEXT, 1)] + [(DATA, 1 << 20, NEXT | WRITE, n + 2) for n in range(10)]
    pc.describe([*table, (DATA - 17, 1, WRITE, 0)])
    pc.offer(0)
    pc.timeline.run(LATENCY * 10)
    assert pc.used() == [] and pc.later.most == 1
    pc.timeline.run(LATENCY * 80)
    assert pc.used() == [(0, (10 << 20) + 1)] and pc.memory.bytes[DATA - 17] == OK


def test_any_queue() -> None:
    """Random tables, rings and registers: nothing raises, nothing but memory and disk is touched, and a reset heals."""
    dice = random.Random(1129)
    pc = Pc(sectors=64)

    def address() -> int:
        return dice.choice((DATA, DATA + dice.randrange(0x4000), QUEUE + dice.randrange(0x3000), dice.getrandbits(64)))

    for _ in range(1_000):
        pc.start(dice.getrandbits(32))
        for _ in range(dice.randrange(1, 30)):
            length = dice.choice((0, 1, 16, 512, 4096, dice.getrandbits(32)))
            flags = dice.choice((0, NEXT, WRITE, NEXT | WRITE, INDIRECT, dice.getrandbits(16)))
            pc.describe([(address(), length, flags, dice.randrange(40))], first=dice.randrange(32))
            header = struct.pack("<IIQ", dice.randrange(10), 0, dice.randrange(70))
            pc.memory.write(DATA + 512 * dice.randrange(8), header)
            pc.offer(dice.choice((dice.randrange(32), dice.randrange(32), dice.getrandbits(16))), notify=False)
            match dice.randrange(4):
                case 0:
                    pc.platform.bus.write(pc.base + dice.randrange(64), dice.choice((1, 2, 4)), dice.getrandbits(32))
                case 1:
                    pc.platform.bus.read(pc.base + dice.randrange(64), dice.choice((1, 2, 4)))
                case 2:
                    pc.timeline.run(LATENCY)
                case _:
                    pc.set(NOTIFY, 2, 0)
    assert pc.later.most <= MOST_UNDER_WAY
    pc.timeline.run(LATENCY * 10_000)
    assert pc.timeline.live() == [] and pc.disk.under_way == 0
    pc.works()


def test_a_closed_platform_answers_nothing() -> None:
    pc = Pc()
    pc.describe(pc.request(IN, 0, 512))
    pc.offer(0)
    pc.platform.close()
    pc.timeline.run(LATENCY)
    assert pc.used() == [] and pc.memory.bytes[DATA + 16] == 0xEE
