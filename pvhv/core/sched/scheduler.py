# SPDX-License-Identifier: GPL-2.0-or-later
"""The main loop: it chooses a vCPU and runs it for a slice, again and again.

One thread runs the hypervisor, its guests and dom0's backends. Each turn of the loop runs the functions other threads
posted (`post`), deferred work and due timers. Then it runs one vCPU, of the timeline that used the least host time, for
at most a slice. A run ends early when the vCPU blocks, when a long hypercall used up its share of work, or when another
thread stops the pCPU. On a virtual timeline the vCPU then continues the same slice, so that events from outside, the
host's clock included, never change the order in which vCPUs run.

Read beside it: schedule() in xen/common/sched/core.c; run_guest in Linux' drivers/lguest/core.c for the shape.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pvhv.core.sched.patience import Patience
from pvhv.core.sched.timeline import SLICE_NS, Share, Timeline, Turn, VirtualTimeline, WallTimeline
from pvhv.machine.ticker import NEVER

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.mm.pagetables import PageTables
    from pvhv.core.sched.activity import Activity
    from pvhv.core.sched.timekeeping import Timekeeper
    from pvhv.core.vcpu import VCPU

WORK_SHARE = 4096  # units of hypervisor work (about a page-table entry each) before others get a turn
HOST_SLICE_NS = 10_000_000  # of host time, before a virtual timeline's slice is broken off
BREAK_NS = 20_000  # of host time: what it takes to leave a guest and to come back
STEP_NS = 4_000_000  # of host time, for a step of what is done in the background
IDLE_WAIT_S = 1.0
FINISHED = object()
UNDIVIDED = Share(float("inf"))  # dom0's own work is not divided, but for what is in `background`


class Machine(Protocol):
    """What the loop calls on the hypervisor: before a run, and after an error."""

    pagetables: PageTables
    activity: Activity
    timekeeper: Timekeeper

    def deliver_pending(self, vcpu: VCPU) -> None: ...
    def failed(self, vcpu: VCPU, failure: Exception) -> None: ...
    def bug(self, domain: Domain | None, failure: BaseException) -> None: ...


class BugsKept:
    """A context for work that belongs to no domain: an exception in it is recorded as a bug, and the loop continues."""

    def __init__(self, hypervisor: Machine) -> None:
        self.hypervisor = hypervisor

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, failure: BaseException | None, _traceback: object) -> bool:
        if isinstance(failure, Exception):
            self.hypervisor.bug(None, failure)
            return True
        return False


class Scheduler:
    """The loop, and the methods by which other threads and handlers ask for work."""

    WRAPPABLE: ClassVar = frozenset({"turn", "idle", "serve_posted", "run_deferred", "step_in_background"})

    def __init__(self, hypervisor: Machine) -> None:
        self.hypervisor = hypervisor
        self.timelines: list[Timeline[VCPU]] = []
        self.deferred: deque[Callable[[], None]] = deque()
        self.background: deque[Iterator[None]] = deque()  # long work of nobody's in particular, a step at each turn
        self.current_turn: Turn[VCPU] | None = None
        self.share: Share = UNDIVIDED  # of whoever has the hypervisor work for it
        self._errands_left = WORK_SHARE  # units of work, at this turn
        self._undisturbed = 0  # until when (of time.monotonic_ns) guests run, whatever is posted
        self._step_ends = NEVER
        self._patience = Patience()
        self._posted: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wakeup = threading.Event()
        self._bugs_kept = BugsKept(hypervisor)
        self._most_host_ns = 0  # of any timeline
        self._stopping = False
        self._over: Callable[[], bool] = lambda: True
        self._thread: threading.Thread | None = None

    # -- doors ---------------------------------------------------------------------------------------------------
    def post(self, function: Callable[[], Any]) -> Future[Any]:
        """Call `function` on the hypervisor's thread, between slices; the future has its result. Any thread may."""
        future: Future[Any] = Future()
        self._posted.append((function, future))
        self._wakeup.set()
        turn = self.current_turn
        if turn is not None and time.monotonic_ns() >= self._undisturbed:
            turn.vcpu.domain.timeline.cpu.pcpu.stop()
        return future

    def soon(self, function: Callable[[], None], domain: Domain | None = None) -> None:
        """Call `function` on the hypervisor's thread when the vCPU that runs rests, or is stopped for another reason;
        it is stopped for this one after a moment (pvhv.core.sched.patience). If it is not one of `domain`, for which
        this is, it is stopped at once: the domain may have waited for its turn. Any thread may."""
        self._patience.add(function)
        turn = self.current_turn
        if turn is None:
            self._wakeup.set()
        elif domain is None or turn.vcpu.domain is domain:
            turn.vcpu.domain.timeline.cpu.pcpu.stop_by(self._patience.due)
        else:
            turn.vcpu.domain.timeline.cpu.pcpu.stop()

    def stop(self) -> None:
        """End `run` after the current turn. Any thread may."""
        self._stopping = True
        self.post(lambda: None)

    def defer(self, function: Callable[[], None]) -> None:
        """Call `function` soon, between slices. Its time is charged to the vCPU that runs now, if any, so that a guest
        that causes much work of dom0 gets less time of its own."""
        turn = self.current_turn
        self.deferred.append(function if turn is None else partial(self._on_account, turn.vcpu, function))
        self.break_off()

    def defer_patiently(self, function: Callable[[], None]) -> None:
        """The same, but the vCPU that runs goes on for a moment: it may cause more of that work, to be done at once.
        (On a virtual timeline nothing is gained: the moment would have to be one of the guest's time.)"""
        turn = self.current_turn
        if turn is None or turn.vcpu.domain.timeline.virtual:
            self.defer(function)
        else:
            self.soon(partial(self._on_account, turn.vcpu, function))

    def defer_for(self, vcpu: VCPU, function: Callable[[], None]) -> None:
        """Call `function` soon, between slices. Its time is charged to `vcpu`, which may have asked for it long ago."""
        self.deferred.append(partial(self._on_account, vcpu, function))
        self.break_off()

    def _on_account(self, vcpu: VCPU, function: Callable[[], None]) -> None:
        began = time.monotonic_ns()
        try:
            function()
        finally:
            self._charge(vcpu, time.monotonic_ns() - began + BREAK_NS)

    def _charge(self, vcpu: VCPU, spent: int) -> None:
        """Charge a vCPU for `spent` ns of host time; on a virtual timeline, charge only the timeline."""
        timeline = vcpu.domain.timeline
        timeline.host_ns += spent
        turn = timeline.turn
        if timeline.virtual:
            return
        if turn is not None and turn.vcpu is vcpu:
            turn.ran += spent
        else:
            timeline.charge(vcpu, spent)

    def break_off(self) -> None:
        """Stop the vCPU that runs, so that the loop can do other work; its slice continues afterwards."""
        turn = self.current_turn
        if turn is not None:
            turn.looks_again = True
            turn.vcpu.domain.timeline.cpu.pcpu.stop()

    def in_background(self, work: Iterator[None]) -> None:
        """Do long work that belongs to no vCPU (a domain's destruction): one step now, the others between slices."""
        self.background.append(work)
        self.step_in_background()

    def errand(self, work: Iterator[int], domain: Domain | None = None) -> None:
        """Do work that a guest, or a tool of dom0, asked dom0 for. Each turn has a share of work for such errands; what
        exceeds the share is done in the background. `work` yields the units of work of each piece.

        The virtual timeline of `domain` stands still until the work is done, so the guest cannot tell how long it
        took."""
        while self._errands_left > 0:
            cost = next(work, None)
            if cost is None:
                return
            self._errands_left -= cost
        held = domain.timeline if domain is not None and domain.timeline.virtual else None
        if held is not None:
            held.held += 1
            if held.running:
                held.cpu.pcpu.stop()
        self.background.append(self._rest_of_errand(work, domain, held))

    def _rest_of_errand(
        self, work: Iterator[int], domain: Domain | None, held: Timeline[VCPU] | None
    ) -> Iterator[None]:
        try:
            left, began = WORK_SHARE, time.monotonic_ns()
            for cost in work:
                left -= cost
                if left < 0:
                    if domain is not None and domain.vcpus:
                        self._charge(domain.vcpus[0], time.monotonic_ns() - began)
                    yield
                    left, began = WORK_SHARE, time.monotonic_ns()
        finally:
            if held is not None:
                held.held -= 1

    def step_in_background(self) -> None:
        """Do one step of the background work that has waited longest, limited in units of work and in time."""
        if not self.background:
            return
        work = self.background.popleft()
        self.share, self._step_ends = Share(WORK_SHARE), time.monotonic_ns() + STEP_NS
        with self._bugs_kept:
            if next(work, FINISHED) is not FINISHED:
                self.background.append(work)
        self.share, self._step_ends = UNDIVIDED, NEVER

    def step_is_over(self) -> bool:
        """Whether a step of background work has used its time. Host time may limit it, because the work is charged to
        no domain; and units of work would not do, because the cost varies (an untouched page is freed at once)."""
        return time.monotonic_ns() >= self._step_ends

    def end_turn(self) -> None:
        """The vCPU that runs gives up the rest of its slice; a long operation of its is preempted."""
        turn = self.current_turn
        if turn is not None:
            turn.over = True
            turn.work_left = 0
            turn.vcpu.domain.timeline.cpu.pcpu.stop()

    def must_yield(self, cost: int) -> bool:
        """Charge `cost` units of work; True when a long operation must be preempted now."""
        share = self.share
        share.work_left -= cost
        if share.work_left > 0:
            return False
        self.end_turn()
        return True

    # -- the loop --------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """Run until `stop`."""
        self._stopping = False
        self.run_until(lambda: self._stopping)

    def run_until(self, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Run until `done()`; False when `timeout_s` seconds of host time passed before.

        `done` is called between turns, and at ticks from another thread while a guest runs; it must change nothing.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s

        def over() -> bool:
            return done() or (deadline is not None and time.monotonic() >= deadline)

        before, self._over = self._over, over
        try:
            while not over():
                self.turn(deadline)
        finally:
            self._over = before
        return done()

    def turn(self, deadline: float | None = None) -> None:
        """One turn of the loop."""
        for function in self._patience.take():
            self.deferred.append(function)
        busy = bool(self._posted or self.deferred or self.background)  # it may be what somebody waits for
        self._errands_left = WORK_SHARE
        if busy:
            self.serve_posted()
            self.run_deferred()
            self.step_in_background()
        chosen: Timeline[VCPU] | None = None
        for timeline in self.timelines:
            with self._bugs_kept:
                busy |= timeline.fire()
                if not timeline.held and not timeline.runnable() and timeline.idle():
                    busy = True
                    timeline.fire()
            ahead = chosen is None or timeline.host_ns < chosen.host_ns
            if ahead and not timeline.held and timeline.runnable():
                chosen = timeline
        self.run_deferred()
        if chosen is not None:
            began = time.monotonic_ns()
            self._slice(chosen)
            self._charge_host(chosen, time.monotonic_ns() - began)
        elif not busy:
            self.idle(deadline)

    def serve_posted(self) -> None:
        """Run posted functions. If that took long, guests get as much time before the next ones."""
        began = now = time.monotonic_ns()
        while self._posted and now - began < STEP_NS:
            function, future = self._posted.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as failure:
                    future.set_exception(failure)
            now = time.monotonic_ns()
        if now - began > STEP_NS // 4:
            self._undisturbed = now + min(now - began, SLICE_NS)

    def run_deferred(self) -> None:
        for _ in range(len(self.deferred)):
            with self._bugs_kept:
                self.deferred.popleft()()

    def _charge_host(self, timeline: Timeline[VCPU], spent: int) -> None:
        """Charge host time to a timeline. A timeline that was idle gets no credit for the time it did not use."""
        timeline.host_ns += spent
        self._most_host_ns = max(self._most_host_ns, timeline.host_ns)
        floor = self._most_host_ns - 10 * SLICE_NS
        for other in self.timelines:
            if other.host_ns < floor:
                other.host_ns = floor

    # -- a slice ---------------------------------------------------------------------------------------------------
    def _slice(self, timeline: Timeline[VCPU]) -> None:
        """Begin a slice of the next vCPU, or continue a slice that was interrupted from outside."""
        turn, began = timeline.turn, timeline.now()
        if turn is None or not turn.vcpu.runnable or timeline.gives_way(turn):
            self._close(timeline, began)
            vcpu = timeline.pick()
            if vcpu is None:
                return
            turn = timeline.turn = Turn(vcpu, began, began + SLICE_NS, WORK_SHARE)
            self.hypervisor.activity.entering(vcpu, began)
        self.current_turn = self.share = turn
        try:
            self._run(timeline, turn)
        except Exception as failure:
            self.hypervisor.failed(turn.vcpu, failure)
        finally:
            self.current_turn = None
            self.share = UNDIVIDED
        ended = timeline.now()
        turn.ran += ended - began
        turn.vcpu.ran += ended - began
        if turn.over or not turn.vcpu.runnable or ended >= turn.end:
            self._close(timeline, ended)

    def _close(self, timeline: Timeline[VCPU], now: int) -> None:
        turn, timeline.turn = timeline.turn, None
        if turn is not None:
            timeline.charge(turn.vcpu, turn.ran)
            self.hypervisor.activity.leaving(turn.vcpu, now)

    def _run(self, timeline: Timeline[VCPU], turn: Turn[VCPU]) -> None:
        hypervisor, vcpu, cpu = self.hypervisor, turn.vcpu, timeline.cpu
        hypervisor.pagetables.deferred = vcpu.deferred
        cpu.load(vcpu)
        # A turn that only something outside broke off goes on as if it had not been: on a virtual timeline the
        # guest must not see, by the moment of an upcall or of its clock page, that it was.
        if turn.looks_again or not timeline.virtual:
            turn.looks_again = False
            if vcpu.runstate_guest:
                hypervisor.activity.show_runstate(vcpu)
            hypervisor.timekeeper.update(vcpu)
            hypervisor.deliver_pending(vcpu)
        if vcpu.runnable and not self.deferred and (not self._posted or time.monotonic_ns() < self._undisturbed):
            self._run_pcpu(timeline, turn)

    def _run_pcpu(self, timeline: Timeline[VCPU], turn: Turn[VCPU]) -> None:
        pcpu = timeline.cpu.pcpu
        due = timeline.next_deadline()
        turn.until = turn.end if due is None else min(turn.end, due)
        if timeline.virtual:
            turn.end = turn.until
        timeline.running = True
        stepping = turn.vcpu.stepping
        if stepping:
            pcpu.debug.step()
        try:
            if isinstance(timeline, VirtualTimeline):
                # The host's clock breaks it off, too, or a guest that exits much would keep others waiting.
                timeline.begin()
                try:
                    broken_off = min(time.monotonic_ns() + HOST_SLICE_NS, self._patience.due)
                    pcpu.run_wall(broken_off, max(turn.until - timeline.now(), 1))
                finally:
                    timeline.end()
            else:
                assert isinstance(timeline, WallTimeline)
                pcpu.run_wall(min(timeline.host_deadline(turn.until), self._patience.due), tick=self._tick)
        finally:
            timeline.running = False
            if stepping:
                pcpu.debug.end_step()  # if it has not come to it

    def _tick(self) -> int | None:
        """A slice on the wall clock is over. If no other work waits, the guest is not stopped.

        This runs on the ticker's thread while guest code runs. Work that arises later, by an exit of the guest or by
        `post`, is noticed at the next tick or stops the pCPU itself.
        """
        turn = self.current_turn
        if turn is None or turn.over or self._posted or self.deferred or self.background or self._over():
            return None
        if self._patience.is_over():
            return None
        timeline = turn.vcpu.domain.timeline
        assert isinstance(timeline, WallTimeline)
        for other in self.timelines:
            for vcpu in other.vcpus:
                if vcpu is not turn.vcpu and (vcpu.runnable or (other.virtual and vcpu.asleep)):
                    return None
        now = timeline.now()
        turn.end = turn.until = now + SLICE_NS
        # Whoever sets a timer meanwhile sees the new end, or we see the timer.
        for due, _, _ in timeline.timers[:1]:
            turn.until = min(turn.end, due)
        return min(timeline.host_deadline(turn.until), self._patience.due) if turn.until > now else None

    # -- nobody can run ----------------------------------------------------------------------------------------------
    def idle(self, deadline: float | None) -> None:
        self._wakeup.clear()  # before the look at what was posted: who posts does it the other way round
        wait = IDLE_WAIT_S
        for timeline in self.timelines:
            due = timeline.next_deadline()
            if due is None or timeline.held:
                continue
            if isinstance(timeline, WallTimeline):
                wait = min(wait, (due - timeline.now()) / 1e9)
            elif isinstance(timeline, VirtualTimeline) and timeline.paced:
                wait = min(wait, timeline.pace_wait(due))
        if deadline is not None:
            wait = min(wait, deadline - time.monotonic())
        if wait > 0 and not self._posted and not self.deferred and not self._patience.waiting:
            self._wakeup.wait(wait)
