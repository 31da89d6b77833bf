# SPDX-License-Identifier: GPL-2.0-or-later
"""What was counted: totals over a number of operations, exactly, and the same as tidy records.

A `Counts` is one benchmark under one technique. It holds integers only: how often something happened during so many
operations. The average is a fraction and stays one until it is printed, so that equal runs give equal bytes.

An *exit* is what the technique's real hardware would take. What pvhv does in the CPU's place because the engine cannot
is an *engine assist*: it is kept apart, shown only on request, and has no price. A *callout* is what a binary
translator's rewritten code does instead of an instruction of the guest: it is no exit either. A metric that a technique
does not count is None, which is not zero.

This module does not know where counts come from (runner.py), nor what they cost (pricing.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from typing import Any, Final, NamedTuple

from pvhv.compare.names import EVERY_BENCH, EVERY_COLUMN, group_of

# One number each. Their meaning, once and for all:
SCALARS: Final[dict[str, str]] = {
    # As they are tried: one that faults counts again when it is tried again, and each iteration of a repeated one
    # counts, unless a monitor did all of it, which is one instruction.
    "instructions.user": "guest instructions executed in user mode",
    "instructions.kernel": "guest instructions executed in kernel mode",
    "ring_crossings": "SYSCALL and SYSRET between the guest's user mode and its kernel without an exit, one way",
    "faults_delivered": "exceptions of the guest's own that its handler got, with the IRET that ends it",
    "interrupts_delivered": "interrupts (events, under pv) that the guest's handler got, likewise",
    "page_table_updates": "entries of guest page tables changed; by the monitor where the guest does not do it itself",
    "shadow_fills": "entries the monitor made in shadow tables",
    "nested_fills": "entries the monitor made in nested tables",
    "tlb_flushes": "translations all forgotten",
    "tlb_page_flushes": "translations of one page forgotten",
    "emulated_instructions": "guest instructions that the monitor interpreted",
    "translated_blocks": "blocks of guest code translated",
    "page_walk_steps": "page-table entries read by the monitor on the guest's behalf",
    "disk.notifications": "the guest told the device that there is something to do: a command, a kick, an event",
    "disk.port_accesses": "the device's registers read or written; all that a string instruction does in a page is one",
    "disk.grants_mapped": "pages of the guest's that the backend mapped by a grant",
    "disk.bytes_by_ports": "bytes of data that went through a port, by instructions of the guest",
    "disk.bytes_by_device": "bytes of data that the device model, or the backend, copied from or to the guest's pages",
}
# A number for each reason.
FAMILIES: Final[dict[str, str]] = {
    "exits": "the guest left for the monitor",
    "callouts": "rewritten instructions executed",
    "batch_sizes": "hypercalls that carried so many page-table updates",
    "events": "other work of the monitor, not priced",
    "engine_assists": "done for the CPU by pvhv, no exit and not priced",
}
ASIDE: Final = frozenset({"events", "engine_assists"})  # shown to who asks for everything
METRICS: Final = (*SCALARS, *FAMILIES)
RECORD_KEYS: Final = ("technique", "bench", "group", "metric", "reason", "count", "operations")
PLACES: Final = 6


class Step(NamedTuple):
    """One event of an operation: an exit, a callout or an assist, as it happened."""

    kind: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Counts:
    """One benchmark under one technique: totals over `operations`."""

    technique: str
    bench: str
    operations: int
    scalars: Mapping[str, int | None] = field(default_factory=dict)
    exits: Mapping[str, int] = field(default_factory=dict)
    callouts: Mapping[str, int] = field(default_factory=dict)
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    engine_assists: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.operations <= 0:
            raise ValueError(f"{self.technique}, {self.bench}: {self.operations} operations")
        for name in self.scalars:
            if name not in SCALARS:
                raise ValueError(f"{self.technique}, {self.bench}: nothing is counted as {name!r}")
        for metric, reason, count in self.totals():
            if type(count) is not int or count < 0:
                raise ValueError(f"{self.technique}, {self.bench}: {metric} {reason}: {count!r} is no count")

    def totals(self) -> Iterator[tuple[str, str, int]]:
        """Everything as (metric, reason, count): scalars, then families by reason; zeros of families left out."""
        for name in SCALARS:
            value = self.scalars.get(name)
            if value is not None:
                yield name, "", value
        for name in FAMILIES:
            family: Mapping[Any, int] = getattr(self, name)
            for reason in sorted(family):
                if family[reason] != 0:
                    yield name, str(reason), family[reason]

    def per_operation(self, metric: str, reason: str | None = None) -> Fraction | None:
        """The average of a metric; of a family without a reason, the sum. None: not counted."""
        if metric in SCALARS:
            value = self.scalars.get(metric)
        else:
            family: Mapping[Any, int] = getattr(self, metric)
            value = sum(family.values()) if reason is None else family.get(reason, 0)
        return None if value is None else Fraction(value, self.operations)

    @property
    def exits_per_operation(self) -> Fraction:
        return Fraction(sum(self.exits.values()), self.operations)

    @property
    def instructions_per_operation(self) -> Fraction:
        """Guest instructions per operation, in kernel and user mode."""
        both = (self.scalars.get("instructions.user"), self.scalars.get("instructions.kernel"))
        return Fraction(sum(value or 0 for value in both), self.operations)

    def records(self, verbose: bool = False) -> list[dict[str, Any]]:
        """Tidy records: a row for each number. Metrics that no table prices only if `verbose`."""
        return [
            dict(
                zip(
                    RECORD_KEYS,
                    (self.technique, self.bench, group_of(self.bench), metric, reason, count, self.operations),
                    strict=True,
                )
            )
            for metric, reason, count in self.totals()
            if verbose or metric not in ASIDE
        ]


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    `absent` says why a benchmark has no counts under a technique (no I/O ports under pv, say). `sequences` holds one
    operation, step by step, where that was asked for. `measured` is wall time on this engine, in seconds an operation:
    no part of the counts, and different in every run.
    """

    counts: Mapping[tuple[str, str], Counts]
    absent: Mapping[tuple[str, str], str] = field(default_factory=dict)
    sequences: Mapping[tuple[str, str], tuple[Step, ...]] = field(default_factory=dict)
    measured: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Iterable[Counts], **more: Any) -> Comparison:
        """A comparison of these counts."""
        return cls({(each.technique, each.bench): each for each in counts}, **more)

    def get(self, technique: str, bench: str) -> Counts | None:
        return self.counts.get((technique, bench))

    @property
    def techniques(self) -> tuple[str, ...]:
        """The techniques that took part, in their order."""
        return _in_order(EVERY_COLUMN, (technique for technique, _ in (*self.counts, *self.absent)))

    @property
    def benches(self) -> tuple[str, ...]:
        return _in_order(EVERY_BENCH, (bench for _, bench in (*self.counts, *self.absent)))

    def __iter__(self) -> Iterator[Counts]:
        """All counts: benchmark by benchmark, technique by technique."""
        for bench in self.benches:
            for technique in self.techniques:
                counts = self.get(technique, bench)
                if counts is not None:
                    yield counts

    def records(self, verbose: bool = False) -> list[dict[str, Any]]:
        """Tidy records of everything, in a fixed order: `polars.DataFrame(comparison.records())`."""
        return [record for counts in self for record in counts.records(verbose)]


def decimal(value: Fraction, places: int = PLACES) -> str:
    """A fraction in decimal digits by a fixed rule: half to even at `places`, no zeros at the end."""
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(value.numerator) / Decimal(value.denominator)
        rounded = exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN)
    text = f"{rounded:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _in_order(known: Iterable[str], present: Iterable[str]) -> tuple[str, ...]:
    seen = dict.fromkeys(present)
    order = list(known)
    return (*(name for name in order if name in seen), *sorted(name for name in seen if name not in order))
