# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmark kernels, run as guests, each sample paired with its yardstick.

A benchmark kernel says "begin=ROW", does its work, and says "ROW=TICKS/OPERATIONS". The console backend hears the
first line while the guest waits, and that is when the yardstick of the row is measured: so both halves of a
ratio are taken within milliseconds of each other, on whatever the host is doing just then.

A guest times short round trips itself, by rdtsc, and reports the shortest of a few tries. Where a row is one try of
tens of milliseconds, the host takes the time, from the end of the first line to the second: for a virtual rdtsc
counts instructions, and only the host can tell what other processes took away meanwhile, which is not counted on
either side. The console's part in it is less than a hundredth of a millisecond in ten.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from pvhv.testing import Machine
from pvhv.toolstack.guest import Guest
from tools.benchmark.bare import lost_ns, without

TIMEOUT_S = 300.0
MEASURED = re.compile(r"\d+/\d+")


class Sample(NamedTuple):
    """One measurement of a row: ns for one operation in the guest, and what its yardstick took."""

    ns: float
    yardstick_ns: float


class Failed(RuntimeError):
    """A benchmark kernel failed, or did not end."""


class Ear:
    """Hears what a guest reports. `yardstick(row)` is called while the guest waits.

    `one_try` says that between two lines there is one long try, not the best of several short ones. `by_guest` says
    that the guest takes the time all the same, because its lines take long to arrive.
    """

    def __init__(
        self,
        guest: Guest,
        yardstick: Callable[[str], float],
        tsc_khz: int,
        one_try: bool = False,
        by_guest: bool = False,
    ) -> None:
        self.samples: dict[str, list[Sample]] = defaultdict(list)
        self.yardstick = yardstick
        self.tsc_khz = tsc_khz
        self.one_try = one_try
        self.by_guest = by_guest
        self._line = b""
        self._yard = 0.0
        self._began = self._lost = 0
        self._reader = guest.console.follow(self._more)

    def _more(self) -> None:
        heard, lost = time.perf_counter_ns(), lost_ns()
        *lines, self._line = (self._line + self._reader.take()).split(b"\n")
        for line in lines:
            row, equals, value = line.decode("ascii", "replace").strip().partition("=")
            if row == "begin":
                self._yard = self.yardstick(value)
                self._began, self._lost = time.perf_counter_ns(), lost_ns()
            elif equals and MEASURED.fullmatch(value):
                ticks, operations = map(int, value.split("/"))
                took = ticks * 1_000_000 / self.tsc_khz
                if self.one_try:
                    took = took if self.by_guest else float(heard - self._began)
                    took = without(lost - self._lost, took)
                self.samples[row].append(Sample(took / operations, self._yard))


def finish(machine: Machine, guest: Guest, *, timeout: float = TIMEOUT_S) -> None:
    """Run until the guest is done. Raises Failed unless it says PASS."""
    machine.run(guest, timeout=timeout)
    result = machine.result(guest)
    if not result.passed:
        raise Failed(f"{guest.name}: {result.ending}\n{result.output[-2000:]}\n{result.report}")
