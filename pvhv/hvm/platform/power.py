# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in which a guest ends: power off, reset, and the debug exit.

- ACPI PM1a control (0x604): SLP_EN with SLP_TYP 0 or 2 (QEMU's S5 and S4) switches the machine off.
- The reset control register (0xcf9): a write with RST_CPU set resets. It is a byte amid the doubleword at which PCI
  configuration addresses are written (pci.py), and only byte accesses reach it.
- The keyboard controller (0x60, 0x64) without keyboard or mouse: ready for commands, never a byte to read. Pulsing
  or writing its output port so that the reset line falls resets.
- Port 0x92: bit 0 going to 1 resets; bit 1 (A20) is kept and does nothing.
- isa-debug-exit (0xf4): a write of `value` ends the run with `value << 1 | 1`.

The ports 0x80 and 0xed, which kernels write for a delay, have no device: reads give all ones, as on QEMU.

Not modelled: PM1a events, the PM timer and SCI; SMI commands (ACPI mode is simply there); suspend (S1 to S3: SLP_TYP
is kept, nothing happens); answers of the keyboard controller.

Read beside it: ACPI 4.8.3.2 (PM1 control); PIIX4 data sheet (reset control); QEMU's isa-debug-exit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Ending = Literal["poweroff", "reboot", "exit"]
OnPower = Callable[[Ending, int], None]

SLP_EN = 1 << 13
OFF_TYPES = (0, 2)


class AcpiControl:
    """The register PM1a_CNT."""

    PORTS = range(0x604, 0x606)

    def __init__(self, on_power: OnPower) -> None:
        self.on_power = on_power
        self.value = 0

    def read(self, port: int) -> int:
        return self.value >> 8 * (port - self.PORTS.start) & 0xFF

    def write(self, port: int, value: int) -> None:
        shift = 8 * (port - self.PORTS.start)
        self.write_wide(self.PORTS.start, 2, self.value & ~(0xFF << shift) | value << shift)

    def read_wide(self, port: int, size: int) -> int:
        return self.value

    def write_wide(self, port: int, size: int, value: int) -> None:
        self.value = value & ~SLP_EN  # which always reads as 0
        if value & SLP_EN and value >> 10 & 7 in OFF_TYPES:
            self.on_power("poweroff", 0)


class ResetControl:
    """The reset control register 0xcf9, among the ports of the PCI bus."""

    REGISTER = 0xCF9
    SYSTEM_RESET, RESET_CPU = 0x02, 0x04

    def __init__(self, on_power: OnPower) -> None:
        self.on_power = on_power
        self.value = 0

    def read(self, port: int) -> int:
        return self.value if port == self.REGISTER else 0xFF

    def write(self, port: int, value: int) -> None:
        if port != self.REGISTER:
            return
        self.value = value & self.SYSTEM_RESET
        if value & self.RESET_CPU:
            self.on_power("reboot", 0)


class KeyboardController:
    """An 8042 keyboard controller with no keyboard or mouse."""

    PORTS = (range(0x60, 0x61), range(0x64, 0x65))
    STATUS = 0x18  # not locked, last written was a command; no byte waits, none is being taken
    WRITE_OUTPUT_PORT = 0xD1
    NOT_RESET = 0x01  # of the output port: the CPU's reset line, active low

    def __init__(self, on_power: OnPower) -> None:
        self.on_power = on_power
        self._to_output_port = False

    def read(self, port: int) -> int:
        return self.STATUS if port == 0x64 else 0

    def write(self, port: int, value: int) -> None:
        if port == 0x64:
            self._to_output_port = value == self.WRITE_OUTPUT_PORT
            resets = value >= 0xF0 and not value & self.NOT_RESET  # 0xf0 to 0xff pulse the lines whose bit is 0
        else:
            resets = self._to_output_port and not value & self.NOT_RESET
            self._to_output_port = False
        if resets:
            self.on_power("reboot", 0)


class Port92:
    """The PS/2 system control port A."""

    PORTS = range(0x92, 0x93)

    def __init__(self, on_power: OnPower) -> None:
        self.on_power = on_power
        self.value = 0

    def read(self, port: int) -> int:
        return self.value

    def write(self, port: int, value: int) -> None:
        rises = value & ~self.value & 0x01
        self.value = value & 0x03
        if rises:
            self.on_power("reboot", 0)


class DebugExit:
    """isa-debug-exit with iosize=4."""

    PORTS = range(0xF4, 0xF8)

    def __init__(self, on_power: OnPower) -> None:
        self.on_power = on_power
        self.exit_code: int | None = None

    def read(self, port: int) -> int:
        return 0

    def write(self, port: int, value: int) -> None:
        self.write_wide(port, 1, value)

    def read_wide(self, port: int, size: int) -> int:
        return 0

    def write_wide(self, port: int, size: int, value: int) -> None:
        self.exit_code = value << 1 | 1
        self.on_power("exit", self.exit_code)
