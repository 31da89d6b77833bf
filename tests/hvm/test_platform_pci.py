# SPDX-License-Identifier: GPL-2.0-or-later
"""The PCI bus as a kernel looks through it: what is there, base addresses, and interrupt lines."""

from __future__ import annotations

import random
from collections.abc import Callable

from pvhv.hvm.platform.pci import PciFunction
from tests.hvm.platform_lab import Machine

ADDRESS, DATA = 0xCF8, 0xCFC
ELCR = 0x4D1


class Ports:
    """A device with `size` ports that remembers."""

    def __init__(self, answer: int) -> None:
        self.answer = answer
        self.written: list[tuple[int, int]] = []

    def read(self, port: int) -> int:
        return self.answer

    def write(self, port: int, value: int) -> None:
        self.written.append((port, value))


class Bus(Machine):
    """A machine, with configuration space as a driver uses it."""

    def __init__(self) -> None:
        super().__init__(levels=True)
        self.init_pics(mask=0)

    def select(self, slot: int, number: int, register: int) -> None:
        self.platform.bus.write(ADDRESS, 4, 1 << 31 | slot << 11 | number << 8 | register & 0xFC)

    def get(self, slot: int, register: int, size: int = 4, number: int = 0) -> int:
        self.select(slot, number, register)
        return self.platform.bus.read(DATA + (register & 3), size)

    def put(self, slot: int, register: int, value: int, size: int = 4, number: int = 0) -> None:
        self.select(slot, number, register)
        self.platform.bus.write(DATA + (register & 3), size, value)

    def asking(self) -> list[int]:
        """The inputs that ask for service, of both PICs, without the cascade."""
        self.outb(0x20, 0x0A)
        self.outb(0xA0, 0x0A)
        asked = (self.inb(0x20) & ~4) | self.inb(0xA0) << 8
        return [irq for irq in range(16) if asked >> irq & 1]

    def plug(self, slot: int, answer: int = 0x5A, size: int = 16, pin: int = 1) -> tuple[PciFunction, Ports]:
        device = Ports(answer)
        function = PciFunction(0x1AF4, 0x1005, 0x00_FF00, pin=pin, bars={0: (size, device)})
        self.platform.pci.add(slot, function)
        return function, device


def test_what_is_there() -> None:
    bus = Bus()
    found = {}
    for slot in range(32):
        for number in range(8):
            identity = bus.get(slot, 0, number=number)
            if identity != 0xFFFF_FFFF:
                found[slot, number] = identity
    assert found == {(0, 0): 0x1237_8086, (1, 0): 0x7000_8086, (1, 1): 0x7010_8086}
    assert bus.get(0, 9, 1) == 0 and bus.get(0, 10, 2) == 0x0600, "a host bridge"
    assert bus.get(1, 14, 1) == 0x80, "several functions"
    assert bus.get(1, 8, number=1) >> 8 == 0x01_0100, "IDE, in compatibility mode, no bus master"


def test_the_address_is_a_doubleword_and_its_second_byte_resets() -> None:
    bus = Bus()
    bus.select(0, 0, 0)
    assert bus.platform.bus.read(ADDRESS, 4) == 1 << 31
    bus.platform.bus.write(ADDRESS, 2, 0x1234)
    bus.outb(ADDRESS + 3, 0)
    assert bus.platform.bus.read(ADDRESS, 4) == 1 << 31, "only whole"
    assert bus.platform.bus.read(DATA, 2) == 0x8086 and bus.inb(DATA + 3) == 0x12
    bus.platform.bus.write(ADDRESS, 4, 0)
    assert bus.platform.bus.read(DATA, 4) == 0xFFFF_FFFF, "not enabled"
    bus.platform.bus.write(ADDRESS, 4, 1 << 31 | 1 << 16)
    assert bus.platform.bus.read(DATA, 4) == 0xFFFF_FFFF, "another bus"
    assert bus.endings == []
    bus.outb(0xCF9, 0x06)
    assert bus.endings == [("reboot", 0)]


def test_registers_that_cannot_be_changed_do_not_change() -> None:
    bus = Bus()
    bus.plug(3)
    before = {register: bus.get(3, register) for register in range(0, 256, 4)}
    for register in (*range(0, 4, 4), *range(8, 0x0C, 4), *range(0x14, 0x3C, 4), *range(0x40, 256, 4)):
        bus.put(3, register, 0xFFFF_FFFF)
    assert before == {register: bus.get(3, register) for register in range(0, 256, 4)}


def test_a_base_address_is_sized_moved_and_decoded() -> None:
    bus = Bus()
    _, device = bus.plug(3, size=64)
    base = bus.get(3, 0x10) & ~3
    assert bus.get(3, 0x10) & 3 == 1, "I/O space"
    assert bus.inb(base) == bus.inb(base + 63) == 0x5A and bus.inb(base + 64) == 0xFF
    bus.put(3, 0x10, 0xFFFF_FFFF)
    assert bus.get(3, 0x10) == 0xFFFF_FFC1, "64 ports"
    assert bus.inb(base) == 0xFF, "at 0xffffffc0 nothing is decoded"
    bus.put(3, 0x10, 0xD001)
    bus.outb(0xD001, 7)
    assert device.written == [(0xD001, 7)]
    bus.put(3, 4, bus.get(3, 4, 2) & ~1, 2)
    assert bus.inb(0xD000) == 0xFF, "I/O space is off"
    bus.put(3, 4, 1, 1)
    assert bus.inb(0xD000) == 0x5A


def test_a_base_address_on_other_ports_takes_nothing_away() -> None:
    bus = Bus()
    bus.plug(3, answer=0x33)
    bus.plug(4, answer=0x44)
    bus.put(3, 0x10, 0x3F8)
    assert bus.inb(0x3FD) == 0x60 and bus.inb(0x3F0) == 0x33, "the serial port stays"
    bus.put(3, 0x10, 0xD000)
    bus.put(4, 0x10, 0xD000)
    assert bus.inb(0xD000) == 0x33, "the first slot answers"
    bus.put(3, 0x10, 0xE000)
    assert (bus.inb(0xD000), bus.inb(0xE000)) == (0x44, 0x33)
    bus.put(4, 0x10, 0xFFF1)
    assert bus.inb(0xFFFF) == 0x44 and bus.inb(0xFFF0) == 0x44


def test_an_interrupt_reaches_the_input_that_the_line_register_names() -> None:
    bus = Bus()
    functions = {slot: bus.plug(slot)[0] for slot in (3, 4, 5, 6)}
    lines = {slot: bus.get(slot, 0x3C, 1) for slot in functions}
    assert set(lines.values()) == {10, 11} and bus.inb(ELCR) == 0x0C, "as levels"
    for slot, function in functions.items():
        function.set_interrupt(True)
        assert bus.get(slot, 6, 2) & 8
        for _ in range(2):
            assert bus.pic.acknowledge() == 0x30 + lines[slot], "it is a level: it asks as long as it lasts"
            if _:
                function.set_interrupt(False)
            bus.outb(0xA0, 0x20)
            bus.outb(0x20, 0x20)
        assert bus.asking() == [] and not bus.pic.pending()


def test_functions_share_a_line() -> None:
    bus = Bus()
    one, other = bus.plug(3)[0], bus.plug(7)[0]
    assert bus.get(3, 0x3C, 1) == bus.get(7, 0x3C, 1)
    one.set_interrupt(True)
    other.set_interrupt(True)
    one.set_interrupt(False)
    assert bus.asking() == [bus.get(3, 0x3C, 1)]
    other.set_interrupt(False)
    assert bus.asking() == []


def test_lines_are_led_elsewhere_and_held_back() -> None:
    bus = Bus()
    function, _ = bus.plug(3)  # slot 3 has PIRQC
    bus.outb(0x4D0, 0x20)
    function.set_interrupt(True)
    assert bus.asking() == [11]
    bus.put(1, 0x62, 5, 1)
    assert bus.asking() == [5]
    bus.put(1, 0x62, 0x80, 1)
    assert bus.asking() == [], "it leads nowhere"
    bus.put(1, 0x62, 0, 1)
    assert bus.asking() == [], "nor may it lead to the timer's input"
    bus.put(1, 0x62, 10, 1)
    assert bus.asking() == [10]
    bus.put(3, 4, 0x0401, 2)
    assert bus.asking() == [], "the function's own INTx disable"
    bus.put(3, 4, 0x0001, 2)
    assert bus.asking() == [10]


def test_no_configuration_cycle_does_more_than_it_may() -> None:
    """Any address, any value: no exception, and the devices that were there still answer."""
    dice = random.Random(12)
    bus = Bus()
    for slot in (3, 4, 5):
        bus.plug(slot)
    actions: list[Callable[[], object]] = [
        lambda: bus.platform.bus.write(ADDRESS, 4, 1 << 31 | dice.getrandbits(5) << 11 | dice.getrandbits(11)),
        lambda: bus.platform.bus.write(DATA + dice.randrange(4), dice.choice((1, 2, 4)), dice.getrandbits(32)),
        lambda: bus.platform.bus.read(DATA + dice.randrange(4), dice.choice((1, 2, 4))),
        lambda: dice.choice(list(bus.platform.pci.functions.values())).set_interrupt(dice.random() < 0.5),
    ]
    for _ in range(6_000):
        dice.choice(actions)()
    assert bus.get(0, 0) == 0x1237_8086 and bus.get(3, 0) == 0x1005_1AF4
    assert bus.inb(0x3FD) == 0x60 and bus.endings == []
    owners = [port for port, owner in bus.platform.bus._owner.items() if isinstance(owner, Ports)]
    assert len(owners) <= 3 * 16
