# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run of a fully virtualized guest is made of, counted.

An *exit* is what the technique's real hardware would take, under the name it has there. An *assist* is what pvhv does
in the CPU's place because the engine cannot (deliver through the guest's IDT, execute SYSCALL, answer RDTSC in virtual
time): it is no exit, and no cost table prices it. A *callout* is what a binary translator's inline code would do.

Everything here only ever grows; who wants to know what one operation costs takes the difference of two `snapshot`s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any


class Counts:
    """Counters by name, and (when somebody listens) the sequence of exits."""

    def __init__(self) -> None:
        self.exits: Counter[str] = Counter()
        self.assists: Counter[str] = Counter()
        self.callouts: Counter[str] = Counter()
        self.events: Counter[str] = Counter()  # shadow_fills, nested_fills, tlb_flushes, emulated_instructions, ...
        self.listener: Callable[[str, str, str], None] | None = None  # (kind, reason, detail)

    def exit(self, reason: str, detail: str = "") -> None:
        """The guest left for the monitor."""
        self.exits[reason] += 1
        if self.listener is not None:
            self.listener("exit", reason, detail)

    def assist(self, kind: str, detail: str = "") -> None:
        """Something done for the CPU."""
        self.assists[kind] += 1
        if self.listener is not None:
            self.listener("assist", kind, detail)

    def callout(self, instruction: str, detail: str = "") -> None:
        """Translated code did what an instruction of the guest's stands for."""
        self.callouts[instruction] += 1
        if self.listener is not None:
            self.listener("callout", instruction, detail)

    def add(self, event: str, count: int = 1) -> None:
        """Anything else."""
        self.events[event] += count

    def snapshot(self) -> dict[str, Any]:
        """All of it now, as plain values."""
        return {
            "exits": dict(self.exits),
            "assists": dict(self.assists),
            "callouts": dict(self.callouts),
            "events": dict(self.events),
        }
