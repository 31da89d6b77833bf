# SPDX-License-Identifier: GPL-2.0-or-later
"""File I/O for a disk of any kind: it runs on another thread, and its end is reported on the hypervisor's thread.

On the wall clock the end is reported when the work is done. On a virtual clock it is reported a fixed time of the guest
after the work began (`disk_latency` in the domain file), however long the host took. Until then the guest goes on. If
the work is not done by then, the timeline is held until it is. So nothing that the guest can see depends on the host,
and two runs are the same.

Each file has one thread, which does the work in the order in which it came. So a flush comes after the writes before
it, and a read returns what was written before it. (The thread is a pvhv.toolstack.beside.Beside with one thread.)

To wake a thread costs more than most requests. So the thread is woken for the first piece of work, and looks for more
itself before it rests; and it reports what it has done when it rests, or after `REPORT_NS` at the latest. A report does
not interrupt a guest at once (Scheduler.soon). A disk's controller holds its interrupts back in the same way.

Both the backend of a split driver (pvhv/devices/block) and the disks of a PC (pvhv/hvm/platform) use it.

Not modelled: how long a real disk takes. Each request takes the same time, however large it is and however many others
there are.

Read beside it: Scheduler.errand in scheduler.py, which holds a timeline in the same way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from pvhv.core.domain import Domain
from pvhv.core.sched.scheduler import Scheduler

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
LATENCY_NS = 100_000  # of a virtual timeline, unless the domain file says otherwise: a solid-state disk's, about
REPORT_NS = 1_000_000  # of host time: what is done sooner after the last report waits for what is being done
AT_ONCE = 32  # pieces of work for one domain, before others who use the file have a turn


class Done(Protocol[R_co]):
    """What became of a piece of work. (A Future that is done is one.)"""

    def result(self) -> R_co:
        """What it returned; raises what it raised."""

    def exception(self) -> BaseException | None:
        """What it raised."""


class Thread(Protocol):
    """Does work, one piece after the other."""

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Have `work` done. May be called on any thread. Raises RuntimeError if the host allows no thread."""


class Worker:
    """The connection of one domain to the thread of a file. The time that `finish` takes is charged to the domain."""

    def __init__(self, thread: Thread, scheduler: Scheduler, domain: Domain, latency_ns: int = LATENCY_NS) -> None:
        self.scheduler = scheduler
        self.domain = domain
        self.timeline = domain.timeline
        self.account = domain.vcpus[0]
        self.latency_ns = latency_ns
        self.on_reported: Callable[[], None] = lambda: None  # called after the reports of all that was done together
        self._lane = _Lane(thread, self._look, scheduler, domain)

    @property
    def thread(self) -> Thread:
        """That of the file. Another one may take its place while nothing is under way."""
        return self._lane.thread

    @thread.setter
    def thread(self, thread: Thread) -> None:
        self._lane = _Lane(thread, self._look, self.scheduler, self.domain)

    def in_pieces(self, work: Iterator[int]) -> None:
        """Do work of the hypervisor's thread without keeping other domains waiting. It yields the cost of a piece."""
        self.scheduler.errand(work, self.domain)

    def begin(self, work: Callable[[], T], finish: Callable[[Done[T]], None]) -> None:
        """Have `work` done, and then `finish` called with what became of it. Raises RuntimeError, and then neither
        happens."""
        errand = _Errand(self, work, finish)
        self._lane.add(errand)
        if self.timeline.virtual:
            self.timeline.after(self.timeline.now() + self.latency_ns, errand.due)

    def look(self, work: Callable[[], bool], then: Callable[[], None]) -> None:
        """Have `work` done, which nearly always finds nothing: then it costs the hypervisor's thread no more than this
        call. If it returns True, `then()` is called. Not for a virtual timeline. Raises RuntimeError, and then neither
        happens."""

        def looked() -> None:
            if work():
                self.scheduler.soon(partial(self.scheduler.defer_for, self.account, then), self.domain)

        self.thread.do(looked)

    def _look(self, done: list[_Errand[Any]]) -> None:
        """On the hypervisor's thread: these are done."""
        for errand in done:
            errand.is_done = True
        self.report([errand for errand in done if errand.is_due])

    def report(self, errands: list[_Errand[Any]]) -> None:
        """Report their ends soon, at the domain's expense."""

        def all_of_them() -> None:
            for errand in errands:
                errand.report()
            self.on_reported()

        if errands:
            self.scheduler.defer_for(self.account, all_of_them)


class _Lane:
    """Work on its way to one thread, and back from it."""

    def __init__(
        self, thread: Thread, look: Callable[[list[_Errand[Any]]], None], scheduler: Scheduler, domain: Domain
    ) -> None:
        self.thread = thread
        self._look = look
        self._scheduler = scheduler
        self._domain = domain
        self._waiting: deque[_Errand[Any]] = deque()
        self._served = False  # whether the thread will look for more
        self._done: deque[_Errand[Any]] = deque()  # by the thread, and not looked at yet
        self._told = False  # whether the hypervisor's thread will look at them

    def add(self, errand: _Errand[Any]) -> None:
        """On the hypervisor's thread. Raises RuntimeError if the host allows no thread."""
        # First the errand, then the look at `served`; the thread does it the other way round. So one of both sees it.
        self._waiting.append(errand)
        if not self._served:
            self._served = True
            try:
                self.thread.do(self._serve)
            except RuntimeError:
                self._served = False
                self._waiting.pop()
                raise

    def _serve(self) -> None:
        """On the thread of the file."""
        waiting, report_at = self._waiting, time.monotonic_ns() + REPORT_NS
        for _ in range(AT_ONCE):
            if not waiting:
                self._tell()
                self._served = False
                if not waiting:
                    return
                self._served = True
            errand = waiting.popleft()
            errand.do()
            self._done.append(errand)
            if time.monotonic_ns() >= report_at:
                self._tell()
                report_at = time.monotonic_ns() + REPORT_NS
        self._tell()
        self.thread.do(self._serve)  # behind what others want of it

    def _tell(self) -> None:
        if self._done and not self._told:
            self._told = True
            self._scheduler.soon(self._take, self._domain)

    def _take(self) -> None:
        """On the hypervisor's thread."""
        self._told = False  # before the queue is emptied: what comes into it from now on is told again
        done = []
        while self._done:
            done.append(self._done.popleft())
        self._look(done)


class _Errand(Generic[T]):
    """One piece of work. Its end is reported when it is done and, on a virtual timeline, due.

    The timeline is held from the time when it is due until its end is reported, even if it was done before. So timers
    that are due at the same time come first in either case."""

    __slots__ = ("_failure", "_finish", "_value", "_work", "_worker", "is_done", "is_due")

    def __init__(self, worker: Worker, work: Callable[[], T], finish: Callable[[Done[T]], None]) -> None:
        self._worker = worker
        self._work: Callable[[], T] | None = work
        self._finish = finish
        self._failure: BaseException | None = None
        self.is_done = False
        self.is_due = not worker.timeline.virtual

    def do(self) -> None:
        """On the thread of the file: do the work."""
        work, self._work = self._work, None  # and what it holds
        assert work is not None
        try:
            self._value = work()
        except BaseException as failure:
            self._failure = failure

    def result(self) -> T:
        """What it returned; raises what it raised."""
        if self._failure is not None:
            raise self._failure
        return self._value

    def exception(self) -> BaseException | None:
        """What it raised."""
        return self._failure

    def due(self) -> None:
        """The guest's time has come at which it may be reported."""
        self.is_due = True
        self._worker.timeline.held += 1
        if self.is_done:
            self._worker.report([self])

    def report(self) -> None:
        """Report its end."""
        if self._worker.timeline.virtual:
            self._worker.timeline.held -= 1
        self._finish(self)
