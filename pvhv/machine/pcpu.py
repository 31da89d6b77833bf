# SPDX-License-Identifier: GPL-2.0-or-later
"""A physical CPU: runs guest code, and calls the hypervisor at every exit.

    hardware.py      an engine, RAM, the CPU state in sight       exits.py        handlers, and the hooks that call them
    translations.py  CR3, the TLB, translated code: to forget     breakpoints.py  to be called at an address
    registers.py     registers, segments, a vCPU's context        running.py      run, stop, deadlines; what goes wrong
    counters.py      instructions executed, and the TSC           this file       all of it, made and proven

Three more files belong to it: debug.py (breakpoints and steps for a debugger), guard.py (detects a guest that escaped)
and proof.py (checks before the first guest runs).

PV guests run under the engine's AMD-V with all exception intercepts on (svm.py), kernel and users at
CPL 3 (rings.py), so every exception is a #VMEXIT with RIP at the instruction, the error code in
`aux[ERROR_CODE]` and, for #PF, the address in `vmcb[FAULT_ADDRESS]` (CR2 is the hypervisor's).

Invariants: a run ends only between two guest instructions.  What a handler raises ends the run and comes out of `run`.
Whenever no guest code runs (in handlers, between runs, in what `save` returns), `state[EFLAGS]` is the complete RFLAGS.
(Between runs the engine ensures that; at exits pacer.c does.) CR0.WP is always 1. No page table or TLB entry that a
guest uses maps the private region (VMCB, identity map).

It does not know domains, vCPUs, hypercalls or Xen.  Read beside it: cpustate.py for the names,
pacer.c for exits and counting; in Xen,
xen/arch/x86/x86_64/entry.S is what the handlers' side of this does.

Not modelled: a fetch fault on the second page of a block that crosses pages is reported at the block's first
instruction; counts are not exact in 16-bit code, nor in 32-bit code where CS has a base. On the stock engine, too: INS
has already overwritten its destination when it is refused; icebp (F1) is #UD; breakpoints of debug registers never
fire; after a syscall with prefixes RIP is too far by their number; flush_page flushes everything.
"""

from __future__ import annotations

import threading
from typing import ClassVar, Final, Literal

from pvhv.machine import cpustate as cs
from pvhv.machine import proof, svm
from pvhv.machine.counters import Counters
from pvhv.machine.debug import Debug
from pvhv.machine.exits import FAULT_ADDRESS, Unhandled
from pvhv.machine.features import FEATURES, Features
from pvhv.machine.ram import Ram
from pvhv.machine.registers import CR0_PV, CR4_PV
from pvhv.machine.running import Running
from pvhv.machine.x86 import CR4_TSD

__all__ = ["CR0_PV", "CR4_PV", "FAULT_ADDRESS", "PCPU", "Unhandled"]


class PCPU(Running, Counters):
    """One engine on one Ram, for one clock: created, checked and closed here."""

    WRAPPABLE: ClassVar = frozenset({"on_syscall", "on_exception", "on_int", "on_cpuid", "on_io", "enter_engine"})

    def __init__(
        self,
        ram: Ram,
        clock: Literal["wall", "virtual"] = "wall",
        *,
        copy_state: bool = False,
        block_stops: bool = False,
        by_mode: bool = False,
        guard_code: bool = False,
        features: Features = FEATURES,
    ) -> None:
        """`block_stops`: the pacer stops the guest on the wall clock too, which `interrupt_window` needs; also used
        where the switch that makes the engine's own stop safe is not found. `copy_state`: work on a copy of the state;
        also used where the live state is not found. `by_mode`: count the instructions of users, at CPL 3, apart
        (virtual clock). `guard_code`: make a page read-only in the nested page tables when code is translated from it.
        `features`: the instructions that do not raise #UD (the stock engine has all of its own)."""
        if clock not in ("wall", "virtual"):
            raise ValueError(f"a clock is wall or virtual, not {clock!r}")
        super().__init__(ram, clock == "virtual", features)
        self._by_mode, self._guard_code = by_mode, guard_code

        self._build(copy_state, block_stops)
        if not proof.prove(self) and self.engine_stops:
            # The switch is there, but does not do what it should: let the pacer stop us.
            self._engine.close()
            self._build(copy_state, True)
            proof.prove(self)
        if self.virtual:
            self.state[cs.CR4] |= CR4_TSD
        self._count_from_zero()
        self.initial: Final = self.save()

    def _build(self, copy_state: bool, block_stops: bool) -> None:
        self._assemble(copy_state, block_stops)
        self._build_translation_calls()
        self._build_register_calls()
        self._clear_exits()
        self.debug = Debug(self, self._engine, self._pacer, self._switch)
        self.on_exit(svm.VMEXIT_WATCH, self.debug.watch_exit)
        self._register_hooks(self._by_mode, self._guard_code)
        self._reset()

    def close(self) -> None:
        """Free the engine.  `state` must not be used afterwards."""
        self._ticker.close()
        self._engine.close()

    def __del__(self) -> None:
        if "_engine" in self.__dict__ and threading is not None:
            self.close()
