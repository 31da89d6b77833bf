# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the benchmarks under the techniques, and counts.

Each pair of benchmark and technique is a boot of its own, on a machine made for it and on the virtual clock: so a
number does not depend on what else is asked for, and is the same in every run and on every machine. The guest's shell
is told `measure NAME`; the guest checks its own work and reports success, which counts only together with the marks
that the watcher saw.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pvhv.compare.errors import CompareError, TechniqueNotAvailable
from pvhv.compare.names import PV
from pvhv.compare.records import Comparison, Counts, Step
from pvhv.compare.watcher import Watcher
from pvhv.core.errors import HypercallError
from pvhv.hvm.techniques.registry import TECHNIQUES as FULL
from pvhv.machine import ctrl_c
from pvhv.testing import Machine
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import Guest

# Called before each benchmark: (technique, bench, how many are done, of how many).
Progress = Callable[[str, str, int, int], None]

MEMORY_MIB = 64
TIMEOUT_S = 120.0
NATIVE_KERNEL, PV_KERNEL = "guest-native", "guest-pv"
NOT_UNDER = {
    ("in", PV): "a paravirtual guest has no I/O ports",
    ("cr8wr", PV): "a paravirtual guest has no task priority register: interrupts are event channels",
}
SAID = re.compile(r"^(?P<name>[\w-]+): (?P<what>ok (?P<count>\d+)|none|failed)", re.MULTILINE)


class BenchmarkFailed(CompareError):
    """A benchmark did not end, or did its work wrongly. It has no valid numbers."""


def run(
    techniques: Sequence[str],
    benches: Sequence[str],
    *,
    progress: Progress | None = None,
    sequences: Sequence[str] = (),
    measured: bool = False,
) -> Comparison:
    """Every benchmark under every technique. `sequences`: benchmarks of which one operation is recorded step by step;
    `measured`: wall time as well. Names are known ones (names.py)."""
    for technique in techniques:
        if technique != PV and technique not in FULL:
            raise TechniqueNotAvailable(f"{technique} cannot run here")
    pairs = [(technique, bench) for bench in benches for technique in techniques]
    counts: list[Counts] = []
    absent: dict[tuple[str, str], str] = {}
    steps: dict[tuple[str, str], tuple[Step, ...]] = {}
    seconds: dict[tuple[str, str], float] = {}
    for done, (technique, bench) in enumerate(pairs):
        if progress is not None:
            progress(technique, bench, done, len(pairs))
        if (bench, technique) in NOT_UNDER:
            absent[technique, bench] = NOT_UNDER[bench, technique]
            continue
        watcher, operations = _boot(technique, bench)
        counts.append(Counts(technique, bench, operations, watcher.scalars, **watcher.families))
        if measured:
            seconds[technique, bench] = watcher.seconds / operations
        if bench in sequences:
            steps[technique, bench] = tuple(_boot(technique, bench, 1)[0].steps)
    return Comparison.of(counts, absent=absent, sequences=steps, measured=seconds)


def _boot(technique: str, bench: str, count: int | None = None) -> tuple[Watcher, int]:
    """One benchmark in a machine of its own: what was seen, and how many operations it was."""
    watcher, said = session(technique, [bench if count is None else f"{bench} {count}"])
    return watcher, said[0]


def session(
    technique: str,
    asked: Sequence[str],
    *,
    disks: Sequence[str] = (),
    watch: Callable[[Guest], Watcher] = Watcher,
) -> tuple[Watcher, list[int]]:
    """Benchmarks, one after the other in one machine: what was seen, and how many operations each was. `asked`: names,
    with a count behind them where it shall not be the usual one. Raises BenchmarkFailed."""
    kernel, full = (PV_KERNEL, None) if technique == PV else (NATIVE_KERNEL, technique)
    names = " and ".join(dict.fromkeys(line.split()[0] for line in asked))
    typed = "".join(f"measure {line}\n" for line in (*asked,)) + "exit\n"
    try:
        with ctrl_c.put_off() as pressed, Machine(MEMORY_MIB, by_mode=True) as machine:
            guest = machine.create(kernel, stdin=typed, technique=full, memory=MEMORY_MIB, disks=disks)
            watcher = watch(guest)
            machine.hypervisor.run_until(lambda: pressed() or guest in machine.ended, TIMEOUT_S)
            result = machine.result(guest)
    except (ToolstackError, HypercallError) as failure:
        raise BenchmarkFailed(f"{names} under {technique}: {failure}") from failure
    if watcher.failure is not None:
        raise watcher.failure
    said = [(match["name"], match["count"]) for match in SAID.finditer(result.output)]
    good = [name for name, count in said if count is not None] == [line.split()[0] for line in asked]
    if not good or not watcher.finished or result.ending != "poweroff":
        last = "\n".join(result.lines[-5:])
        raise BenchmarkFailed(f"{names} under {technique} did not end well ({result.ending}); the guest said:\n{last}")
    return watcher, [int(count) for _, count in said]
