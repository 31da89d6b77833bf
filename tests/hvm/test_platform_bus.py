# SPDX-License-Identifier: GPL-2.0-or-later
"""The I/O ports and the ways to end a machine."""

from __future__ import annotations

import pytest

from pvhv.hvm.platform.bus import IOBus
from tests.hvm.platform_lab import Machine


class Bytes:
    def __init__(self, base: int) -> None:
        self.base = base
        self.log: list[tuple[int, int]] = []

    def read(self, port: int) -> int:
        return self.base + (port & 15)

    def write(self, port: int, value: int) -> None:
        self.log.append((port, value))


class Wide(Bytes):
    def read_wide(self, port: int, size: int) -> int:
        return 0x1_1234_5678

    def write_wide(self, port: int, size: int, value: int) -> None:
        self.log.append((port, value))


def test_unclaimed_ports_float() -> None:
    bus = IOBus()
    assert [bus.read(0x80, size) for size in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFF_FFFF]
    assert bus.read(0xFFFF, 4) == 0xFFFF_FFFF
    bus.write(0x80, 4, 0)


def test_wide_accesses_to_byte_devices_are_split_low_port_first() -> None:
    bus, one, two = IOBus(), Bytes(0x10), Bytes(0x20)
    bus.add(range(0x100, 0x102), one)
    bus.add(range(0x102, 0x103), two)
    assert bus.read(0x100, 4) == 0xFF22_1110
    bus.write(0x101, 2, 0xBEEF)
    bus.write(0x100, 1, 0x1FF)
    assert one.log == [(0x101, 0xEF), (0x100, 0xFF)]
    assert two.log == [(0x102, 0xBE)]


def test_wide_devices_take_whole_what_is_all_theirs() -> None:
    bus, wide = IOBus(), Wide(0x10)
    bus.add(range(0x100, 0x104), wide)
    assert bus.read(0x100, 4) == 0x1234_5678
    assert bus.read(0x102, 2) == 0x5678
    assert bus.read(0x102, 4) == 0xFFFF_1312
    bus.write(0x100, 4, 0x1_2345_6789)
    bus.write(0x103, 2, 0xBEEF)
    assert wide.log == [(0x100, 0x2345_6789), (0x103, 0xEF)]


def test_a_port_has_one_owner() -> None:
    bus = IOBus()
    bus.add(range(0x100, 0x104), Bytes(0))
    with pytest.raises(ValueError, match="0x103"):
        bus.add(range(0x103, 0x105), Bytes(0))


@pytest.mark.parametrize(
    ("accesses", "ending"),
    [
        ([(0x604, 2, 0x2000)], ("poweroff", 0)),  # QEMU's S5: SLP_EN, SLP_TYP 0
        ([(0x604, 2, 0x2001)], ("poweroff", 0)),  # ... as Linux writes it, with SCI_EN
        ([(0x604, 1, 0x01), (0x605, 1, 0x20)], ("poweroff", 0)),
        ([(0x604, 2, 0x2800)], ("poweroff", 0)),  # S4
        ([(0xCF9, 1, 0x02), (0xCF9, 1, 0x06)], ("reboot", 0)),
        ([(0x64, 1, 0xFE)], ("reboot", 0)),
        ([(0x64, 1, 0xD1), (0x60, 1, 0xFE)], ("reboot", 0)),
        ([(0x92, 1, 0x01)], ("reboot", 0)),
        ([(0xF4, 4, 0x10)], ("exit", 0x21)),
        ([(0xF4, 1, 0x00)], ("exit", 0x01)),
        ([(0xF4, 4, 0x8000_0000)], ("exit", 0x1_0000_0001)),
    ],
)
def test_endings(accesses: list[tuple[int, int, int]], ending: tuple[str, int]) -> None:
    machine = Machine()
    for port, size, value in accesses[:-1]:
        machine.platform.bus.write(port, size, value)
    assert machine.endings == []
    port, size, value = accesses[-1]
    machine.platform.bus.write(port, size, value)
    assert machine.endings == [ending]
    assert machine.platform.debug_exit.exit_code == (ending[1] if ending[0] == "exit" else None)


@pytest.mark.parametrize(
    ("port", "size", "value"),
    [
        (0x604, 2, 0x0001),  # ACPI enabled
        (0x604, 2, 0x2400),  # S3
        (0xCF9, 1, 0x02),
        (0xCF8, 4, 0x8000_0400),  # a PCI configuration address, whose second byte is no reset
        (0x64, 1, 0xAE),
        (0x60, 1, 0xFE),
        (0x92, 1, 0x02),
        (0x80, 1, 0),
        (0xED, 1, 0),
    ],
)
def test_no_endings(port: int, size: int, value: int) -> None:
    machine = Machine()
    machine.platform.bus.write(port, size, value)
    assert machine.endings == []


def test_nothing_is_plugged_in() -> None:
    machine = Machine()
    assert machine.inb(0x64) & 0x03 == 0, "neither a byte to read nor a reason to wait"
    assert machine.platform.bus.read(0xCFC, 4) == 0xFFFF_FFFF, "no address was set"
    assert machine.platform.bus.read(0x1F0, 4) == 0 and machine.inb(0x1F7) == 0, "no disk"
    assert (machine.inb(0x80), machine.inb(0xED)) == (0xFF, 0xFF)
    machine.outb(0xCF9, 0x02)
    assert machine.inb(0xCF9) == 0x02


def test_a_closed_platform_leaves_no_timers() -> None:
    machine = Machine()
    assert machine.timeline.live() == [], "a machine that was not told to does not tick"
    machine.outb(0x43, 0x34)
    machine.outb(0x40, 0, 0)
    machine.outb(0x70, 0x0B)
    machine.outb(0x71, 0x52)
    machine.outb(0x3FA, 0xC1)
    machine.platform.uart.receive(b"x")
    machine.outb(0x3FA, 0xC3)
    assert len(machine.timeline.live()) >= 3
    machine.platform.close()
    assert machine.timeline.live() == []
