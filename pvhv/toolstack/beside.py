# SPDX-License-Identifier: GPL-2.0-or-later
"""Work that is done beside the guests: reading files, looking for names in them.

This work has threads of its own, `AT_ONCE` of them at most and none while there is nothing to do. (To begin a thread
costs more than a small piece of work, so one may wait for a while: a disk's does.) A Future has the result. A thread
that is stuck (on a disk that does not answer) keeps the other work waiting, but neither a guest nor the end of the
process.

These threads and the guests take turns with Python's interpreter. So the work has to be done in steps: a call that
keeps the interpreter to itself (a sort of a million things, a copy of a gigabyte) stops the guests as well.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
AT_ONCE = 2


class Beside:
    """Threads that start when there is work, and end when there was none for `linger_s` seconds."""

    def __init__(self, at_once: int = AT_ONCE, linger_s: float = 0.0) -> None:
        """With `at_once` = 1, work is done in the order in which it came."""
        self.at_once = at_once
        self.linger_s = linger_s
        self._queue: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._lock = threading.Lock()  # of these three, which change together:
        self._waiting = 0  # pieces of work that no thread has
        self._threads = 0
        self._idle = 0  # of these, those that have no work

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Have `work()` called on one of the threads; the Future has its result. Any thread may call this."""
        future: Future[T] = Future()
        with self._lock:
            if self._waiting >= self._idle and self._threads < self.at_once:
                try:
                    threading.Thread(target=self._run, name="beside", daemon=True).start()
                    self._threads += 1
                except RuntimeError:  # the host allows no more threads
                    if not self._threads:
                        raise
            self._waiting += 1
            self._queue.put((work, future))
        return future

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            work, future = taken
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as failure:
                    future.set_exception(failure)
            del taken, work, future  # and what they hold, while we wait

    def _next(self) -> tuple[Callable[[], Any], Future[Any]] | None:
        """The next piece of work; None if this thread shall end."""
        with self._lock:
            self._idle += 1
        try:
            taken = self._queue.get(timeout=self.linger_s)
        except Empty:
            taken = None
        with self._lock:
            self._idle -= 1
            if taken is None and self._waiting:  # it came in this moment, if no other thread is about to have it
                with suppress(Empty):
                    taken = self._queue.get_nowait()
            if taken is None:
                self._threads -= 1
            else:
                self._waiting -= 1
        return taken


def settle(future: Future[T], result: Any = None, failure: Exception | None = None) -> bool:
    """Set a Future's result, or its failure. False if the Future was cancelled: nobody waits for it."""
    if not future.set_running_or_notify_cancel():
        return False
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
    return True


async def await_or_undo(future: Future[T], undo: Callable[[T], object]) -> T:
    """Wait for what is made for a client. If the client goes meanwhile, `undo(result)` is called when it is made."""
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        future.add_done_callback(
            lambda done: None if done.cancelled() or done.exception() else undo(done.result())
        )
        raise
