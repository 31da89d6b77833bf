# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual PC: its devices, made and wired to each other and to the I/O ports.

It is the part of QEMU's "pc" machine that a kernel booted by its PVH note uses: two 8259As, an 8254, one 16550A, the
clock with CMOS RAM, and the ways to end. The CPU side has two tasks. It passes IN and OUT to `bus`. It takes an
interrupt when `pic.pending()` is true and its flags allow (`on_interrupt` is called when that may have changed), with
the vector that `pic.acknowledge()` returns. `close` ends a machine and cancels its timers. A reset is a new `Platform`.

Not modelled: local APIC, I/O APIC and HPET (ACPI tables must not promise them), PCI, DMA, disks, keyboard, display.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.hvm.platform.bus import Device, IOBus
from pvhv.hvm.platform.pic import Pic
from pvhv.hvm.platform.pit import Pit
from pvhv.hvm.platform.power import AcpiControl, DebugExit, KeyboardController, OnPower, Port92, ResetControl
from pvhv.hvm.platform.rtc import Rtc
from pvhv.hvm.platform.timebase import Timebase
from pvhv.hvm.platform.uart import Uart

TIMER_IRQ, UART_IRQ, RTC_IRQ = 0, 4, 8


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
        claims: list[tuple[Device, tuple[range, ...]]] = [
            (self.pic, Pic.PORTS),
            (self.pit, Pit.PORTS),
            (self.uart, (Uart.PORTS,)),
            (self.rtc, (Rtc.PORTS,)),
            (self.acpi, (AcpiControl.PORTS,)),
            (self.reset_control, (ResetControl.PORTS,)),
            (self.keyboard, KeyboardController.PORTS),
            (self.port92, (Port92.PORTS,)),
            (self.debug_exit, (DebugExit.PORTS,)),
        ]
        for device, ranges in claims:
            for ports in ranges:
                self.bus.add(ports, device)

    def close(self) -> None:
        """The machine is gone: cancel all timers."""
        self.pit.close()
        self.uart.close()
        self.rtc.close()
