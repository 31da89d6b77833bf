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
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
AT_ONCE = 2


class Beside:
    """Threads that start when there is work, and end when there was none for `linger_s` seconds."""

    def __init__(self, at_once: int = AT_ONCE, linger_s: float = 0.0) -> None:
        """With `at_once` = 1, work is done in the order in which it came."""
        self.at_once = at_once
        self.linger_s = linger_s
        self._lock = threading.Lock()
        self._more = threading.Condition(self._lock)  # there is work, and a thread that waits for some
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._threads = 0
        self._idle = 0  # of these, those that wait

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Have `work()` called on one of the threads; the Future has its result. Any thread may call this."""
        future: Future[T] = Future()
        with self._lock:
            self._waiting.append((work, future))
            if self._idle:
                self._more.notify()
            if len(self._waiting) > self._idle and self._threads < self.at_once:
                try:
                    threading.Thread(target=self._run, name="beside", daemon=True).start()
                    self._threads += 1
                except RuntimeError:  # the host allows no more threads
                    if not self._threads:
                        self._waiting.pop()
                        raise
        return future

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting and self.linger_s:
                    self._idle += 1
                    self._more.wait(self.linger_s)
                    self._idle -= 1
                if not self._waiting:
                    self._threads -= 1
                    return
                work, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as failure:
                    future.set_exception(failure)
            del work, future  # and what they hold, while we wait


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
