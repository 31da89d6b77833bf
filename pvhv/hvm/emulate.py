# SPDX-License-Identifier: GPL-2.0-or-later
"""Doing one instruction's work for a guest, on what the guest believes its CPU to be.

    Emulator(cpu, monitor).execute(instruction)

carries out an instruction that was decoded at RIP, or raises the exception it must raise, with nothing changed. There
are two kinds, in rooms of their own: what is privileged or sensitive (emulate_system.py, emulate_flow.py,
emulate_io.py), and what reads and writes memory, for pages the guest cannot be given directly (emulate_memory.py,
emulate_vector.py).

`Monitor` is what lies outside the CPU: ports, time, sleep, and what the monitor wants to know of.

Invariant: after `execute`, RIP, the interrupt shadow and RF are what the processor would have left.

Read beside it: emulate_context.py; AMD's manual volume 3; in Xen, xen/arch/x86/x86_emulate/x86_emulate.c.

Not modelled: instructions in none of the tables (`Unknown`); a repeated string instruction takes no interrupt but at
the end of a page, where it stops to be tried again.
"""

from __future__ import annotations

from pvhv.hvm import emulate_flow, emulate_io, emulate_memory, emulate_system, emulate_vector
from pvhv.hvm.decode import Instruction
from pvhv.hvm.emulate_context import HANDLERS, Context, Monitor, Unknown
from pvhv.hvm.guestcpu import GuestCpu
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import HFLAGS, RF

__all__ = ["ROOMS", "Emulator", "Monitor", "Unknown"]

ROOMS = (emulate_flow, emulate_io, emulate_memory, emulate_system, emulate_vector)  # each has entered its functions


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
