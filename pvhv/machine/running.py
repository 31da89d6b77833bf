# SPDX-License-Identifier: GPL-2.0-or-later
"""Running guest code until a handler raises, another thread stops it, a deadline passes or a budget is used up.

A run may enter the engine several times. The engine may return without need (a stop meant for the previous run came
late), or for work between blocks (a breakpoint). Whenever it returns, the guest is between two instructions.

A stop is a word that the pacer and this loop check; a limit of 0 makes the pacer check it. The thread that starts a run
writes the limit first and then checks the word. The thread that stops it writes the word first and then the limit. So
no stop is lost.

An engine that dies is replaced by a new one at the same address (corrections/death.c); after an escape (guard.py) the
registers are reset. The exception that `run` raises says which. Read beside it: pacer.c; pvhv/core/sched/scheduler.py,
which calls this.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine import pacer as pace
from pvhv.machine import seam
from pvhv.machine.breakpoints import Breakpoints
from pvhv.machine.cpustate import EFLAGS, RIP
from pvhv.machine.debug import Debug
from pvhv.machine.features import Features
from pvhv.machine.guard import Guard
from pvhv.machine.ram import Ram
from pvhv.machine.registers import Registers
from pvhv.machine.ticker import NEVER, Ticker

MOST_BLOCKS: Final = 1 << 18  # that the engine may remember: 20 MiB
_ARMED: Final = 0xFF  # in DR7: some breakpoint is enabled


class Running(Registers, Breakpoints):
    """The run loop of one pCPU."""

    debug: Debug

    def __init__(self, ram: Ram, virtual: bool, features: Features) -> None:
        super().__init__(ram, virtual, features)
        self._running = False
        self._runner = 0
        self._guard: Guard | None = None
        self._tick: Callable[[], int | None] | None = None
        self._stop_by = NEVER
        kick = weakref.WeakMethod(self._kick)  # the thread must not keep us alive
        self._ticker = Ticker(lambda: method() if (method := kick()) else None)

    def run(self, budget: int | None = None) -> None:
        """Run guest code until `stop`, a handler's exception, or `budget` instructions (virtual clock).

        A budget ends at the first block boundary where it is used up: at most 511 instructions
        late, and always at the same one.
        """
        words = self._words
        if budget is not None and not self.virtual:
            raise ValueError("a budget of instructions needs the virtual clock")
        if words[pace.BLOCKS] > MOST_BLOCKS and not seam.corrected:
            self.forget_blocks()
        # The limit first, then the loop's look at STOP: `stop` writes them in the other order.
        goal = pace.NO_LIMIT if budget is None else words[pace.EXECUTED] + budget
        words[pace.GOAL] = goal
        words[pace.LIMIT] = 0 if words[pace.WINDOW] or words[pace.STEP] else goal
        words[pace.LAST] = 0
        self._runner = threading.get_ident()
        self._running = True
        try:
            while not words[pace.STOP]:
                self._enter()
                if words[pace.BROKEN] == pace.IS_BROKEN:
                    words[pace.BROKEN] = 0
                    words[pace.LIMIT] = 0 if words[pace.WINDOW] or words[pace.STOP] else goal
                    self.on_break()
                elif self.virtual and words[pace.EXECUTED] >= goal:
                    break
                # Else a kick meant for the run before came late: go on.
        finally:
            self._running = False
            words[pace.STOP] = 0
            self._stop_by = NEVER
            self._ticker.disarm()

    def _enter(self) -> None:
        """Run guest code until the engine returns. Raises the exception that ended the run, if one did."""
        words, state, context, guard = self._words, self.state, self._context, self._guard
        # A fetch that faults while the engine is about to stop is told to nobody, and comes again.
        self.aux[cs.OLD_EXCEPTION] = 0xFFFF_FFFF
        if state[EFLAGS] & cs.RF and not state[cs.DR7] & _ARMED:
            state[EFLAGS] ^= cs.RF  # as where a run goes on: it says nothing, and would cost a block of its own
        if guard is None:
            words[pace.ENTERED_MODE] = 0
        else:
            self._pacer.begin()
        if words[pace.FLUSH]:
            words[pace.FLUSH] = 0
            self.flush_tlb()
        if context is not None:
            context.restore()
        error = self.enter_engine(state[RIP])
        if error == seam.DIED:
            raise self._died(state[RIP])
        if context is not None:
            context.save()
        failure, self._failure = self._failure, None
        if guard is not None and self._pacer.end():
            failure = guard.found()
            self._reset_to(self.save())
        if failure is not None:
            raise failure
        if error:
            raise uc.EngineError(f"the engine gave up at RIP {state[RIP]:#x}", error)

    def run_wall(
        self, deadline_ns: int, budget: int | None = None, tick: Callable[[], int | None] | None = None
    ) -> None:
        """`run`, but stopped when time.monotonic_ns() reaches `deadline_ns`.

        At the deadline `tick` is called, on the ticker's thread while guest code runs. If it returns a later deadline,
        the run continues.
        """
        self._tick = tick
        self._ticker.arm(deadline_ns)
        if self._stop_by < deadline_ns:  # another thread's, before the ticker was armed
            self._ticker.arm_by(self._stop_by)
        self.run(budget)

    # ---- how a run ends ------------------------------------------------------------------------

    def stop(self) -> None:
        """End the run (or, between runs, the next one at once) at a block boundary.  Any thread may."""
        words = self._words
        words[pace.STOP] = 1
        words[pace.LIMIT] = 0
        if self.engine_stops and self._running:
            uc.uc_emu_stop(self._handle)
            # The stock engine forgets a stop that comes while it starts up: the ticker repeats ours.
            if not seam.corrected and threading.get_ident() != self._runner:
                self._ticker.arm_by(time.monotonic_ns() + 200_000)

    def stop_by(self, deadline_ns: int) -> None:
        """Let `run_wall` act as if its deadline were this one, if that is earlier. Any thread may. It holds for the run
        under way; whoever calls this between two runs may find that it holds for the next one."""
        self._stop_by = deadline_ns
        self._ticker.arm_by(deadline_ns)

    @property
    def stop_pending(self) -> bool:
        return bool(self._words[pace.STOP])

    def interrupt_window(self, wanted: bool) -> None:
        """End runs where the guest could take an interrupt: RFLAGS.IF is set, and no STI or MOV SS stands right before.

        Needs a pCPU whose pacer stops it (virtual clock, or `block_stops`)."""
        self._words[pace.WINDOW] = wanted
        if wanted:
            self._words[pace.LIMIT] = 0

    def _kick(self) -> int | None:
        """The deadline passed: stop the run, or return the later deadline that `tick` gave."""
        if not self._running:
            return None
        tick, words = self._tick, self._words
        later = tick() if tick is not None and not words[pace.STOP] else None
        if later is None:
            self._end_run()
        return later

    # ---- when it goes wrong --------------------------------------------------------------------

    def contain(self) -> None:
        """Switch on the checks of guard.py at every exit, for paravirtual guests."""
        self._guard = Guard(self)

    def _reset(self) -> None:
        super()._reset()
        if self._guard is not None:
            self._guard.intercept()

    def _died(self, rip: int) -> uc.EngineDied:
        """The engine died: replace it by a new one at the same address, with the same registers; returns the exception.

        Everything else that was recorded for this run is dropped, so that it does not reach the next one."""
        death = seam.how_it_died()
        self._running = False  # nobody stops an engine that is half made
        if self._context is not None:
            self._context.save()
        registers = self.save()
        uc.check("making the engine anew", seam.reopen(self._handle))
        self._engine.revived()
        self.enter_engine = self._starter()
        self.debug.made_anew()
        self._reset_to(registers)
        words = self._words
        words[pace.LAST] = words[pace.STEP] = words[pace.BROKEN] = words[pace.ESCAPED] = 0
        self._failure = None
        return uc.EngineDied(f"{death.said()}, while it ran guest code from {rip:#x} on")
