# SPDX-License-Identifier: GPL-2.0-or-later
"""Doing one instruction's work for a guest, on what the guest believes its CPU to be.

    Emulator(cpu, monitor).execute(instruction)

carries out an instruction that was decoded at RIP, or raises the exception it must raise, with nothing changed. There
are three kinds, each in a room of its own: what is privileged or sensitive (emulate_system.py, emulate_flow.py), and
what reads and writes memory (emulate_memory.py), for pages the guest cannot be given directly. Each room is a table of
functions by mnemonic; a function that goes elsewhere than behind the instruction sets RIP and returns True.

`Monitor` is what lies outside the CPU: ports, time, sleep, and what the monitor wants to know of.

Invariant: after `execute`, RIP, the interrupt shadow and RF are what the processor would have left.

Read beside it: AMD's manual volume 3; operands.py; in Xen, xen/arch/x86/x86_emulate/x86_emulate.c.

Not modelled: instructions in none of the tables (`Unknown`); a repeated string instruction goes on until it is done or
faults, and takes no interrupt in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from pvhv.hvm.decode import Instruction
from pvhv.hvm.guestcpu import GuestCpu
from pvhv.hvm.operands import Operands
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import HFLAGS, RF


class Unknown(Exception):
    """The emulator does not know this instruction."""

    def __init__(self, instruction: Instruction) -> None:
        super().__init__(str(instruction))


class Monitor(Protocol):
    """Who the emulator works for."""

    def port_read(self, port: int, size: int) -> int: ...

    def port_write(self, port: int, size: int, value: int) -> None: ...

    def timestamp(self) -> int: ...

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]: ...

    def halt(self) -> None:
        """HLT; RIP is behind it."""

    def forget_page(self, va: int) -> None:
        """INVLPG."""

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


class Emulator:
    """For one CPU."""

    def __init__(self, cpu: GuestCpu, monitor: Monitor) -> None:
        self.cpu = cpu
        self.monitor = monitor

    def execute(self, instruction: Instruction) -> None:
        """Raises GuestException, or Unknown."""
        handler = HANDLERS.get(instruction.name)
        if handler is None:
            raise Unknown(instruction)
        context = Context(self.cpu, instruction, self.monitor)
        behind = context.next_rip()
        state = self.cpu.state
        if not handler(context):
            state[cs.RIP] = behind
        state[cs.EFLAGS] &= ~RF
        if context.shadow:
            state[HFLAGS] |= cs.HF_INHIBIT_IRQ
        else:
            state[HFLAGS] &= ~cs.HF_INHIBIT_IRQ


HANDLERS: Final[dict[str, Handler]] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Enter a function into the table under these mnemonics."""

    def enter(function: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = function
        return function

    return enter


from pvhv.hvm import emulate_flow, emulate_memory, emulate_system  # noqa: E402, F401  (they enter themselves)
