# SPDX-License-Identifier: GPL-2.0-or-later
"""The two clocks: the host's, and one that advances with guest instructions and nothing else.

System time (`now_ns`) starts at 0 when a clock is made.  On the virtual clock one guest
instruction is one nanosecond, idle time passes by `skip_to`, and the date starts at a fixed
instant, so that the same program sees the same time on every machine.

Invariant: `now_ns` never goes back. It does not know deadlines or timers: core/sched/timeline.py does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

NS: Final = 1_000_000_000  # in a second

# Sunday 2003-10-19 12:00:00 UTC: the day SOSP opened at which Xen was presented.
VIRTUAL_START_NS: Final = 1_066_564_800 * NS


class WallClock:
    """The host's monotonic time and date."""

    def __init__(self) -> None:
        self._start = time.monotonic_ns()

    def now_ns(self) -> int:
        return time.monotonic_ns() - self._start

    def wallclock(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()


class VirtualClock:
    """Time by instructions executed.

    While a pCPU runs for this clock, `attach` its counter (a callable that returns PCPU's `executed`). Several pCPUs,
    or several domains on one, share a clock by attaching in turn.
    """

    def __init__(self, start_ns: int = VIRTUAL_START_NS) -> None:
        self._base = 0  # now, when no counter is attached; else now minus the counter
        self._counter: Callable[[], int] | None = None
        self._date = start_ns

    def attach(self, counter: Callable[[], int]) -> None:
        if self._counter is not None:
            raise RuntimeError("a virtual clock follows one pCPU at a time")
        self._base -= counter()
        self._counter = counter

    def detach(self) -> None:
        self._base = self.now_ns()
        self._counter = None

    def now_ns(self) -> int:
        counter = self._counter
        return self._base if counter is None else self._base + counter()

    def skip_to(self, ns: int) -> None:
        """Set the time to `ns`, if that is later: idle time, without instructions."""
        ahead = ns - self.now_ns()
        if ahead > 0:
            self._base += ahead

    def wallclock(self) -> int:
        """Nanoseconds since 1970."""
        return self._date + self.now_ns()
