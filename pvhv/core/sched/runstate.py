# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a vCPU's time went: running, runnable, blocked, offline.

The four times always add up to the time since the vCPU was made; `enter` is the only way to change state.

Read beside it: vcpu_runstate_change in xen/common/sched/core.c, xen/include/public/vcpu.h.
"""

from __future__ import annotations

from pvhv.abi.vcpu import RUNSTATE_blocked, RUNSTATE_offline, RUNSTATE_runnable, RUNSTATE_running

RUNNING, RUNNABLE, BLOCKED, OFFLINE = RUNSTATE_running, RUNSTATE_runnable, RUNSTATE_blocked, RUNSTATE_offline
NAMES = ("running", "runnable", "blocked", "offline")


class Runstate:
    """`state` since `entered` (ns of system time), and the ns spent in each state before that."""

    __slots__ = ("entered", "spent", "state")

    def __init__(self) -> None:
        self.state = OFFLINE
        self.entered = 0
        self.spent = [0, 0, 0, 0]

    def enter(self, state: int, now: int) -> None:
        """Change to `state` at `now`; entering the state it is in only brings the times up to date."""
        self.spent[self.state] += now - self.entered
        self.state = state
        self.entered = now

    def times(self, now: int) -> list[int]:
        """ns in each state up to `now`."""
        times = list(self.spent)
        times[self.state] += now - self.entered
        return times
