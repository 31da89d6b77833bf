# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hostile guests on one machine, for so many calls: they act in turn, die, and are replaced.

Every few hundred calls the frame table is counted again from scratch (tests/core/accounting.py). A guest that ended is
taken apart in steps, between which the other goes on and still holds what it had of the dying one. When all is over
nothing may be left of anybody.

A third guest, the bystander, does nothing and grants nothing. The others know its id and its frames; not a byte of it,
of what the hypervisor shows it or of what it is known by may change.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

from pvhv.core.mm.frames import NONE, TYPE_MASK
from tests.core.accounting import problems
from tests.core.fuzz import Hostile
from tests.core.fuzz_judge import Judge
from tests.core.fuzz_moves import MOVES
from tests.core.guests import Machine

FRAMES = 3072
CALLS_BETWEEN_COUNTS = 400
SUDDEN_DEATH = 0.0005  # the toolstack destroys a guest in the middle of its doings


class MachineOfItsOwn:
    """What carries the bystander where it is no PV guest: as far as others can tell."""

    def close(self) -> None:
        pass


class Campaign:
    """One seed's worth. With `device_models` guests may be given control over one another."""

    def __init__(self, seed: int, device_models: bool) -> None:
        self.rng = random.Random(seed)
        self.name = f"seed {seed}"
        self.device_models = device_models
        self.judge = Judge()
        self.machine = Machine(FRAMES, virtual=True)
        self.free_at_first = self.machine.frames.free_frames
        self.bystander = self.machine.guest(16)
        if device_models:
            self.bystander.hvm = MachineOfItsOwn()  # type: ignore[assignment]
        for mfn in self.machine.frames.owned_by(self.bystander.domid):
            if self.machine.frames.types[mfn] & TYPE_MASK == NONE:
                self.machine.ram.frame(mfn)[:] = self.rng.randbytes(4096)
        self.unharmed = self.look_at_bystander()
        self.ports_at_first = len(self.machine.hv.dom0.events.in_use())
        self.guests = [self._birth(), self._birth()]
        self._introduce()
        self.lives = 2
        self._counted_at = 0
        self._weights = [weight for weight, _ in MOVES]
        self._moves = [move for _, move in MOVES]

    def _birth(self) -> Hostile:
        guest = Hostile(self.machine, self.rng, self.judge)
        guest.bystanders = [self.bystander]
        return guest

    def look_at_bystander(self) -> Any:
        """All there is of it, and of how its frames are held."""
        domain, frames = self.bystander, self.machine.frames
        owned = frames.owned_by(domain.domid)
        digest = hashlib.sha256()
        for mfn in owned:
            digest.update(self.machine.ram.frame(mfn))
        holds = [(mfn, frames.refs[mfn], frames.types[mfn], frames.type_counts[mfn]) for mfn in owned]
        ports = [(channel.port, channel.state) for channel in domain.events.in_use()]
        return digest.hexdigest(), holds, ports, domain.tot_pages, domain.paused, domain.shutdown_code

    def _introduce(self) -> None:
        for guest in self.guests:
            guest.meet([other.domain for other in self.guests if other is not guest], self.device_models)

    def run(self, calls: int) -> None:
        """Make that many calls, then end it all. Raises AssertionError with what led to it."""
        while self.judge.calls < calls:
            guest = self.move()
            if self.judge.calls >= self._counted_at + CALLS_BETWEEN_COUNTS:
                self._counted_at = self.judge.calls
                self.count(guest)
        for guest in self.guests:
            self.machine.hv.destroy(guest.domain)
        self.machine.safe_point()
        self.count(None)
        self.machine.destroy(self.bystander)

    def move(self) -> Hostile:
        """What one of them does next, and what becomes of those who died of it; who it was."""
        guest = self.rng.choice(self.guests)
        self._act(guest)
        if self.rng.random() < SUDDEN_DEATH:
            guest.alive = False
        while dead := [each for each in self.guests if not each.alive]:
            self._replace(dead[0])
        return guest

    def _act(self, guest: Hostile) -> None:
        move = self.rng.choices(self._moves, self._weights)[0]
        try:
            move(guest)
        except Exception as failure:
            raise AssertionError(self._story(guest, f"{move.__name__} met {failure!r}")) from failure

    def _replace(self, guest: Hostile) -> None:
        """Take a guest apart, step by step, while the other goes on; then there is a new one."""
        scheduler = self.machine.hv.scheduler
        self.machine.hv.destroy(guest.domain)
        others = [other for other in self.guests if other is not guest]
        while scheduler.background:
            scheduler.step_in_background()
            for other in others * self.rng.randrange(6):
                if other.alive:
                    self._act(other)
        self.machine.safe_point()
        self.guests[self.guests.index(guest)] = self._birth()
        self._introduce()
        self.lives += 1

    def count(self, guest: Hostile | None) -> None:
        """The frame table, from scratch; and the hypervisor's own record of bugs."""
        wrong = problems(self.machine.hv)
        if self.device_models:  # who controls another may map its frames without a grant
            wrong = [problem for problem in wrong if "without a grant" not in problem]
        assert not wrong, self._story(guest, "; ".join(wrong[:5]))
        assert self.look_at_bystander() == self.unharmed, self._story(guest, "the bystander was harmed")
        assert not self.machine.hv.bugs, self._story(guest, self.machine.hv.bugs[0])

    def _story(self, guest: Hostile | None, what: str) -> str:
        last = "\n  ".join(guest.log) if guest else "the end"
        return f"{self.name}, after {self.judge.calls} calls: {what}\nthe last ones:\n  {last}"
