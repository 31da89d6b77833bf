# SPDX-License-Identifier: GPL-2.0-or-later
"""The counters of a physical CPU: instructions its guests executed, and the TSC that their rdtsc reads.

The instruction count is exact at every exit; the virtual clock is made from it (clock.py), and a pCPU of the wall clock
does not count. The TSC is the host's counter; its frequency is measured here, once in a process.

It does not know clocks. Read beside it: pacer_code.h, for how instructions are counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pvhv.machine import pacer as pace
from pvhv.machine.features import Features
from pvhv.machine.hardware import Hardware
from pvhv.machine.ram import Ram


class Counters(Hardware):
    """The counters of one pCPU."""

    def __init__(self, ram: Ram, virtual: bool, features: Features) -> None:
        super().__init__(ram, virtual, features)
        self._tsc = pace.library().pacer_tsc

    def _count_from_zero(self) -> None:
        self._words[pace.EXECUTED] = self._words[pace.EXECUTED_USER] = 0

    @property
    def executed(self) -> int:
        """Guest instructions executed so far, exact at every exit (virtual clock; else 0)."""
        return self._words[pace.EXECUTED]

    @property
    def executed_user(self) -> int:
        """Guest instructions that users executed, at CPL 3, if the pCPU counts by mode."""
        return self._words[pace.EXECUTED_USER]

    @property
    def tsc_khz(self) -> int:
        """The frequency, in kHz, of the counter that a native rdtsc reads, as measured in the engine."""
        global _khz
        if _khz is None:
            _khz = frequency(self.read_tsc)
        return _khz

    def read_tsc(self) -> int:
        """The current value of the counter that the guest's rdtsc reads."""
        return self._tsc() or time.monotonic_ns()


_khz: int | None = None


def frequency(counter: Callable[[], int]) -> int:
    """The frequency of a counter, in kHz, measured over 20 ms of the host's clock."""

    def sample() -> tuple[int, int]:
        best = None
        for _ in range(20):
            before = time.monotonic_ns()
            value = counter()
            after = time.monotonic_ns()
            if best is None or after - before < best[0]:
                best = after - before, (before + after) // 2, value
        assert best is not None
        return best[1], best[2]

    start_ns, start = sample()
    time.sleep(0.02)
    end_ns, end = sample()
    return round((end - start) * 1_000_000 / (end_ns - start_ns))
