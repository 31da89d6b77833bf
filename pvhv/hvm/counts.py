# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters for a run of a fully virtualized guest: exits, assists, callouts.

An *exit* is an event that would leave the guest on the technique's real hardware, too; it has the hardware's name. An
*assist* is work that pvhv does for the CPU because the engine cannot (deliver through the guest's IDT, execute SYSCALL,
answer RDTSC in virtual time); it is not an exit, and cost tables do not count it. A *callout* is work that a binary
translator's inline code would do.

The counters only grow; for the cost of one operation, take the difference of two `snapshot`s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any


class Counts:
    """Counters by name; a listener, if set, gets each event in order."""

    def __init__(self) -> None:
        self.exits: Counter[str] = Counter()
        self.assists: Counter[str] = Counter()
        self.callouts: Counter[str] = Counter()
        self.events: Counter[str] = Counter()  # shadow_fills, nested_fills, tlb_flushes, emulated_instructions, ...
        self.listener: Callable[[str, str, str], None] | None = None  # (kind, reason, detail)

    def exit(self, reason: str, detail: str = "") -> None:
        """Count an exit."""
        self.exits[reason] += 1
        if self.listener is not None:
            self.listener("exit", reason, detail)

    def assist(self, kind: str, detail: str = "") -> None:
        """Count an assist."""
        self.assists[kind] += 1
        if self.listener is not None:
            self.listener("assist", kind, detail)

    def callout(self, instruction: str, detail: str = "") -> None:
        """Count a callout."""
        self.callouts[instruction] += 1
        if self.listener is not None:
            self.listener("callout", instruction, detail)

    def add(self, event: str, count: int = 1) -> None:
        """Count something else."""
        self.events[event] += count

    def snapshot(self) -> dict[str, Any]:
        """All counters, as plain values."""
        return {
            "exits": dict(self.exits),
            "assists": dict(self.assists),
            "callouts": dict(self.callouts),
            "events": dict(self.events),
        }
