# SPDX-License-Identifier: GPL-2.0-or-later
"""File I/O for a disk of any kind: it runs on another thread, and its end is reported on the hypervisor's thread.

On the wall clock the end is reported when the work is done. On a virtual clock it is reported `LATENCY_NS` of guest
time after the work began, however long the host took. Until then the guest goes on. If the work is not done by then,
the timeline is held until it is. So nothing that the guest can see depends on the host, and two runs are the same.

Each file has one thread, which does the work in the order in which it came. So a flush comes after the writes before
it, and a read returns what was written before it. (The thread is a pvhv.toolstack.beside.Beside with one thread.)

Both the backend of a split driver (pvhv/devices/block) and the disks of a PC (pvhv/hvm/platform) use it.

Not modelled: how long a real disk takes. Each request takes the same time, however large it is and however many others
there are.

Read beside it: Scheduler.errand in scheduler.py, which holds a timeline in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Protocol, TypeVar

from pvhv.core.domain import Domain
from pvhv.core.sched.scheduler import Scheduler

T = TypeVar("T")
LATENCY_NS = 100_000  # of a virtual timeline: a solid-state disk's, about


class Thread(Protocol):
    """Does work, one piece after the other."""

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Have `work` done. May be called on any thread. Raises RuntimeError if the host allows no thread."""


class Worker:
    """The connection of one domain to the thread of a file. The time that `finish` takes is charged to the domain."""

    def __init__(self, thread: Thread, scheduler: Scheduler, domain: Domain) -> None:
        self.thread = thread
        self.scheduler = scheduler
        self.domain = domain
        self.timeline = domain.timeline
        self.account = domain.vcpus[0]

    def in_pieces(self, work: Iterator[int]) -> None:
        """Do work of the hypervisor's thread without keeping other domains waiting. It yields the cost of a piece."""
        self.scheduler.errand(work, self.domain)

    def begin(self, work: Callable[[], T], finish: Callable[[Future[T]], None]) -> None:
        """Have `work` done, and then `finish` called with its result. Raises RuntimeError, and then neither happens."""
        future = self.thread.do(work)
        errand = _Errand(self, lambda: finish(future))
        if self.timeline.virtual:
            self.timeline.after(self.timeline.now() + LATENCY_NS, errand.due)
        future.add_done_callback(lambda _done: self.scheduler.post(errand.done))


class _Errand:
    """One piece of work. Its end is reported when it is done and, on a virtual timeline, due.

    The timeline is held from the time when it is due until its end is reported, even if it was done before. So timers
    that are due at the same time come first in either case."""

    __slots__ = ("_finish", "_is_done", "_is_due", "_worker")

    def __init__(self, worker: Worker, finish: Callable[[], None]) -> None:
        self._worker = worker
        self._finish = finish
        self._is_done = False
        self._is_due = not worker.timeline.virtual

    def done(self) -> None:
        self._is_done = True
        self._look()

    def due(self) -> None:
        self._is_due = True
        self._worker.timeline.held += 1
        self._look()

    def _look(self) -> None:
        if self._is_done and self._is_due:
            self._worker.scheduler.defer_for(self._worker.account, self._report)

    def _report(self) -> None:
        if self._worker.timeline.virtual:
            self._worker.timeline.held -= 1
        self._finish()
