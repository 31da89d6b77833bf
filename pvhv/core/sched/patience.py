# SPDX-License-Identifier: GPL-2.0-or-later
"""Work that can wait for a moment: until the vCPU that runs leaves the engine anyway, but not longer than `SOON_NS`.

To leave a guest and to come back costs more than much of what dom0's backends do. A front end that has one request
often has another: it signals the first one, which is begun inside its hypercall, and puts the others behind it. A
thread that has read one thing from a file often reads the next one. So both wait until the guest has nothing to do,
which is mostly at once, or until something else stops it. Network cards and disks hold their interrupts back in the
same way.

Any thread may add work; the hypervisor's thread takes all of it at the beginning of a turn.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from pvhv.machine.ticker import NEVER

SOON_NS = 1_000_000  # of host time


class Patience:
    """Functions that wait, and until when (of time.monotonic_ns()) they do."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], None]] = deque()
        self.due = NEVER

    def add(self, function: Callable[[], None]) -> None:
        """One more. It is due when the first one is."""
        self.waiting.append(function)
        if self.due == NEVER:
            self.due = time.monotonic_ns() + SOON_NS

    def is_over(self) -> bool:
        """Whether one has waited long enough."""
        return time.monotonic_ns() >= self.due

    def take(self) -> Iterator[Callable[[], None]]:
        """All of them."""
        # First: what is added from now on is due later. Also if none waits: one that was added while the last ones were
        # taken may have been taken with them, and have set the time afterwards.
        self.due = NEVER
        for _ in range(len(self.waiting)):
            yield self.waiting.popleft()
