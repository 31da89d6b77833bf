# SPDX-License-Identifier: GPL-2.0-or-later
"""Long work of an image's thread, cut into shares, so that guests run meanwhile.

That thread and the guests take turns with Python's interpreter. A guest needs it at each of its exits. A thread that
waits for the host (it reads, it writes, it sleeps) gives it up at once; one that only computes keeps it for the switch
interval, a millisecond, and the guest waits that long at every exit. So whatever goes over many entries of tables
gives way after each share. A share takes about 50 us.

One call of the interpreter is not cut: what is handed to it (to sort, to join) has a bound.

Read beside it: SWITCH_INTERVAL_S in pvhv/toolstack/daemon.py; pvhv/toolstack/beside.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
SHARE = 256  # entries of a table


def give_way() -> None:
    """Let a guest that waits for the interpreter have it."""
    time.sleep(0)


def in_shares(items: Iterable[T], size: int = SHARE) -> Iterator[T]:
    """The same items; after each `size` of them, others may run."""
    for count, item in enumerate(items, 1):
        yield item
        if not count % size:
            give_way()
