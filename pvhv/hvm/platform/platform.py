# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual PC: its devices, made and wired to each other and to the I/O ports.

It is the part of QEMU's "pc" machine that a kernel booted by its PVH note uses: two 8259As, an 8254, one 16550A, the
clock with CMOS RAM, the PCI bus with the bridges that QEMU has on it, two IDE channels, and the ways to end. Disks are
plugged in before the guest runs: `plug_ide` to an IDE channel, `plug_virtio` as a device of its own on the PCI bus. The
CPU side has two tasks. It passes IN and OUT to `bus`. It takes an
interrupt when `pic.pending()` is true and its flags allow (`on_interrupt` is called when that may have changed), with
the vector that `pic.acknowledge()` returns. `close` ends a machine and cancels its timers. A reset is a new `Platform`.

Not modelled: local APIC, I/O APIC and HPET (ACPI tables must not promise them), the ISA bus's DMA, keyboard,
display. Nothing can be plugged in while the guest runs.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.hvm.platform.asked import Requests
from pvhv.hvm.platform.bus import Device, IOBus
from pvhv.hvm.platform.ide import PRIMARY, SECONDARY, Channel, IdeFunction
from pvhv.hvm.platform.pci import AS_FIRMWARE_ROUTES, PciBus
from pvhv.hvm.platform.pic import Pic
from pvhv.hvm.platform.pit import Pit
from pvhv.hvm.platform.power import AcpiControl, DebugExit, KeyboardController, OnPower, Port92, ResetControl
from pvhv.hvm.platform.rtc import Rtc
from pvhv.hvm.platform.storage import Backing, Memory
from pvhv.hvm.platform.timebase import Timebase
from pvhv.hvm.platform.uart import Uart
from pvhv.hvm.platform.virtio_blk import VirtioBlk

TIMER_IRQ, UART_IRQ, RTC_IRQ = 0, 4, 8
ELCR = 0x4D1  # of the second PIC: which of its inputs are levels
SLOT_OF_SOUTH_BRIDGE = 1


class Platform:
    """One machine's devices."""

    def __init__(
        self,
        timeline: Timebase,
        memory_bytes: int,
        transmit: Callable[[bytes], None],
        on_interrupt: Callable[[], None],
        on_power: OnPower,
    ) -> None:
        self.pic = Pic(on_interrupt)
        self.pit = Pit(timeline, self.pic.line(TIMER_IRQ))
        self.uart = Uart(timeline, self.pic.line(UART_IRQ), transmit)
        self.rtc = Rtc(timeline, self.pic.line(RTC_IRQ), memory_bytes)
        self.acpi = AcpiControl(on_power)
        self.reset_control = ResetControl(on_power)
        self.keyboard = KeyboardController(on_power)
        self.port92 = Port92(on_power)
        self.debug_exit = DebugExit(on_power)
        self.bus = IOBus()
        self.pci = PciBus(self.bus, self.reset_control, self.pic.line)
        self.pci.add(SLOT_OF_SOUTH_BRIDGE, IdeFunction(), 1)
        self.ide = [Channel(base, control, self.pic.line(irq)) for base, control, irq in (PRIMARY, SECONDARY)]
        self.virtio: list[VirtioBlk] = []
        claims: list[tuple[Device, tuple[range, ...]]] = [
            (self.pic, Pic.PORTS),
            (self.pit, Pit.PORTS),
            (self.uart, (Uart.PORTS,)),
            (self.rtc, (Rtc.PORTS,)),
            (self.acpi, (AcpiControl.PORTS,)),
            (self.pci, (PciBus.PORTS,)),
            (self.keyboard, KeyboardController.PORTS),
            (self.port92, (Port92.PORTS,)),
            (self.debug_exit, (DebugExit.PORTS,)),
            *((channel, channel.ports) for channel in self.ide),
        ]
        for device, ranges in claims:
            for ports in ranges:
                self.bus.add(ports, device)
        self.pic.write(ELCR, sum(1 << irq - 8 for irq in {*AS_FIRMWARE_ROUTES}))  # PCI's interrupts are levels

    def plug_ide(self, position: int, backing: Backing) -> Requests:
        """Connect an IDE disk: 0 is the master of the first channel (hda), 3 the slave of the second (hdd). Returns
        what it will be asked. Raises ValueError if there is one."""
        return self.ide[position // 2].plug(position % 2, backing, position)

    def plug_virtio(self, number: int, backing: Backing, memory: Memory) -> Requests:
        """Put a virtio disk into the next PCI slot. `number`: 0 is vda. Returns what it will be asked. Raises
        ValueError if all slots are taken."""
        disk = VirtioBlk(memory, backing, number)
        self.pci.add(self.pci.free_slot(), disk.function)
        self.virtio.append(disk)
        return disk.requests

    def close(self) -> None:
        """The machine is gone: cancel all timers."""
        self.pit.close()
        self.uart.close()
        self.rtc.close()
        for channel in self.ide:
            channel.close()
        for disk in self.virtio:
            disk.reset()
