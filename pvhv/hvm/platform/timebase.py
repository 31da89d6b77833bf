# SPDX-License-Identifier: GPL-2.0-or-later
"""What the devices need of a timeline: an interface, so that a test can use a timeline of its own.

All times are whole nanoseconds. A device turns them into ticks of its own clock by integer division only, and a
tick into the first nanosecond that belongs to it; `first_ns` is therefore an exact inverse of `ticks`, on every
machine and after any length of time. A callback may come late (the guest was not scheduled); a device then works
from the time it is, not from the time it asked for, but its next event stays on the grid it began with.

Read beside it: pvhv/core/sched/timeline.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pvhv.machine.clock import NS


class Cancellable(Protocol):
    """A timer that was set."""

    def cancel(self) -> None:
        """Cancel the call. Nothing happens if it was made already."""


class Timebase(Protocol):
    """A clock with timers on it."""

    def now(self) -> int:
        """ns since the timeline began."""

    def wallclock(self) -> int:
        """ns since 1970 at time zero."""

    def after(self, deadline: int, callback: Callable[[], None], /) -> Cancellable:
        """Call `callback` at `deadline` (absolute), or as soon as possible after it."""


def ticks(ns: int, hertz: int) -> int:
    """How many ticks of a clock that began at time zero have passed."""
    return ns * hertz // NS


def first_ns(tick: int, hertz: int) -> int:
    """The first nanosecond at which `tick` ticks have passed."""
    return -(-tick * NS // hertz)
