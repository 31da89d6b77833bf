# SPDX-License-Identifier: GPL-2.0-or-later
"""File I/O for a disk of any kind: it runs on another thread, and its end is reported on the hypervisor's thread.

On the wall clock the end is reported when the work is done. On a virtual clock it is reported a fixed time of the guest
after the work began (`disk_latency` in the domain file), however long the host took. Until then the guest goes on. If
the work is not done by then, the timeline is held until it is. So nothing that the guest can see depends on the host,
and two runs are the same.

Each file has one thread, which does the work in the order in which it came. So a flush comes after the writes before
it, and a read returns what was written before it. (The thread is a pvhv.toolstack.beside.Beside with one thread.)

What is done while the hypervisor's thread is busy is reported together: a thread wakes it once, however much it did.

Both the backend of a split driver (pvhv/devices/block) and the disks of a PC (pvhv/hvm/platform) use it.

Not modelled: how long a real disk takes. Each request takes the same time, however large it is and however many others
there are.

Read beside it: Scheduler.errand in scheduler.py, which holds a timeline in the same way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Protocol, TypeVar

from pvhv.core.domain import Domain
from pvhv.core.sched.scheduler import Scheduler

T = TypeVar("T")
LATENCY_NS = 100_000  # of a virtual timeline, unless the domain file says otherwise: a solid-state disk's, about


class Thread(Protocol):
    """Does work, one piece after the other."""

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Have `work` done. May be called on any thread. Raises RuntimeError if the host allows no thread."""


class Worker:
    """The connection of one domain to the thread of a file. The time that `finish` takes is charged to the domain."""

    def __init__(self, thread: Thread, scheduler: Scheduler, domain: Domain, latency_ns: int = LATENCY_NS) -> None:
        self.thread = thread
        self.scheduler = scheduler
        self.domain = domain
        self.timeline = domain.timeline
        self.account = domain.vcpus[0]
        self.latency_ns = latency_ns
        self._done: deque[_Errand] = deque()  # by the thread, and not looked at yet
        self._told = False  # whether the hypervisor's thread will look at them

    def in_pieces(self, work: Iterator[int]) -> None:
        """Do work of the hypervisor's thread without keeping other domains waiting. It yields the cost of a piece."""
        self.scheduler.errand(work, self.domain)

    def begin(self, work: Callable[[], T], finish: Callable[[Future[T]], None]) -> None:
        """Have `work` done, and then `finish` called with its result. Raises RuntimeError, and then neither happens."""
        future = self.thread.do(work)
        errand = _Errand(self, lambda: finish(future))
        if self.timeline.virtual:
            self.timeline.after(self.timeline.now() + self.latency_ns, errand.due)
        future.add_done_callback(lambda _done: self._is_done(errand))

    def _is_done(self, errand: _Errand) -> None:
        """On the thread of the file."""
        self._done.append(errand)
        if not self._told:
            self._told = True
            self.scheduler.post(self._look)

    def _look(self) -> None:
        self._told = False  # before the queue is emptied: what comes into it from now on is told again
        ready = []
        while self._done:
            errand = self._done.popleft()
            errand.is_done = True
            if errand.is_due:
                ready.append(errand)
        if ready:
            self.report(ready)

    def report(self, errands: list[_Errand]) -> None:
        """Report their ends soon, at the domain's expense."""

        def all_of_them() -> None:
            for errand in errands:
                errand.report()

        self.scheduler.defer_for(self.account, all_of_them)


class _Errand:
    """One piece of work. Its end is reported when it is done and, on a virtual timeline, due.

    The timeline is held from the time when it is due until its end is reported, even if it was done before. So timers
    that are due at the same time come first in either case."""

    __slots__ = ("_finish", "_worker", "is_done", "is_due")

    def __init__(self, worker: Worker, finish: Callable[[], None]) -> None:
        self._worker = worker
        self._finish = finish
        self.is_done = False
        self.is_due = not worker.timeline.virtual

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
        self._finish()
