# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured: the rows, their yardsticks and their targets.

A ratio is the median over the samples of guest / yardstick (for compute rows the other way round: the share of
the bare engine's speed), each sample taken together with its yardstick. Round trips count callbacks, compute
rows count bare-engine loops (see bare.py for both).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pvhv.core.sched.timeline import SLICE_NS
from pvhv.testing import Machine
from tools.benchmark.bare import Bare, lost_ns, without
from tools.benchmark.guests import Ear, Sample, finish

SAMPLES = 7
# Of each sample this many are taken, on both sides, and the shortest counts: BEST_OF in bench.h. It is the host's
# other work, not ours, that this keeps out.
TRIES = 5
LONG_TRIES = 3  # compute loops run for longer, and of their tries the middle one counts
LOOPS = ("xorshift", "branchy", "callret", "loads", "movsq")
COMPUTE_TARGETS = {"wall": 0.97, "virtual": 0.5}
EXITS: dict[str, tuple[str, float | None]] = {
    # row: (what it is, target in callbacks)
    "null_hypercall": ("null hypercall (xen_version)", 8.0),
    "multicall_entry": ("... in a multicall of 64, per entry", 6.0),
    "mmu_update_entry": ("mmu_update, batches of 512, per entry", 12.0),
    "page_fault": ("page fault bounced, with its iret", 30.0),
    "system_call": ("system call bounced, ring 3 to ring 3", 35.0),
    "context_switch": ("context switch (a multicall of three)", None),
}
PAIR: dict[str, tuple[str, float | None]] = {
    "event_send": ("event sent to another domain", None),
    "event_round_trip": ("... and answered: both sleep, wake, take upcalls", None),
    "grant_map_unmap": ("grant map and unmap, one by one", None),
    "grant_map_unmap_batched": ("... in batches of 32", None),
    "grant_copy": ("grant copy of 4 KiB, one by one", None),
    "grant_copy_batched": ("... in batches of 32", None),
}


@dataclass(frozen=True)
class Row:
    """A line of the table. `value` is in `unit`; `ns` is one operation's time; `beside` is for the reader only.

    If it could not be measured, `missing` says why, and there is no value."""

    group: str
    name: str
    title: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False  # the target is a floor, not a ceiling
    ns: float | None = None
    beside: str = ""
    missing: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one, or where nothing was measured."""
        if self.target is None or self.missing:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(frozen=True)
class Effort:
    """How long and how often to measure."""

    samples: int = SAMPLES
    loop_ns: float = 60e6  # of one try of a compute loop: with a few ticks of the scheduler in it
    scale: int = 40  # rounds of one sample of exits, in units each row chooses
    callbacks: int = 5_000


SMOKE = Effort(samples=1, loop_ns=2e6, scale=8, callbacks=200)


class Yardsticks:
    """Bare engines over the page tables of a domain that was built like the measured ones, but never runs."""

    def __init__(self, machine: Machine, kernels: Path, effort: Effort) -> None:
        self.effort = effort
        guest = machine.create(kernels / "bench-compute", name="yardstick", clock="wall", paused=True)
        self.symbols = guest.symbols.by_name
        pcpu = machine.hypervisor.wall.cpu.pcpu
        self.tsc_khz = pcpu.tsc_khz

        def engine() -> Bare:
            table = guest.domain.vcpus[0].guest_table << 12
            return Bare(machine.hypervisor.ram, table, pcpu.initial, self.symbols["bare_entry"])

        def eased() -> Bare:
            bare = engine()
            bare.ease(machine.hypervisor.ram)
            return bare

        self._engine, self._eased_engine = engine, eased
        self.plain, self.with_python, self.with_c, self.eased = engine(), engine(), engine(), eased()
        self.with_python.hook_python()
        self.with_c.hook_c()
        self.counts = {name: self._count(name) for name in LOOPS}

    def renew(self) -> None:
        """Make fresh engines for the compute loops, and have each loop translated."""
        self.plain.close()
        self.eased.close()
        self.plain, self.eased = self._engine(), self._eased_engine()
        for name, count in self.counts.items():
            self.loop(name, count // 64 + 1)
            self.loop(name, count // 64 + 1, eased=True)

    def _count(self, name: str) -> int:
        """How many rounds of a loop take about as long as a sample should."""
        count = 100
        while (took := self.loop(name, count) * count) < 1e6:
            count *= 4
        return max(1, round(count * self.effort.loop_ns / took))

    def _ns(self, bare: Bare, loop: str, count: int) -> float:
        return bare.run(self.symbols[f"loop_{loop}"], count) * 1e6 / self.tsc_khz / count

    def loop(self, name: str, count: int = 0, eased: bool = False) -> float:
        """How many ns a round of a compute loop takes, without the time that other processes took, if the host tells
        it."""
        count = count or self.counts[name]
        before = lost_ns()
        took = self._ns(self.eased if eased else self.plain, name, count) * count
        return without(lost_ns() - before, took) / count

    def loop_in_pieces(self, name: str) -> float:
        """Likewise, but the engine is stopped and started again as often as the scheduler ticks."""
        before = lost_ns()
        count = self.counts[name]
        ticks = self.plain.run_in_pieces(self.symbols[f"loop_{name}"], count, SLICE_NS / 1e9)
        return without(lost_ns() - before, ticks * 1e6 / self.tsc_khz) / count

    def callback(self, _row: str = "") -> float:
        """How many ns an empty ctypes callback takes: the shortest of a few tries, as guests report it."""
        return min(self._ns(self.with_python, "int", self.effort.callbacks) for _ in range(TRIES))

    def callback_in_c(self) -> float:
        """How many ns a callback of a C function takes."""
        return min(self._ns(self.with_c, "int", self.effort.callbacks) for _ in range(TRIES))

    def close(self) -> None:
        """Close the engines."""
        for bare in (self.plain, self.with_python, self.with_c, self.eased):
            bare.close()


class Bench:
    """Everything the rows are measured with. To be used in a `with` statement."""

    def __init__(self, kernels: Path, effort: Effort) -> None:
        self.kernels = kernels
        self.effort = effort
        self.machine = Machine(512)
        self.yardsticks = Yardsticks(self.machine, kernels, effort)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.yardsticks.close()
        self.machine.close()

    def unit(self) -> list[Row]:
        """The rows of the callback itself, and of the part that is not Python."""
        python, c = (
            statistics.median(measure() for _ in range(self.effort.samples))
            for measure in (self.yardsticks.callback, self.yardsticks.callback_in_c)
        )
        return [
            Row("unit", "callback", "an empty ctypes callback, from int n to int n", python, "ns", ns=python),
            Row("unit", "callback_in_c", "... the same with a C function", c, "ns", ns=c),
        ]

    def compute(self, clock: str) -> list[Row]:
        """The rows that say how much of the bare engine's speed compute-bound guests get."""
        counts = " ".join(f"{name}={count}" for name, count in self.yardsticks.counts.items())
        samples: dict[str, list[Sample]] = defaultdict(list)
        for _ in range(self.effort.samples):
            # Where in the engine's buffer a loop's translation comes to lie makes up to 10 % of its speed; so each
            # sample has a new one, on both sides.
            self.yardsticks.renew()
            cmdline = f"samples={LONG_TRIES} {counts}"
            tries = self._run("bench-compute", cmdline, self.yardsticks.loop, clock, one_try=True)
            for name in LOOPS:
                samples[name].append(middle(tries[name]))
        rows = []
        for name in LOOPS:
            share = statistics.median(sample.yardstick_ns / sample.ns for sample in samples[name])
            rows.append(Row(clock, f"{clock}_{name}", name, share, "of bare", ns=median_ns(samples[name])))
        mean = statistics.geometric_mean(row.value for row in rows)
        target = COMPUTE_TARGETS[clock]
        title = f"compute-bound code on the {clock} clock (geometric mean)"
        return [Row(clock, f"{clock}_compute", title, mean, "of bare", target, at_least=True), *rows]

    def stopped(self) -> list[Row]:
        """The row that says what it costs the bare engine to be stopped and started, without a hypervisor."""
        shares: dict[str, list[float]] = defaultdict(list)
        for _ in range(self.effort.samples):
            self.yardsticks.renew()
            for name in LOOPS:
                pairs = [
                    Sample(self.yardsticks.loop_in_pieces(name), self.yardsticks.loop(name)) for _ in range(LONG_TRIES)
                ]
                pair = middle(pairs)
                shares[name].append(pair.yardstick_ns / pair.ns)
        mean = statistics.geometric_mean(statistics.median(shares[name]) for name in LOOPS)
        title = f"the bare engine, stopped and started every {SLICE_NS // 1_000_000} ms"
        return [Row("wall", "bare_stopped", title, mean, "of bare")]

    def eased(self) -> list[Row]:
        """The rows of the bare engine with eased blocks, which say why a guest can be faster than the bare engine."""
        shares: dict[str, list[float]] = defaultdict(list)
        for _ in range(self.effort.samples):
            self.yardsticks.renew()
            for name in LOOPS:
                pairs = [
                    Sample(self.yardsticks.loop(name, eased=True), self.yardsticks.loop(name))
                    for _ in range(LONG_TRIES)
                ]
                pair = middle(pairs)
                shares[name].append(pair.yardstick_ns / pair.ns)
        mean = statistics.geometric_mean(statistics.median(shares[name]) for name in LOOPS)
        return [Row("wall", "bare_eased", "the bare engine, its blocks eased as ours are", mean, "of bare")]

    def shared(self) -> list[Row]:
        """The row of two compute-bound guests that take turns on the pCPU by the scheduler's tick: what both get
        together."""
        counts = " ".join(f"{name}={count // 2 + 1}" for name, count in self.yardsticks.counts.items())
        kernel = self.kernels / "bench-compute"
        other = self.machine.create(kernel, name="other", clock="wall", cmdline=f"samples=1000000 {counts}")
        try:
            cmdline = f"samples={self.effort.samples} {counts}"
            samples = self._run("bench-compute", cmdline, self.yardsticks.loop, one_try=True)
        finally:
            self.machine.host.destroy(other)
        mean = statistics.geometric_mean(
            statistics.median(2 * sample.yardstick_ns / sample.ns for sample in samples[name]) for name in LOOPS
        )
        return [Row("wall", "wall_shared", "two guests at once, together", mean, "of bare")]

    def exits(self) -> list[Row]:
        """Round trips of one domain."""
        cmdline = f"samples={self.effort.samples} scale={self.effort.scale}"
        samples = self._run("bench-exits", cmdline, self.yardsticks.callback)
        return [in_callbacks("exits", name, *EXITS[name], samples[name]) for name in EXITS]

    def pair(self) -> list[Row]:
        """Round trips that need a second domain."""
        machine, kernel = self.machine, self.kernels / "bench-pair"
        partner = machine.create(kernel, name="partner", clock="wall", cmdline=f"partner=1 peer={self._next(1)}")
        cmdline = f"samples={self.effort.samples} scale={self.effort.scale} peer={partner.domid}"
        samples = self._run("bench-pair", cmdline, self.yardsticks.callback)
        machine.host.destroy(partner)
        return [in_callbacks("pair", name, *PAIR[name], samples[name]) for name in PAIR]

    def _next(self, after: int) -> int:
        """The domid that the domain after the next `after` ones will get: ids are given out in turn."""
        return max(self.machine.hypervisor.domains) + 1 + after

    def _run(
        self,
        kernel: str,
        cmdline: str,
        yardstick: Callable[[str], float],
        clock: str = "wall",
        one_try: bool = False,
    ) -> dict[str, list[Sample]]:
        guest = self.machine.create(self.kernels / kernel, name=kernel, clock=clock, cmdline=cmdline, paused=True)
        ear = Ear(guest, yardstick, self.yardsticks.tsc_khz, one_try)
        guest.start()
        finish(self.machine, guest)
        self.machine.host.destroy(guest)
        return ear.samples


def in_callbacks(group: str, name: str, title: str, target: float | None, samples: list[Sample]) -> Row:
    """A round trip as a row."""
    ratio = statistics.median(sample.ns / sample.yardstick_ns for sample in samples)
    return Row(group, name, title, ratio, "callbacks", target, ns=median_ns(samples))


def readable(ns: float) -> str:
    """A time with its unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.2f} {unit}"
    return f"{ns:.1f} ns"


def middle(tries: list[Sample]) -> Sample:
    """Some samples as one: the median of the guest's and the median of the yardstick's.

    Not the shortest. A loop that keeps its registers in memory, as translated code does, runs at one of two speeds, 10
    % apart, and which one is decided each time the loop is entered. A guest enters it at each tick, the bare engine
    once in a try. So the bare engine's fastest try is no measure of what a tick costs.
    """
    return Sample(*(statistics.median(times) for times in zip(*tries, strict=True)))


def median_ns(samples: list[Sample]) -> float:
    """The median time of one operation."""
    return statistics.median(sample.ns for sample in samples)
