# SPDX-License-Identifier: GPL-2.0-or-later
"""The PCI bus: configuration space by mechanism #1, base addresses in I/O space, and interrupt lines.

A guest writes the number of a function and of a register to 0xcf8 as a doubleword, and then reads or writes the
register at 0xcfc to 0xcff. There is one bus, as on QEMU's "pc": slot 0 is the host bridge (i440FX), slot 1 has two
functions of the south bridge (PIIX3: the ISA bridge, and the IDE disks), and devices follow from slot 3 on.

A function's four interrupt pins lead to four lines, PIRQA to PIRQD, rotated by its slot; registers of the ISA bridge
say to which input of the PIC each of them leads. Everything is as firmware leaves it, because a kernel that is booted
by its PVH note finds no firmware: base addresses are set and decoded, PIRQs lead to inputs 10 and 11, which are
level-triggered, and the register `interrupt line` of each function says which it has.

Functions that are not there read as all ones. The byte at 0xcf9, amid the address, is the reset control register.

Not modelled: base addresses in memory space, bridges to further buses, expansion ROMs, message-signalled interrupts,
power management, the memory controller's registers of the host bridge.

Read beside it: PCI Local Bus Specification 3.0, 3.2.2.3.2 and 6.1; PIIX3 data sheet (290550), 2.2; QEMU's
hw/pci-host/i440fx.c and hw/isa/piix.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from pvhv.hvm.platform.bus import Device, IOBus
from pvhv.hvm.platform.power import ResetControl

SPACE: Final = 256  # bytes of a function's configuration space
VENDOR, COMMAND, STATUS, REVISION, CLASS, HEADER_TYPE, BAR_0, SUBSYSTEM, INTERRUPT_LINE, INTERRUPT_PIN = (
    0x00, 0x04, 0x06, 0x08, 0x09, 0x0E, 0x10, 0x2C, 0x3C, 0x3D,
)  # fmt: skip
COMMAND_IO, COMMAND_MEMORY, COMMAND_MASTER, COMMAND_NO_INTX = 1, 2, 4, 1 << 10
STATUS_INTERRUPT = 1 << 3
MULTIFUNCTION = 0x80
BAR_IS_IO = 1
ENABLE = 1 << 31  # of an address at 0xcf8
INTEL: Final = 0x8086
HOST_BRIDGE, ISA_BRIDGE, IDE_CONTROLLER = 0x06_0000, 0x06_0100, 0x01_0100  # class, subclass, programming interface
FIRST_FREE_SLOT, SLOTS = 3, 32
FIRST_IO = 0xC000  # where firmware puts base addresses
PIRQ_ROUTES = 0x60  # of the ISA bridge: PIRQA to PIRQD
PIRQ_OFF = 0x80
AS_FIRMWARE_ROUTES = (10, 10, 11, 11)
MAY_LEAD_TO: Final = frozenset({3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15})


class PciFunction:
    """One function's configuration space. `bars`: by number, how many ports there are and which device answers."""

    def __init__(
        self,
        vendor: int,
        device: int,
        class_code: int,
        *,
        revision: int = 0,
        subsystem: tuple[int, int] = (0, 0),
        pin: int = 0,
        bars: dict[int, tuple[int, Device]] | None = None,
    ) -> None:
        """`pin` is 1 for INTA#, 0 for none."""
        self.bytes = bytearray(SPACE)
        self.writable = bytearray(SPACE)  # which bits a guest may change
        self.bars = bars or {}
        self.changed: Callable[[], None] = lambda: None  # a base address or the command changed
        self.interrupt: Callable[[bool], None] = lambda level: None
        self.asserted = False
        put = self.put
        put(VENDOR, struct.pack("<HH", vendor, device))
        put(REVISION, bytes((revision, *class_code.to_bytes(3, "little"))))
        put(SUBSYSTEM, struct.pack("<HH", *subsystem))
        put(COMMAND, b"\0\0", mask=struct.pack("<H", COMMAND_MASTER | COMMAND_NO_INTX | (COMMAND_IO if bars else 0)))
        put(0x0C, b"\0\0", mask=b"\xff\xff")  # cache line size and latency timer
        if pin:
            put(INTERRUPT_LINE, bytes((0xFF, pin)), mask=b"\xff")
        for number, (size, _) in self.bars.items():
            flags = struct.pack("<I", BAR_IS_IO)
            put(BAR_0 + 4 * number, flags, mask=struct.pack("<I", -size & 0xFFFF_FFFC))

    def put(self, at: int, value: bytes, mask: bytes = b"") -> None:
        """Set bytes, and which of their bits a guest may change."""
        self.bytes[at : at + len(value)] = value
        self.writable[at : at + len(mask)] = mask

    @property
    def command(self) -> int:
        return int.from_bytes(self.bytes[COMMAND : COMMAND + 2], "little")

    @property
    def may_access_memory(self) -> bool:
        """Whether the guest lets it be a bus master."""
        return bool(self.command & COMMAND_MASTER)

    def base(self, number: int) -> int:
        """The base address that the guest set."""
        at = BAR_0 + 4 * number
        return int.from_bytes(self.bytes[at : at + 4], "little") & ~3

    def read(self, register: int, size: int) -> int:
        """`size` bytes at a register."""
        return int.from_bytes(self.bytes[register : register + size], "little")

    def write(self, register: int, size: int, value: int) -> None:
        """Change those bits of `size` bytes that can be changed."""
        before = bytes(self.bytes[register : register + size])
        for at, byte in enumerate(value.to_bytes(size, "little"), register):
            mask = self.writable[at]
            self.bytes[at] = self.bytes[at] & ~mask | byte & mask
        if before != self.bytes[register : register + size]:
            if register < COMMAND + 2 or BAR_0 <= register < BAR_0 + 24:
                self.changed()
                self.set_interrupt(self.asserted)
            self.wrote(register, size)

    def wrote(self, register: int, size: int) -> None:
        """A guest changed some bytes; a function with registers of its own looks."""

    def set_interrupt(self, asserted: bool) -> None:
        """Assert the interrupt pin, or not."""
        self.asserted = asserted
        self.bytes[STATUS] = self.bytes[STATUS] & ~STATUS_INTERRUPT | (STATUS_INTERRUPT if asserted else 0)
        self.interrupt(asserted and not self.command & COMMAND_NO_INTX)


class IsaBridge(PciFunction):
    """PIIX3's bridge to the old devices, which leads the lines PIRQA to PIRQD to inputs of the PIC."""

    def __init__(self, lines: Callable[[int], Callable[[bool], None]]) -> None:
        super().__init__(INTEL, 0x7000, ISA_BRIDGE)
        self.lines = {irq: lines(irq) for irq in MAY_LEAD_TO}
        self.bytes[HEADER_TYPE] = MULTIFUNCTION
        self.put(PIRQ_ROUTES, bytes(AS_FIRMWARE_ROUTES), mask=b"\x8f" * 4)
        self._high: set[int] = set()
        self.asserting: list[set[tuple[int, int]]] = [set() for _ in range(4)]  # (slot, function), of each PIRQ

    def route(self, pirq: int) -> int | None:
        """The input of the PIC that a PIRQ leads to."""
        route = self.bytes[PIRQ_ROUTES + pirq]
        return None if route & PIRQ_OFF or route not in MAY_LEAD_TO else route

    def drive(self, pirq: int, who: tuple[int, int], asserted: bool) -> None:
        """A function asserts a line, or does no longer. Several may share one."""
        asserting = self.asserting[pirq]
        before = bool(asserting)
        (asserting.add if asserted else asserting.discard)(who)
        if before != bool(asserting):
            self._show()

    def wrote(self, register: int, size: int) -> None:
        if register + size > PIRQ_ROUTES and register < PIRQ_ROUTES + 4:
            self._show()

    def _show(self) -> None:
        """Set the inputs of the PIC that asserted PIRQs lead to."""
        routes = (self.route(pirq) for pirq in range(4) if self.asserting[pirq])
        high = {irq for irq in routes if irq is not None}
        before, self._high = self._high, high
        for irq in sorted(before - high):
            self.lines[irq](False)
        for irq in sorted(high - before):
            self.lines[irq](True)


class PciBus:
    """The functions, and the ports of configuration mechanism #1."""

    PORTS = range(0xCF8, 0xD00)
    ADDRESS, DATA = 0xCF8, 0xCFC

    def __init__(
        self, bus: IOBus, reset_control: ResetControl, lines: Callable[[int], Callable[[bool], None]]
    ) -> None:
        """`lines(irq)` gives an input of the PIC, to be called with its level."""
        self.bus = bus
        self.reset_control = reset_control
        self.address = 0
        self.functions: dict[tuple[int, int], PciFunction] = {}
        self.isa = IsaBridge(lines)
        self._next_io = FIRST_IO
        self.add(0, PciFunction(INTEL, 0x1237, HOST_BRIDGE, revision=2))
        self.add(1, self.isa)

    def add(self, slot: int, function: PciFunction, number: int = 0) -> None:
        """Put a function into a slot, and set its registers as firmware would. Raises ValueError for a slot in use."""
        where = slot, number
        if where in self.functions or slot >= SLOTS:
            raise ValueError(f"PCI slot {slot} is not free for a function {number}")
        self.functions[where] = function
        function.changed = self._decode
        if pin := function.bytes[INTERRUPT_PIN]:
            pirq = (slot - 1 + pin - 1) & 3
            function.interrupt = lambda asserted: self.isa.drive(pirq, where, asserted)
            function.bytes[INTERRUPT_LINE] = AS_FIRMWARE_ROUTES[pirq]
        for bar, (size, _) in function.bars.items():
            self._next_io = -(-self._next_io // size) * size
            function.bytes[BAR_0 + 4 * bar : BAR_0 + 4 * bar + 4] = struct.pack("<I", self._next_io | BAR_IS_IO)
            self._next_io += size
            function.bytes[COMMAND] |= COMMAND_IO
        self._decode()

    def free_slot(self) -> int:
        """The next slot for a device. Raises ValueError if there is none."""
        taken = {slot for slot, _ in self.functions}
        for slot in range(FIRST_FREE_SLOT, SLOTS):
            if slot not in taken:
                return slot
        raise ValueError("all PCI slots are taken")

    def _decode(self) -> None:
        """A base address or a command changed: let the functions answer where they do now, the first slot first."""
        present: Iterable[PciFunction] = [self.functions[where] for where in sorted(self.functions)]
        for function in present:
            for _, device in function.bars.values():
                self.bus.release(device)
        for function in present:
            if function.command & COMMAND_IO:
                for number, (size, device) in function.bars.items():
                    base = function.base(number)
                    if 0 < base <= 0x1_0000 - size:
                        self.bus.claim(range(base, base + size), device)

    # -- ports -------------------------------------------------------------------------------------------------------
    def read(self, port: int) -> int:
        """A byte: of the register that the address names, or the reset control register."""
        if port >= self.DATA:
            return self.read_wide(port, 1)
        return self.reset_control.read(port)

    def write(self, port: int, value: int) -> None:
        """A byte, likewise."""
        if port >= self.DATA:
            self.write_wide(port, 1, value)
        else:
            self.reset_control.write(port, value)

    def read_wide(self, port: int, size: int) -> int:
        """The address, or bytes of a register."""
        if port >= self.DATA:
            found = self._addressed()
            return 0xFFFF_FFFF if found is None else found.read(self.address & 0xFC | port & 3, size)
        return self.address if (port, size) == (self.ADDRESS, 4) else 0xFFFF_FFFF

    def write_wide(self, port: int, size: int, value: int) -> None:
        """Set the address, all of it at once; or write bytes of the register that it names."""
        if port >= self.DATA:
            found = self._addressed()
            if found is not None:
                found.write(self.address & 0xFC | port & 3, size, value)
        elif (port, size) == (self.ADDRESS, 4):
            self.address = value & (ENABLE | 0xFF_FFFC)

    def _addressed(self) -> PciFunction | None:
        """The function that the address names."""
        address = self.address
        if not address & ENABLE or address >> 16 & 0xFF:
            return None
        return self.functions.get((address >> 11 & 31, address >> 8 & 7))
