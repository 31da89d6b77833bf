# SPDX-License-Identifier: GPL-2.0-or-later
"""A thread that calls a function when a deadline passes, and again until it is disarmed.

It is the pCPU's tick on the wall clock. Arming costs one assignment, unless the thread sleeps past the new deadline, so
a scheduler may arm it on every run. The call is repeated because the engine can lose a stop that arrives while it
starts up. The function may also return a later deadline, and is then called again only at that time: so a scheduler's
tick can check for work without stopping the guest.

Invariant: between `arm` and `disarm` the function is called at the deadline or up to the host's
timer slack later, never before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

NEVER: Final = 1 << 63
_REPEAT_NS: Final = 200_000


class Ticker:
    def __init__(self, function: Callable[[], int | None]) -> None:
        self._function = function
        self._deadline = NEVER
        self._due = NEVER  # the same, or the later one that the function returned
        self._wakes_at = NEVER
        self._closed = False
        self._wake = threading.Lock()  # released to wake the thread
        self._wake.acquire()
        self._thread: threading.Thread | None = None

    def arm(self, deadline_ns: int) -> None:
        """Call the function at `deadline_ns` of time.monotonic_ns()."""
        self._deadline = deadline_ns
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="pvhv-ticker", daemon=True)
            self._thread.start()
        elif deadline_ns < self._wakes_at:
            self._rouse()

    def arm_by(self, deadline_ns: int) -> None:
        """Like `arm`, unless it is armed for an earlier time."""
        if deadline_ns < max(self._deadline, self._due):
            self.arm(deadline_ns)

    def disarm(self) -> None:
        self._deadline = NEVER

    def close(self) -> None:
        self._closed = True
        self._deadline = NEVER
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._rouse()
            thread.join()

    def _rouse(self) -> None:
        try:
            self._wake.release()
        except RuntimeError:
            pass  # it is awake already

    def _loop(self) -> None:
        armed = NEVER
        while not self._closed:
            # While the deadline is being read, whoever arms must wake us: they see "never".
            self._wakes_at = NEVER
            if self._deadline != armed:
                self._due = armed = self._deadline
            if armed == NEVER:
                self._wake.acquire()
                continue
            left = self._due - time.monotonic_ns()
            if left <= 0:
                self._due = NEVER  # `arm_by` from now on sets the deadline, for the call may not have seen why
                later = self._function() if self._deadline == armed else None
                self._due = armed if later is None else later
                if later is not None:
                    continue
                left = _REPEAT_NS
                self._wakes_at = time.monotonic_ns() + left
            else:
                self._wakes_at = self._due
            self._wake.acquire(timeout=left / 1e9)
