# SPDX-License-Identifier: GPL-2.0-or-later
"""The IDE channels as a driver uses them: commands, data, interrupts, resets; and as nobody should."""

from __future__ import annotations

import random
import struct

import pytest

from pvhv.hvm.platform.ata import CHUNK
from pvhv.images.image import SECTOR_SIZE
from tests.hvm.disk_lab import LATENCY, Later, MemoryImage, backing, pattern
from tests.hvm.platform_lab import Machine

DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS, CONTROL = (*range(0x1F0, 0x1F8), 0x3F6)
BSY, DRDY, DSC, DRQ, ERR, ABRT = 0x80, 0x40, 0x10, 0x08, 0x01, 0x04
READY = DRDY | DSC
NIEN, SRST, HOB = 2, 4, 0x80
IRQ = 0x30 + 14
READ, READ_EXT, WRITE, WRITE_EXT, READ_MULTIPLE, WRITE_MULTIPLE = 0x20, 0x24, 0x30, 0x34, 0xC4, 0xC5
READ_MULTIPLE_EXT, WRITE_MULTIPLE_EXT, SET_MULTIPLE, FLUSH, FLUSH_EXT, IDENTIFY = 0x29, 0x39, 0xC6, 0xE7, 0xEA, 0xEC


class Pc(Machine):
    """A machine with a disk at `position`."""

    def __init__(self, position: int = 0, sectors: int = 4096, readonly: bool = False) -> None:
        super().__init__()
        self.init_pics()
        self.image: MemoryImage
        self.later: Later
        disk, self.image, self.later = backing(self.timeline, sectors, readonly)
        self.platform.plug_ide(position, disk)

    def address(self, sector: int, count: int, device: int = 0xE0) -> None:
        self.outb(DEVICE, device | sector >> 24 & 15)
        self.outb(COUNT, count & 0xFF)
        for register, shift in ((LOW, 0), (MID, 8), (HIGH, 16)):
            self.outb(register, sector >> shift & 0xFF)

    def address_ext(self, sector: int, count: int) -> None:
        self.outb(DEVICE, 0xE0)
        self.outb(COUNT, count >> 8, count & 0xFF)
        for register, shift in ((LOW, 0), (MID, 8), (HIGH, 16)):
            self.outb(register, sector >> 24 + shift & 0xFF, sector >> shift & 0xFF)

    def command(self, code: int) -> None:
        self.outb(STATUS, code)

    def wait(self) -> int:
        """Until the disk is no longer busy; its status then, which ends the interrupt."""
        self.timeline.run(LATENCY)
        return self.inb(STATUS)

    def status(self) -> int:
        return self.inb(CONTROL)

    def words(self, count: int) -> bytes:
        return b"".join(self.platform.bus.read(DATA, 2).to_bytes(2, "little") for _ in range(count))

    def put(self, data: bytes) -> None:
        for (word,) in struct.iter_unpack("<H", data):
            self.platform.bus.write(DATA, 2, word)

    def ok(self, code: int) -> None:
        self.command(code)
        assert self.wait() == READY and self.taken() == [IRQ]

    def aborted(self, code: int) -> None:
        self.command(code)
        assert self.wait() == READY | ERR and self.inb(ERROR) == ABRT
        assert self.taken() == [IRQ]


def test_the_signature_after_power_on_and_what_is_not_there() -> None:
    pc = Pc()
    assert [pc.inb(port) for port in (ERROR, COUNT, LOW, MID, HIGH, STATUS)] == [1, 1, 1, 0, 0, READY]
    pc.outb(DEVICE, 0xB0)
    assert pc.inb(STATUS) == 0 and pc.inb(DEVICE) == 0, "no slave"
    pc.outb(STATUS, IDENTIFY)
    assert pc.wait() == 0 and pc.taken() == [] and pc.words(4) == bytes(8)
    assert pc.inb(0x177) == 0, "nothing on the other channel"


def test_identify() -> None:
    pc = Pc(sectors=4096)
    pc.outb(DEVICE, 0xA0)
    pc.command(IDENTIFY)
    assert pc.taken() == [IRQ] and pc.inb(STATUS) == READY | DRQ
    words = struct.unpack("<256H", pc.words(256))
    assert pc.inb(STATUS) == READY and pc.taken() == []
    assert words[27:47] == struct.unpack(">20H", b"PVHV HARDDISK".ljust(40)), "its name, byte by byte the other way"
    assert words[60] | words[61] << 16 == 4096 and words[100:104] == (4096, 0, 0, 0)
    assert words[49] & 0x300 == 0x200, "LBA, no DMA"
    assert words[1] * words[3] * words[6] <= 4096 and words[47] & 0xFF == 16


@pytest.mark.parametrize("position", range(4))
def test_four_disks(position: int) -> None:
    pc = Pc(position)
    base = (0x1F0, 0x170)[position // 2]
    pc.outb(base + 6, 0xE0 | position % 2 << 4)
    pc.outb(base + 2, 1)
    pc.outb(base + 3, 7, 0)
    pc.outb(base + 7, READ)
    assert pc.inb(base + 7) == BSY
    pc.timeline.run(LATENCY)
    assert pc.taken() == [0x30 + 14 + position // 2] and pc.inb(base + 7) == READY | DRQ
    assert pc.platform.bus.read_string(base, 2, 256) == pattern(0)
    assert pc.taken() == []


@pytest.mark.parametrize(("sector", "count"), [(0, 1), (5, 3), (4095, 1), (3840, 256)])
def test_a_read_interrupts_at_each_sector(sector: int, count: int) -> None:
    pc = Pc()
    pc.address(sector, count)
    pc.command(READ)
    assert pc.status() == BSY and pc.taken() == []
    pc.timeline.run(LATENCY)
    data = b""
    for _ in range(count):
        assert pc.taken() == [IRQ] and pc.inb(STATUS) == READY | DRQ
        data += pc.words(256)
    assert pc.taken() == [] and pc.inb(STATUS) == READY
    assert data == pattern(sector, count)
    assert pc.image.log == [("read", sector, count)]


def test_a_write_interrupts_behind_each_sector() -> None:
    pc = Pc()
    data = pattern(1000, 3)
    pc.address(17, 3)
    pc.command(WRITE)
    assert pc.status() == READY | DRQ and pc.taken() == [], "the first block is asked for by the status alone"
    for n in range(3):
        pc.put(data[n * SECTOR_SIZE : (n + 1) * SECTOR_SIZE])
        if n < 2:
            assert pc.taken() == [IRQ] and pc.inb(STATUS) == READY | DRQ
    assert pc.status() == BSY and pc.taken() == []
    assert pc.wait() == READY and pc.taken() == [IRQ]
    assert pc.image.data[17 * SECTOR_SIZE : 20 * SECTOR_SIZE] == data
    assert pc.image.log == [("write", 17, 3)]


@pytest.mark.parametrize("extended", [False, True])
def test_multiple_sectors_are_one_block(extended: bool) -> None:
    pc = Pc()
    pc.outb(COUNT, 8)
    pc.ok(SET_MULTIPLE)
    data = pattern(9, 20)
    (pc.address_ext if extended else pc.address)(32, 20)
    pc.command(WRITE_MULTIPLE_EXT if extended else WRITE_MULTIPLE)
    interrupts = []
    for n in range(0, 20, 8):
        assert pc.inb(STATUS) == READY | DRQ
        pc.platform.bus.write_string(DATA, 4, data[n * SECTOR_SIZE : (n + 8) * SECTOR_SIZE])
        interrupts += pc.taken()
    assert pc.wait() == READY and interrupts == [IRQ, IRQ] and pc.taken() == [IRQ]
    (pc.address_ext if extended else pc.address)(32, 20)
    pc.command(READ_MULTIPLE_EXT if extended else READ_MULTIPLE)
    assert pc.wait() == READY | DRQ
    got, interrupts = b"", pc.taken()
    for n in (8, 8, 4):
        assert pc.inb(STATUS) == READY | DRQ
        got += pc.platform.bus.read_string(DATA, 4, n * 128)
        interrupts += pc.taken()
    assert got == data and interrupts == [IRQ] * 3 and pc.inb(STATUS) == READY


def test_a_long_command_of_48_bits_goes_chunk_by_chunk() -> None:
    pc = Pc(sectors=2 * CHUNK + 100)
    count = 2 * CHUNK + 50
    pc.address_ext(20, count)
    pc.command(READ_EXT)
    data = b""
    for _ in range(3):
        assert pc.status() == BSY
        assert pc.wait() == READY | DRQ
        while pc.status() & DRQ:
            data += pc.platform.bus.read_string(DATA, 2, 256)
    assert data == pattern(20, count)
    assert [entry[2] for entry in pc.image.log] == [CHUNK, CHUNK, 50]
    pc.image.log.clear()
    pc.address_ext(0, count)
    pc.command(WRITE_EXT)
    for n in range(count):
        pc.platform.bus.write_string(DATA, 2, pattern(n + 7))
        if not (n + 1) % CHUNK:
            assert pc.wait() == READY | DRQ
    assert pc.wait() == READY and pc.image.data[: count * SECTOR_SIZE] == pattern(7, count)
    assert [entry[:2] for entry in pc.image.log] == [("write", 0), ("write", CHUNK), ("write", 2 * CHUNK)]


def test_what_was_written_first_is_shown_by_hob() -> None:
    pc = Pc()
    pc.address_ext(0x123456789ABC, 0x0102)
    assert [pc.inb(port) for port in (COUNT, LOW, MID, HIGH)] == [2, 0xBC, 0x9A, 0x78]
    pc.outb(CONTROL, HOB)
    assert [pc.inb(port) for port in (COUNT, LOW, MID, HIGH)] == [1, 0x56, 0x34, 0x12]
    pc.outb(COUNT, 5)
    assert pc.inb(COUNT) == 5, "a write ends it"
    pc.aborted(READ_EXT)


def test_cylinders_heads_and_sectors() -> None:
    pc = Pc()
    pc.outb(DEVICE, 0xA0 | 3)
    pc.outb(COUNT, 10)
    pc.ok(0x91)  # INITIALIZE DEVICE PARAMETERS: 4 heads, 10 sectors
    pc.outb(DEVICE, 0xA0 | 2)
    for register, value in ((COUNT, 1), (LOW, 3), (MID, 5), (HIGH, 0)):
        pc.outb(register, value)
    pc.command(READ)
    assert pc.wait() == READY | DRQ
    assert pc.words(256) == pattern((5 * 4 + 2) * 10 + 2)
    for register, value in ((DEVICE, 0xA0), (COUNT, 1), (LOW, 0), (MID, 0)):
        pc.outb(register, value)
    pc.aborted(READ)  # sectors of a track are counted from 1


@pytest.mark.parametrize(
    ("sector", "count", "code"),
    [(4096, 1, READ), (4095, 2, READ), (4095, 2, WRITE), (1 << 27, 1, WRITE), (4000, 0, READ), (4096, 1, 0x40)],
)
def test_beyond_the_end(sector: int, count: int, code: int) -> None:
    pc = Pc()
    pc.address(sector, count)
    pc.aborted(code)
    assert pc.image.log == []
    pc.address(0, 1)
    pc.command(READ)
    assert pc.wait() == READY | DRQ and pc.inb(ERROR) == 0


@pytest.mark.parametrize("code", [0x00, 0x08, 0xA0, 0xA1, 0xC8, 0xCA, 0x25, 0x35, 0xB0, 0xFF])
def test_commands_that_it_does_not_have(code: int) -> None:
    pc = Pc()
    pc.outb(DEVICE, 0xA0)
    pc.aborted(code)


def test_settings() -> None:
    pc = Pc()
    for feature, count, known in ((2, 0, 1), (0x82, 0, 1), (0xAA, 0, 1), (3, 0x0C, 1), (3, 0x45, 0), (9, 0, 0)):
        pc.outb(ERROR, feature)
        pc.outb(COUNT, count)
        (pc.ok if known else pc.aborted)(0xEF)
    for count, known in ((0, 1), (3, 0), (32, 0), (16, 1), (1, 1)):
        pc.outb(COUNT, count)
        (pc.ok if known else pc.aborted)(SET_MULTIPLE)
    pc.outb(COUNT, 0)
    pc.ok(SET_MULTIPLE)
    pc.address(0, 1)
    pc.aborted(READ_MULTIPLE)
    for code in (0xE0, 0xE1, 0xE2, 0xE3, 0xE6, 0x10, 0x70):
        pc.ok(code)
    pc.ok(0xE5)
    assert pc.inb(COUNT) == 0xFF, "active"
    pc.outb(DEVICE, 0xE0)
    pc.ok(0xF8)
    assert pc.inb(LOW) | pc.inb(MID) << 8 == 4095


@pytest.mark.parametrize("code", [FLUSH, FLUSH_EXT])
def test_a_flush_is_over_when_the_host_is_done(code: int) -> None:
    pc = Pc()
    pc.command(code)
    assert pc.status() == BSY
    assert pc.wait() == READY and pc.taken() == [IRQ] and pc.image.log == [("flush", 0, 0)]


def test_errors_of_the_host_end_the_command() -> None:
    pc = Pc()
    pc.image.fails = True
    pc.aborted(FLUSH)
    pc.address(0, 2)
    pc.aborted(READ)
    pc.address(0, 1)
    pc.command(WRITE)
    pc.put(bytes(SECTOR_SIZE))
    assert pc.wait() == READY | ERR and pc.taken() == [IRQ]
    pc.image.fails = False
    pc.later.no_threads = True
    pc.address(0, 1)
    pc.aborted(READ)
    pc.later.no_threads = False
    pc.address(3, 1)
    pc.command(READ)
    assert pc.wait() == READY | DRQ and pc.words(256) == pattern(3)


def test_interrupts_are_held_back_and_ended_by_the_status_register_alone() -> None:
    pc = Pc()
    pc.outb(CONTROL, NIEN)
    pc.address(0, 1)
    pc.command(READ)
    pc.timeline.run(LATENCY)
    assert pc.status() == READY | DRQ and pc.taken() == []
    pc.outb(CONTROL, 0)
    assert pc.platform.pic.pending(), "it was not forgotten"
    assert pc.status() and pc.platform.pic.second.lines & 0x40
    pc.inb(STATUS)
    assert not pc.platform.pic.second.lines & 0x40


def test_a_reset_forgets_what_was_under_way() -> None:
    pc = Pc()
    pc.address(0, 1)
    pc.command(READ)
    pc.outb(CONTROL, SRST)
    assert pc.status() == BSY
    pc.timeline.run(2 * LATENCY)
    assert pc.status() == BSY, "as long as it is held"
    pc.outb(CONTROL, 0)
    assert [pc.inb(port) for port in (STATUS, ERROR, COUNT, LOW, MID, HIGH)] == [READY, 1, 1, 1, 0, 0]
    assert pc.taken() == []


def test_a_diagnosis_is_of_both_disks() -> None:
    pc = Pc(1)
    pc.outb(DEVICE, 0xB0)
    pc.command(0x90)
    assert pc.taken() == [IRQ]
    pc.outb(DEVICE, 0xB0)
    assert (pc.inb(ERROR), pc.inb(STATUS)) == (1, READY)


def test_a_guest_that_resets_all_the_time_piles_up_no_work() -> None:
    pc = Pc()
    for _ in range(100):
        pc.address(0, 1)
        pc.command(READ)
        pc.outb(CONTROL, SRST)
        pc.outb(CONTROL, 0)
    assert pc.later.most == 1
    pc.address(9, 1)
    pc.command(READ)
    pc.timeline.run(3 * LATENCY)
    assert pc.words(256) == pattern(9), "the answer is that of the last command"


def test_a_busy_disk_takes_no_registers() -> None:
    pc = Pc()
    pc.address(5, 1)
    pc.command(READ)
    pc.address(9, 9)
    pc.outb(DEVICE, 0xB0)
    pc.command(IDENTIFY)
    assert pc.wait() == READY | DRQ and pc.words(256) == pattern(5)


def test_reads_and_writes_in_a_row_are_as_many_single_ones() -> None:
    one, other = Pc(), Pc()
    for pc in (one, other):
        pc.address(0, 4)
        pc.command(READ)
        pc.timeline.run(LATENCY)
    assert one.words(700) == other.platform.bus.read_string(DATA, 2, 700)
    assert one.platform.bus.read_string(DATA, 2, 600) == other.words(600), "zeros at the end"
    assert one.platform.bus.read_string(DATA, 1, 3) == b"\xff" * 3
    assert one.platform.bus.read_string(STATUS, 1, 2) == bytes((READY, READY))
    for pc in (one, other):
        pc.address(0, 2)
        pc.command(WRITE)
    data = pattern(77, 3)
    one.put(data)
    other.platform.bus.write_string(DATA, 2, data)
    for pc in (one, other):
        assert pc.wait() == READY and pc.image.data[:1024] == data[:1024]


def test_any_registers() -> None:
    """No sequence of accesses raises, writes beyond the disk, or keeps more than one piece of work."""
    dice = random.Random(1912)
    for position in (0, 1):
        pc = Pc(position, sectors=600)
        commands = [READ, READ_EXT, WRITE, WRITE_EXT, READ_MULTIPLE, WRITE_MULTIPLE, FLUSH, IDENTIFY, SET_MULTIPLE]
        for _ in range(2_000):
            port = dice.choice((*range(0x1F0, 0x1F8), 0x3F6))
            match dice.randrange(8):
                case 0:
                    pc.outb(STATUS, dice.choice(commands) if dice.random() < 0.9 else dice.getrandbits(8))
                case 1:
                    pc.timeline.run(LATENCY)
                case 2:
                    pc.platform.bus.read_string(port, dice.choice((1, 2, 4)), dice.randrange(1, 600))
                case 3:
                    pc.platform.bus.write_string(port, 2, dice.randbytes(2 * dice.randrange(1, 600)))
                case 4:
                    pc.platform.bus.read(port, dice.choice((1, 2, 4)))
                case 5 if dice.random() < 0.05:
                    pc.outb(CONTROL, dice.getrandbits(8))
                case 6:
                    pc.image.fails = dice.random() < 0.05
                case _:
                    pc.outb(dice.randrange(0x1F1, 0x1F7), dice.choice((0, 1, 2, 0xE0, dice.getrandbits(8))))
        assert pc.later.most == 1 and len(pc.timeline.live()) <= 1
        pc.image.fails = False
        pc.outb(CONTROL, SRST)
        pc.timeline.run(3 * LATENCY)
        pc.outb(CONTROL, 0)
        pc.outb(DEVICE, 0xA0 | position << 4)
        pc.command(IDENTIFY)
        assert pc.inb(STATUS) == READY | DRQ
