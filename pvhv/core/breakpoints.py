# SPDX-License-Identifier: GPL-2.0-or-later
"""Breakpoints and watchpoints of debuggers on one pCPU, and single steps.

The pCPU has one hook for each address at which some debugger has a breakpoint. When a hook is reached, the vCPU's
domain decides: only a breakpoint of that domain's debugger stops it, so other domains may have code at the same
address.

What happens then is in debugger.py.

Read beside it: xen/arch/x86/debug.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from pvhv.machine.cpustate import RIP

if TYPE_CHECKING:
    from pvhv.core.arch import ArchDomain, ArchVCPU
    from pvhv.machine.debug import Watched
    from pvhv.machine.pcpu import PCPU


class Why(Enum):
    """What stopped a domain."""

    BREAKPOINT = "breakpoint"
    STEP = "step"
    WATCHPOINT = "watchpoint"
    INTERRUPT = "interrupt"


class Debugging(Protocol):
    """The part of a debugger that is used here (debugger.py)."""

    breakpoints: set[int]
    watchpoints: set[Watched]

    @property
    def domain(self) -> ArchDomain: ...
    def frames_at(self, addresses: Iterable[int]) -> set[int]: ...
    def reached(self, vcpu: ArchVCPU, why: Why, place: Watched | None = None) -> None: ...


class Stoppable(Protocol):
    """The part of a pCPU that is used here (cpu.py)."""

    pcpu: PCPU

    @property
    def current(self) -> ArchVCPU: ...


class Breakpoints:
    """The breakpoints of all debuggers on one pCPU. While there is a debugger, guests may be stopped inside a block."""

    def __init__(self, cpu: Stoppable) -> None:
        self.cpu = cpu
        self.debuggers: list[Debugging] = []
        self.hooks: dict[int, int] = {}  # address -> hook
        self.watched: set[Watched] = set()

    def join(self, debugger: Debugging) -> None:
        """Attach a debugger; with the first one, hooks are allowed on the pCPU."""
        if not self.debuggers:
            self.cpu.pcpu.debug.allow(True)
            self.cpu.pcpu.on_break = self._broke
        self.debuggers.append(debugger)

    def leave(self, debugger: Debugging) -> None:
        """Detach a debugger; after the last one, hooks are removed and the guests run at full speed."""
        self.debuggers.remove(debugger)
        if not self.debuggers:
            for hook in self.hooks.values():
                self.cpu.pcpu.debug.remove(hook)
            self.hooks.clear()
            self.cpu.pcpu.debug.allow(False)
        self.settle_watchpoints()

    def settle(self, debugger: Debugging) -> None:
        """Before `debugger`'s domain runs: add and remove hooks, so that they match all breakpoints."""
        wanted = {address for each in self.debuggers for address in each.breakpoints}
        debug, have = self.cpu.pcpu.debug, self.hooks.keys()
        changed = wanted ^ have
        for address in have - wanted:
            debug.remove(self.hooks.pop(address))
        for address in wanted - have:
            self.hooks[address] = debug.add(address)
        for mfn in debugger.frames_at(changed):
            self.cpu.pcpu.forget_code(mfn)

    def settle_watchpoints(self) -> None:
        """Let the pCPU watch exactly the watchpoints of all debuggers."""
        wanted = {place for each in self.debuggers for place in each.watchpoints}
        if wanted != self.watched:
            self.cpu.pcpu.debug.watch(wanted)
            self.watched = wanted

    def _broke(self) -> None:
        """Called between two instructions, at a step, breakpoint or watchpoint (perhaps another domain's)."""
        vcpu = self.cpu.current
        debugger = next((each for each in self.debuggers if each.domain is vcpu.domain), None)
        hit = self.cpu.pcpu.debug.take_hit()
        reached = next((place for place in hit if debugger is not None and place in debugger.watchpoints), None)
        if debugger is not None and reached is not None:
            if vcpu.stepping:
                self.cpu.pcpu.debug.end_step()
            debugger.reached(vcpu, Why.WATCHPOINT, reached)
        elif hit and not vcpu.stepping:
            pass
        elif vcpu.stepping:
            if not self.cpu.pcpu.debug.end_step():
                self.cpu.pcpu.debug.step()  # it is to be tried again
            elif debugger is not None:
                debugger.reached(vcpu, Why.STEP)
        elif debugger is not None and vcpu.state[RIP] in debugger.breakpoints:
            debugger.reached(vcpu, Why.BREAKPOINT)
        else:
            self.cpu.pcpu.pass_once()
