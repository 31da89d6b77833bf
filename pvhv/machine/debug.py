# SPDX-License-Identifier: GPL-2.0-or-later
"""What a debugger wants of a physical CPU: breakpoints that come and go, and one instruction at a time.

Nothing of it can be seen by the guest. A breakpoint is a hook in the translation of one address, not an int3 in memory.
A step is a block of one instruction: the engine translates such where interrupts are inhibited (behind MOV SS, say),
which is a flag of its own beside RFLAGS that no instruction reads; before the second block, or behind an exit, the
pacer stops the guest. So a step ends at whatever is executed next: an instruction that faults or calls is followed into
the kernel, and a repeated string instruction takes one for each iteration.

To stop in mid-block, translations must look for a stop there, and then nobody but the pacer may ask for one
(see stops.py): `allow` switches that on for all guests of the pCPU, which run slower by a third, and off again.

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
    """Some bytes, and which accesses to them are looked for: READS, WRITES, or both."""

    address: int
    size: int
    accesses: int


class Debug:
    """The debugger's side of one pCPU. All of it is for between runs, or for `on_break`."""

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
        """Whether `add` and `step` may be used. All translations are dropped."""
        self._allowed = wanted
        uc.uc_ctl(self._engine.handle, uc.CTL_FLUSH_CODE)
        if self._switch is not None:
            self._switch.at_blocks(not wanted)
            if not self._pcpu.virtual:
                self._pacer.stop_blocks(wanted)
                self._pcpu.engine_stops = not wanted

    def add(self, va: int) -> int:
        """Have `on_break` called before the instruction at `va`, whoever executes it; what `remove` takes.

        As `break_at`: code translated before does not have it until it is forgotten."""
        return self._pacer.break_at(va, None)

    def remove(self, hook: int) -> None:
        """Have it called no longer, but for code translated before, until that is forgotten."""
        self._engine.remove_hook(hook)

    def watch(self, places: Iterable[Watched]) -> None:
        """Have `on_break` called behind each instruction that reaches one of them, whoever executes it, and no others
        than these. Needs `can_watch`."""
        self._places = tuple(places)
        self._watch_places()

    def made_anew(self) -> None:
        """The engine is a new one: what was asked of the old one holds of it as well."""
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
        """In `on_break`: what the last instruction reached of it."""
        hit, self._hit = self._hit, []
        return hit

    def watch_exit(self) -> None:
        """The engine's exit behind such an instruction, which may be a guest's own #DB as well."""
        hit = tuple(seam.hits(self._engine.handle))
        if self._pcpu.aux[ERROR_CODE]:
            self._pcpu.on_exception[svm.DB]()
        self._hit = [Watched(*each) for each in hit]
        self._pcpu.pause()

    def step(self) -> None:
        """Have `on_break` called behind the instruction at RIP, whatever comes of it. A breakpoint on it is passed."""
        words, state = self._words, self._pcpu.state
        state[HFLAGS] |= HF_INHIBIT_IRQ
        words[pace.STEP] = pace.STEP_WANTED
        words[pace.BROKEN] = self._from = state[RIP]
        words[pace.LIMIT] = 0

    def end_step(self) -> bool:
        """No step is asked for any more; whether the one that was is done."""
        words, state = self._words, self._pcpu.state
        step, words[pace.STEP] = words[pace.STEP], 0
        if step:
            words[pace.BROKEN] = 0
            state[HFLAGS] &= ~HF_INHIBIT_IRQ
        if step == pace.STEP_LEFT:
            # An exit that left RIP where it was: the instruction is to be tried again, and so is the step.
            return state[RIP] != self._from
        return step == pace.STEP_BEGUN
