# SPDX-License-Identifier: GPL-2.0-or-later
"""A timeline: a clock, the timers set on it, and the vCPUs that use it.

There is one wall timeline, whose time is the host's, and any number of virtual ones, whose time is the number of guest
instructions executed on them (one instruction is one nanosecond). When all vCPUs of a virtual timeline are idle, its
time jumps to the next timer. What happens on a virtual timeline therefore depends on its own domains only, never on the
host or on other timelines.

Scheduling within a timeline is fair by weight: the runnable vCPU that had the least time (divided by its domain's
weight) runs next, for at most a slice. A vCPU that could not run for a while does not get that time back: it starts
level with those that ran, a little ahead, so that a vCPU which sleeps often answers quickly.

Read beside it: xen/common/timer.c, xen/common/sched/credit.c (whose weights these are).
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from pvhv.core.cpu import Cpu

SLICE_NS = 10_000_000
WAKE_LEAD_NS = 5_000_000
CANCELLED_KEPT = 64  # cancelled timers that may lie about before the heap is rid of them
DEFAULT_WEIGHT = 256

Callback = Callable[[], None]


class Unit(Protocol):
    """What a timeline uses of a vCPU (core/vcpu.py), as Xen's schedulers use struct sched_unit."""

    credit_used: int

    @property
    def weight(self) -> int: ...
    @property
    def runnable(self) -> bool: ...
    @property
    def asleep(self) -> bool: ...


U = TypeVar("U", bound=Unit)


class Timer:
    """A callback to be called at a time, unless it is cancelled before."""

    __slots__ = ("callback", "deadline", "one_cancelled")

    def __init__(self, deadline: int, callback: Callback, one_cancelled: Callback) -> None:
        self.deadline = deadline
        self.callback: Callback | None = callback
        self.one_cancelled = one_cancelled

    def cancel(self) -> None:
        """Cancel the call. Nothing happens if it was made already."""
        if self.callback is not None:
            self.callback = None
            self.one_cancelled()


class Share:
    """How much hypervisor work may still be done before the next turn. One unit is about one page-table entry."""

    __slots__ = ("work_left",)

    def __init__(self, work_left: float) -> None:
        self.work_left = work_left


class Turn(Share, Generic[U]):
    """A slice under way: its vCPU, when it ends, and how much hypervisor work it may still cause.

    The vCPU runs until `until`: the end of the slice, or the next timer if that is due before.
    """

    __slots__ = ("end", "looks_again", "over", "ran", "start", "until", "vcpu")

    def __init__(self, vcpu: U, start: int, end: int, work_left: int) -> None:
        super().__init__(work_left)
        self.vcpu = vcpu
        self.start = start
        self.end = self.until = end
        self.ran = 0
        self.over = False  # given up before its end
        self.looks_again = True  # whether something of its own doing wants events looked at before it goes on


class Timeline(Generic[U]):
    """A clock, its timers and a run queue, shared by some domains. Subclasses define time."""

    WRAPPABLE: ClassVar = frozenset({"fire"})

    virtual = False

    def __init__(self, name: str, cpu: Cpu) -> None:
        self.name = name
        self.cpu = cpu
        self.timers: list[tuple[int, int, Timer]] = []
        self.vcpus: list[U] = []
        self.host_ns = 0  # host time spent on this timeline, for fairness between timelines
        self.on_idle: list[Callable[[], bool]] = []  # asked when nothing can run; True says "something may run now"
        self.turn: Turn[U] | None = None
        self.running = False  # the pCPU runs our turn's vCPU
        self.held = 0  # those who have to catch up first: while there are any, nobody runs and time does not jump
        self.level = 0  # the most that a vCPU had when it was picked: those who begin to run begin there
        self.woken = False  # whether a vCPU began to want to run since one was picked
        self._serial = 0
        self._cancelled = 0

    def now(self) -> int:
        """System time in ns."""
        raise NotImplementedError

    def wallclock(self) -> int:
        """ns since 1970 at system time zero."""
        raise NotImplementedError

    # -- timers ------------------------------------------------------------------------------------------------
    def after(self, deadline: int, callback: Callback) -> Timer:
        """Call `callback` at `deadline` (absolute ns) or as soon as possible after it."""
        timer = Timer(deadline, callback, self.one_cancelled)
        self._serial += 1
        heapq.heappush(self.timers, (deadline, self._serial, timer))
        if self.running and self.turn is not None and deadline < self.turn.until:
            self.cpu.pcpu.stop()  # the run under way would go on beyond it
        return timer

    def one_cancelled(self) -> None:
        """A timer of this timeline was cancelled: remove cancelled timers from the heap when there are too many."""
        self._cancelled += 1
        if self._cancelled > max(CANCELLED_KEPT, len(self.timers) // 2):
            self.timers[:] = [entry for entry in self.timers if entry[2].callback is not None]
            heapq.heapify(self.timers)
            self._cancelled = 0

    def next_deadline(self) -> int | None:
        """When the next timer is due, in ns; None if there is none."""
        timers = self.timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
            self._cancelled -= 1
        return timers[0][0] if timers else None

    def fire(self) -> bool:
        """Call the callbacks that are due; True if there were any."""
        now = self.now()
        timers = self.timers
        fired = False
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._cancelled -= 1
                continue
            if self.turn is not None:
                self.turn.looks_again = True  # it may be for the very vCPU that goes on now
            fired = True
            callback()
        return fired

    def runnable(self) -> bool:
        """Whether any vCPU can run."""
        for vcpu in self.vcpus:  # (not `any`: this is asked twice a turn)
            if vcpu.runnable:
                return True
        return False

    def idle(self) -> bool:
        """No vCPU can run: try to make one runnable (input, the next timer); True if something happened."""
        return False

    # -- vCPUs -------------------------------------------------------------------------------------------------
    def pick(self) -> U | None:
        """The runnable vCPU with the least credit used; None if there is none."""
        self.woken = False
        chosen = None
        floor = self.level - WAKE_LEAD_NS
        for vcpu in self.vcpus:
            if vcpu.runnable:
                if vcpu.credit_used < floor:
                    vcpu.credit_used = floor
                if chosen is None or vcpu.credit_used < chosen.credit_used:
                    chosen = vcpu
        if chosen is not None and chosen.credit_used > self.level:
            self.level = chosen.credit_used
        return chosen

    def gives_way(self, turn: Turn[U]) -> bool:
        """Whether, after a vCPU was woken, a waiting vCPU has used less credit than the one whose turn it is."""
        if not self.woken or self.virtual:  # there a turn goes on after what only the host knows of
            return False
        self.woken = False
        running = turn.vcpu
        used = running.credit_used + turn.ran * DEFAULT_WEIGHT // running.weight
        floor = self.level - WAKE_LEAD_NS
        return any(vcpu.runnable and vcpu is not running and max(vcpu.credit_used, floor) < used for vcpu in self.vcpus)

    def charge(self, vcpu: U, ran: int) -> None:
        """Charge `vcpu` for a whole slice of `ran` ns. (Not for parts of it: each would be rounded.)"""
        vcpu.credit_used += ran * DEFAULT_WEIGHT // vcpu.weight

    def add(self, vcpu: U) -> None:
        """Put `vcpu` on this timeline."""
        vcpu.credit_used = self.level
        self.vcpus.append(vcpu)

    def remove(self, vcpu: U) -> None:
        """The reverse of `add`."""
        if self.turn is not None and self.turn.vcpu is vcpu:
            self.turn = None
        self.vcpus.remove(vcpu)


class WallTimeline(Timeline[U]):
    """Time is the host's monotonic clock since the hypervisor started."""

    def __init__(self, name: str, cpu: Cpu, monotonic: Callable[[], int], epoch_ns: Callable[[], int]) -> None:
        super().__init__(name, cpu)
        self._monotonic = monotonic
        self._epoch = epoch_ns
        self._start = monotonic()

    def now(self) -> int:
        return self._monotonic() - self._start

    def wallclock(self) -> int:
        return self._epoch() - self.now()

    def host_deadline(self, deadline: int) -> int:
        """A time of this timeline as a time of the host's monotonic clock, in ns."""
        return deadline + self._start


class VirtualTimeline(Timeline[U]):
    """Time is instructions executed; `begin` and `end` bracket a run of the pCPU."""

    virtual = True
    EPOCH_NS = 1_000_000_000 * 1_000_000_000  # 2001-09-09T01:46:40Z, the same in every run

    def __init__(self, name: str, cpu: Cpu) -> None:
        super().__init__(name, cpu)
        self.paced = False
        self._time = 0
        self._mark: int | None = None
        self._anchor: int | None = None

    def now(self) -> int:
        if self._mark is None:
            return self._time
        return self._time + self.cpu.pcpu.executed - self._mark

    def wallclock(self) -> int:
        return self.EPOCH_NS

    def begin(self) -> None:
        """The pCPU starts to run a vCPU of this timeline."""
        self._mark = self.cpu.pcpu.executed

    def end(self) -> None:
        """The pCPU has stopped running it."""
        self._time = self.now()
        self._mark = None

    def idle(self) -> bool:
        """Take input if there is any, else jump to the next timer; True if either happened.

        If no vCPU is asleep that a timer could wake, nothing happens: the time of paused domains stands still. A
        `paced` timeline (a person uses its console) does not jump ahead of the host's clock.
        """
        if not any(vcpu.asleep for vcpu in self.vcpus):
            return False
        taken = [take() for take in self.on_idle]  # all of them are asked
        if any(taken):
            return True
        due = self.next_deadline()
        if due is None or (self.paced and self.pace_wait(due) > 0):
            return False
        self._time = max(self._time, due)
        return True

    def pace_wait(self, due: int) -> float:
        """Seconds until a paced timeline may reach `due`."""
        host = time.monotonic_ns()
        if self._anchor is None:
            self._anchor = host - self._time
        return (due + self._anchor - host) / 1e9
