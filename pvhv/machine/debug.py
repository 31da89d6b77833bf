# SPDX-License-Identifier: GPL-2.0-or-later
"""A debugger's access to a physical CPU: breakpoints that can be removed, watchpoints, and single steps.

The guest cannot notice any of these. A breakpoint is a hook in the translation of one address, not an int3 in memory. A
step is a block of one instruction. The engine translates such blocks while interrupts are inhibited (after MOV SS, for
example); the flag for that is beside RFLAGS, and no instruction reads it. The pacer stops the guest before the second
block, or after an exit. So a step ends at the next instruction executed: a step of an instruction that faults or calls
ends in the handler or callee, and a repeated string instruction takes one step for each iteration.

To stop inside a block, translations must check for a stop there, and then only the pacer may ask for a stop (see
stops.py). `allow` switches that on and off for all guests of the pCPU; on, they run slower by a third.

Not modelled: the count of a repeated string instruction that is stepped to its end, which is one less than otherwise
(the engine finds without another try that it is done).

It does not know which vCPU runs, nor whose breakpoint it is. Read beside it: pacer.c (break_here, due);
i386_tr_translate_insn in the engine's translate.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pvhv.machine import engine as uc
from pvhv.machine import pacer as pace
from pvhv.machine import seam, svm
from pvhv.machine.breakpoints import Breakpoints
from pvhv.machine.cpustate import ERROR_CODE, HF_INHIBIT_IRQ, HFLAGS, RIP
from pvhv.machine.stops import StopSwitch

READS, WRITES = 1, 2


class Watched(NamedTuple):
    """A watchpoint: some bytes, and the accesses to report: READS, WRITES, or both."""

    address: int
    size: int
    accesses: int


class Debug:
    """The debugger's side of one pCPU. Call it only between runs, or in `on_break`."""

    can_watch = seam.corrected

    def __init__(
        self, pcpu: Breakpoints, engine: uc.Engine, pacer: pace.Pacer, switch: StopSwitch | None
    ) -> None:
        self._pcpu = pcpu
        self._engine = engine
        self._pacer = pacer
        self._words = pacer.words
        self._switch = switch
        self._allowed = False
        self._from = 0  # where the last step began
        self._places: tuple[Watched, ...] = ()
        self._hit: list[Watched] = []

    def allow(self, wanted: bool) -> None:
        """Allow `add` and `step`, or forbid them again. All translations are dropped."""
        self._allowed = wanted
        uc.uc_ctl(self._engine.handle, uc.CTL_FLUSH_CODE)
        if self._switch is not None:
            self._switch.at_blocks(not wanted)
            if not self._pcpu.virtual:
                self._pacer.stop_blocks(wanted)
                self._pcpu.engine_stops = not wanted

    def add(self, va: int) -> int:
        """Call `on_break` before the instruction at `va`, in any guest; returns a hook for `remove`.

        As with `break_at`, code that is translated already has the breakpoint only after `forget_code`."""
        return self._pacer.break_at(va, None)

    def remove(self, hook: int) -> None:
        """Remove a breakpoint. Code that is translated already keeps it until `forget_code`."""
        self._engine.remove_hook(hook)

    def watch(self, places: Iterable[Watched]) -> None:
        """Set all watchpoints: call `on_break` after each instruction, in any guest, that accesses one of these places.
        Needs `can_watch`. Raises ValueError."""
        self._places = tuple(places)
        self._watch_places()

    def made_anew(self) -> None:
        """The engine was replaced by a new one: set everything again that was set in the old one."""
        if self._switch is not None:
            self._switch.at_blocks(not self._allowed)
        self._watch_places()

    def _watch_places(self) -> None:
        if self.can_watch:
            seam.watch_nothing(self._engine.handle)
        for place in self._places:
            if seam.watch(self._engine.handle, *place):
                raise ValueError(f"cannot watch {place}")

    def take_hit(self) -> list[Watched]:
        """In `on_break`: the watchpoints that the last instruction hit."""
        hit, self._hit = self._hit, []
        return hit

    def watch_exit(self) -> None:
        """The engine's exit after an instruction that hit a watchpoint; it may be a guest's own #DB as well."""
        hit = tuple(seam.hits(self._engine.handle))
        if self._pcpu.aux[ERROR_CODE]:
            self._pcpu.on_exception[svm.DB]()
        self._hit = [Watched(*each) for each in hit]
        self._pcpu.pause()

    def step(self) -> None:
        """Call `on_break` after the instruction at RIP, even if it faults. A breakpoint at RIP itself is passed."""
        words, state = self._words, self._pcpu.state
        state[HFLAGS] |= HF_INHIBIT_IRQ
        words[pace.STEP] = pace.STEP_WANTED
        words[pace.BROKEN] = self._from = state[RIP]
        words[pace.LIMIT] = 0

    def end_step(self) -> bool:
        """Cancel the step that was asked for; True if it is done already."""
        words, state = self._words, self._pcpu.state
        step, words[pace.STEP] = words[pace.STEP], 0
        if step:
            words[pace.BROKEN] = 0
            state[HFLAGS] &= ~HF_INHIBIT_IRQ
        if step == pace.STEP_LEFT:
            # An exit that left RIP where it was: the instruction is to be tried again, and so is the step.
            return state[RIP] != self._from
        return step == pace.STEP_BEGUN
