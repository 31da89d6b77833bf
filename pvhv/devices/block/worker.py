# SPDX-License-Identifier: GPL-2.0-or-later
"""Work for a disk that takes time: done beside the guests, and heard of on the hypervisor's thread.

On the wall clock that is when it is done. On a virtual clock it is `LATENCY_NS` of the guest's time after it began,
however long it took: until then the guest goes on, and where it is not done by then, the timeline stands still until it
is. A guest cannot tell, and two runs are the same.

So that a flush is a flush, and what is written and then read is what was written, there is one thread for a file, which
does what it is given in that order. (`Thread` is pvhv.toolstack.beside.Beside, of one thread.)

Not modelled: a disk's own time. Each request takes the same, as many as there are.

Read beside it: Scheduler.errand in pvhv/core/sched/scheduler.py, which holds a timeline in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from pvhv.core.domain import Domain
from pvhv.core.sched.scheduler import Scheduler

T = TypeVar("T")
LATENCY_NS = 100_000  # of a virtual timeline: a solid-state disk's, about


class Thread(Protocol):
    """Whoever does it, one after the other."""

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Have it done. Any thread may. Raises RuntimeError where there can be no thread."""


class Worker:
    """One guest's way to the thread that has a file. What is done about an answer is on the guest's account."""

    def __init__(self, thread: Thread, scheduler: Scheduler, domain: Domain) -> None:
        self.thread = thread
        self.scheduler = scheduler
        self.timeline = domain.timeline
        self.account = domain.vcpus[0]

    def begin(self, work: Callable[[], T], finish: Callable[[Future[T]], None]) -> None:
        """Have `work` done, and then `finish` called with what became of it. Raises RuntimeError, and neither is."""
        future = self.thread.do(work)
        errand = _Errand(self, lambda: finish(future))
        if self.timeline.virtual:
            self.timeline.after(self.timeline.now() + LATENCY_NS, errand.due)
        future.add_done_callback(lambda _done: self.scheduler.post(errand.done))


class _Errand:
    """One piece of work: it is heard of when it is done and, on a virtual timeline, due. The timeline is held from when
    it is due until it is heard of, be it done long since: what else is due at that time comes first in either case."""

    __slots__ = ("_finish", "_is_done", "_is_due", "_worker")

    def __init__(self, worker: Worker, finish: Callable[[], None]) -> None:
        self._worker = worker
        self._finish = finish
        self._is_done = False
        self._is_due = not worker.timeline.virtual

    def done(self) -> None:
        self._is_done = True
        self._hear()

    def due(self) -> None:
        self._is_due = True
        self._worker.timeline.held += 1
        self._hear()

    def _hear(self) -> None:
        if self._is_done and self._is_due:
            self._worker.scheduler.defer_for(self._worker.account, self._heard)

    def _heard(self) -> None:
        if self._worker.timeline.virtual:
            self._worker.timeline.held -= 1
        self._finish()
