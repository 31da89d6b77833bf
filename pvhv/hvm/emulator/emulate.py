# SPDX-License-Identifier: GPL-2.0-or-later
"""Emulating one instruction, on the registers as the guest sees them.

    Emulator(cpu, monitor).execute(instruction)

carries out an instruction that was decoded at RIP, or raises its exception with nothing changed. There are two kinds,
in files of their own: what is privileged or sensitive (system.py, flow.py, io.py), and what reads and writes memory,
for pages the guest cannot be given directly (memory.py, vector.py).

`Monitor` is everything outside the CPU: ports, time, sleep, and events that the monitor wants to be told of.

Invariant: after `execute`, RIP, the interrupt shadow and RF are what the processor would have left.

Read beside it: context.py; AMD's manual volume 3; in Xen, xen/arch/x86/x86_emulate/x86_emulate.c.

Not modelled: instructions in none of the tables (`Unknown`); a repeated string instruction takes no interrupt but at
the end of a page, where it stops to be tried again.
"""

from __future__ import annotations

from pvhv.hvm.cpu.guestcpu import GuestCpu
from pvhv.hvm.emulator import flow, io, memory, system, vector
from pvhv.hvm.emulator.context import HANDLERS, Context, Monitor, Unknown
from pvhv.hvm.emulator.decode import Instruction
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import HFLAGS, RF

__all__ = ["ROOMS", "Emulator", "Monitor", "Unknown"]

ROOMS = (flow, io, memory, system, vector)  # each has entered its functions


class Emulator:
    """The emulator of one CPU."""

    def __init__(self, cpu: GuestCpu, monitor: Monitor) -> None:
        self.cpu = cpu
        self.monitor = monitor

    def execute(self, instruction: Instruction) -> None:
        """Carry out an instruction. Raises GuestException, or Unknown."""
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
