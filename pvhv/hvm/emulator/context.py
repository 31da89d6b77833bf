# SPDX-License-Identifier: GPL-2.0-or-later
"""What the files of the emulator share: the context of one instruction, the interface of the monitor, and the table of
functions by mnemonic.

A function is registered under its mnemonics with `handles`. It gets a `Context`, raises the guest's exception before it
changes anything, and returns True if it has set RIP itself.

Read beside it: emulate.py, which calls these functions; operands.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from pvhv.hvm.cpu.guestcpu import GuestCpu
from pvhv.hvm.emulator.decode import Instruction
from pvhv.hvm.emulator.operands import Operands


class Unknown(Exception):
    """The emulator does not know this instruction."""

    def __init__(self, instruction: Instruction) -> None:
        super().__init__(str(instruction))


class Monitor(Protocol):
    """What the emulator calls outside the CPU."""

    def port_read(self, port: int, size: int) -> int: ...

    def port_write(self, port: int, size: int, value: int) -> None: ...

    def port_read_string(self, port: int, size: int, count: int) -> bytes:
        """`count` reads of a port, one after the other, or the first of them."""

    def port_write_string(self, port: int, size: int, data: bytes) -> int:
        """A write for each element of `size` bytes, or for the first of them. Returns how many."""

    def timestamp(self) -> int: ...

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]: ...

    def halt(self) -> None:
        """HLT was executed; RIP is behind it."""

    def forget_page(self, va: int) -> None:
        """INVLPG of a linear address."""

    def software_interrupt(self, vector: int, length: int) -> None:
        """INT n of `length` bytes at RIP: through the guest's IDT. Raises GuestException."""


class Context(Operands):
    """One instruction being carried out."""

    def __init__(self, cpu: GuestCpu, instruction: Instruction, monitor: Monitor) -> None:
        super().__init__(cpu, instruction)
        self.instruction = instruction
        self.monitor = monitor
        self.shadow = False  # of interrupts, behind STI and loads of SS


Handler = Callable[[Context], "bool | None"]


HANDLERS: Final[dict[str, Handler]] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a function under these mnemonics."""

    def enter(function: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = function
        return function

    return enter
