# SPDX-License-Identifier: GPL-2.0-or-later
"""A ledger of time: at every moment exactly one account is charged, so that all of them add up to the whole.

`enter` opens an account inside of the present one and `leave` goes back: what a hypercall takes out of the middle of
the scheduler's time is the hypercall's, and is not the scheduler's as well. Nothing is estimated, and no
time is left out; the time to read the clock is charged as well, to the account that is entered or left.

One thread only: the profiled one.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

REST = "everything else"


class Entry(NamedTuple):
    """What an account has been charged, and how often it was entered."""

    ns: int
    count: int


class Ledger:
    """The accounts. Tests may give another clock."""

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock = clock
        self._ns: dict[str, int] = defaultdict(int)
        self._counts: dict[str, int] = defaultdict(int)
        self._open = [REST]
        self._began = self._since = clock()

    def enter(self, account: str) -> None:
        """From now on time is `account`'s."""
        now = self._clock()
        self._ns[self._open[-1]] += now - self._since
        self._since = now
        self._counts[account] += 1
        self._open.append(account)

    def leave(self) -> None:
        """From now on time is charged to the account before again."""
        now = self._clock()
        self._ns[self._open.pop()] += now - self._since
        self._since = now

    def charging(self, account: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, its time charged to `account`."""
        enter, leave = self.enter, self.leave

        def charged(*arguments: Any, **named: Any) -> Any:
            enter(account)
            try:
                return function(*arguments, **named)
            finally:
                leave()

        return charged

    def entries(self) -> dict[str, Entry]:
        """Every account so far, with the time since the last entry."""
        now = self._clock()
        self._ns[self._open[-1]] += now - self._since
        self._since = now
        return {account: Entry(ns, self._counts[account]) for account, ns in self._ns.items() if ns}

    @property
    def whole(self) -> int:
        """ns from the ledger's beginning to its last entry: the sum of all accounts."""
        return self._since - self._began


def between(before: dict[str, Entry], after: dict[str, Entry]) -> dict[str, Entry]:
    """What was charged between two readings of a ledger."""
    found = {}
    for account, (ns, count) in after.items():
        ns_before, count_before = before.get(account, Entry(0, 0))
        if ns > ns_before:
            found[account] = Entry(ns - ns_before, count - count_before)
    return found
