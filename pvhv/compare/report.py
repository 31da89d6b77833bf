# SPDX-License-Identifier: GPL-2.0-or-later
"""A comparison as tables: what the terminal shows.

A `Grid` is a table not yet printed: the command prints it, a notebook may make a frame of it. First an overview, with a
line for each benchmark and a column for each technique: exits, then estimated cycles under each table asked for. Then
the details, with a line for each benchmark and technique: reasons, callouts, instructions. What only some want (the
monitor's other work, engine assists, where prices come from, wall time) is in grids of its own.

Estimates bear the name of their table. Measured time never shares a grid with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pvhv.compare.costs import CostTable
from pvhv.compare.names import BARE, DISK_COLUMNS
from pvhv.compare.pricing import Estimate, estimates, gaps
from pvhv.compare.records import ASIDE, SCALARS, Comparison, Counts, decimal

TOP = 3
NOTHING = "-"


@dataclass(frozen=True)
class Grid:
    """A table: a title above, notes below. Columns in `right` hold numbers; those in `foldable` may be folded."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()
    foldable: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def number(value: Fraction | None) -> str:
    """A number for people: about three digits. Exact values are in the JSON."""
    if value is None:
        return NOTHING
    if 0 < value < Fraction(1, 200):
        return "<0.01"
    return decimal(value, 0 if value >= 1000 else 1 if value >= 100 else 2)


def parts(family: Mapping[str, Fraction], top: int | None = TOP) -> str:
    """The largest parts of a family, as text: `IOIO 1, HLT 0.5`."""
    ordered = sorted(family.items(), key=lambda part: (-part[1], part[0]))
    shown = [f"{name} {number(value)}" for name, value in ordered[:top]]
    if top is not None and len(ordered) > top:
        shown.append(f"{len(ordered) - top} more")
    return ", ".join(shown) or NOTHING


def picture(comparison: Comparison) -> Grid:
    """Exits of one operation: benchmarks down, techniques across."""

    def cell(technique: str, bench: str) -> str:
        counts = comparison.get(technique, bench)
        return NOTHING if counts is None else number(counts.exits_per_operation)

    return _matrix("Exits per operation", comparison, cell, _absences(comparison))


def disk_picture(comparison: Comparison) -> Grid:
    """Exits of one operation of a disk: device models and techniques down, operations across."""
    rows = []
    for column in comparison.techniques:
        technique, model = DISK_COLUMNS[column]
        found = (comparison.get(column, bench) for bench in comparison.benches)
        exits = (None if each is None else each.exits_per_operation for each in found)
        rows.append((model, technique, *map(number, exits)))
    right = frozenset(range(2, 2 + len(comparison.benches)))
    return Grid("Exits per operation of a disk", ("Device", "Technique", *comparison.benches), tuple(rows), right)


DISK_WORK = {
    "disk.notifications": "Notified", "interrupts_delivered": "Interrupts", "disk.port_accesses": "Ports",
    "disk.grants_mapped": "Grants", "disk.bytes_by_ports": "Bytes by ports", "disk.bytes_by_device": "by the device",
}  # fmt: skip


def disk_details(comparison: Comparison) -> Grid:
    """What one operation of a disk is made of, line by line."""
    rows = []
    for counts in comparison:
        technique, model = DISK_COLUMNS[counts.technique]
        exits, callouts = parts(_average(counts, counts.exits)), parts(_average(counts, counts.callouts))
        asked = (number(counts.per_operation(metric)) for metric in DISK_WORK)
        rows.append((counts.bench, model, technique, number(counts.exits_per_operation), exits, callouts, *asked))
    columns = ("Operation", "Device", "Technique", "Exits", "Reasons", "Callouts", *DISK_WORK.values())
    notes = (
        "notified: a command, a kick or an event; ports: accesses to the device's registers; grants: pages mapped",
    )
    right = frozenset({3, *range(6, 6 + len(DISK_WORK))})
    return Grid("What one operation is made of", columns, tuple(rows), right, frozenset({4, 5}), notes)


def cycles(comparison: Comparison, table: CostTable, verbose: bool = False) -> Grid:
    """Estimated cycles of one operation under a table, and how many times that of bare hardware."""
    priced = estimates(comparison, table)

    def cell(technique: str, bench: str) -> str:
        return with_ratio(priced.get((technique, bench)), priced.get((BARE, bench)))

    notes = [f"{name}: {table.lacks[name]}" for name in comparison.techniques if name in table.lacks]
    for name, metrics in gaps(priced).items():
        without = ", ".join(metric.replace("_", " ") for metric in metrics)
        notes.append(f"{name}: without {without}, which it does not count")
    if verbose:
        notes.append(table.provenance())
    return _matrix(f"Estimated cycles per operation under {table.name} ({table.title})", comparison, cell, notes)


def with_ratio(estimate: Estimate | None, baseline: Estimate | None) -> str:
    """An estimate, and its multiple of the baseline's."""
    if estimate is None or estimate.cycles is None:
        return NOTHING
    text = number(estimate.cycles)
    if baseline is None or baseline is estimate or not baseline.cycles:
        return text
    return f"{text} ({number(estimate.cycles / baseline.cycles)}x)"


def details(comparison: Comparison) -> Grid:
    """What one operation is made of, line by line."""
    rows = tuple(
        (
            counts.bench,
            counts.technique,
            number(counts.exits_per_operation),
            parts(_average(counts, counts.exits)),
            parts(_average(counts, counts.callouts)),
            number(counts.per_operation("instructions.user")),
            number(counts.per_operation("instructions.kernel")),
        )
        for counts in comparison
    )
    columns = ("Benchmark", "Technique", "Exits", "Reasons", "Callouts", "User instr.", "Kernel instr.")
    return Grid("What one operation is made of", columns, rows, frozenset({2, 5, 6}), frozenset({3, 4}))


def work(comparison: Comparison, verbose: bool = False) -> Grid:
    """Everything else that was counted: page tables, shadow, TLB, batches; if `verbose`, what no table prices too."""
    rows = []
    for counts in comparison:
        for metric, reason, total in counts.totals():
            if metric in ("exits", "callouts") or metric.startswith("instructions."):
                continue
            if not total or (metric in ASIDE and not verbose):
                continue
            name = metric.replace("_", " ") if metric in SCALARS else f"{metric.replace('_', ' ')}: {reason}"
            rows.append((counts.bench, counts.technique, name, number(Fraction(total, counts.operations))))
    columns = ("Benchmark", "Technique", "What", "Count")
    return Grid("Further work per operation", columns, tuple(rows), frozenset({3}), frozenset({2}))


def breakdown(comparison: Comparison, table: CostTable) -> Grid:
    """Where the estimated cycles go, line by line: count times price."""
    rows = tuple(
        (
            estimate.bench,
            estimate.technique,
            line.label,
            line.primitive,
            number(line.count),
            number(line.each),
            number(line.cycles),
        )
        for estimate in estimates(comparison, table).values()
        for line in estimate.lines
    )
    columns = ("Benchmark", "Technique", "What", "Priced as", "Count", "Cycles each", "Cycles")
    title = f"Estimated cycles under {table.name}, in parts"
    return Grid(title, columns, rows, frozenset({4, 5, 6}), frozenset({2, 3}))


def measured(comparison: Comparison) -> Grid:
    """Wall time on this engine, which is not a count."""

    def cell(technique: str, bench: str) -> str:
        seconds = comparison.measured.get((technique, bench))
        return NOTHING if seconds is None else f"{seconds * 1e6:.1f}"

    note = "what this emulation takes on this machine now: no measure of the techniques, and different in every run"
    return _matrix("Measured wall time, microseconds per operation", comparison, cell, (note,))


def _average(counts: Counts, family: Mapping[str, int]) -> dict[str, Fraction]:
    return {reason: Fraction(total, counts.operations) for reason, total in family.items() if total}


def _absences(comparison: Comparison) -> list[str]:
    return [f"no {bench} under {technique}: {why}" for (technique, bench), why in sorted(comparison.absent.items())]


def _matrix(title: str, comparison: Comparison, cell: Callable[[str, str], str], notes: Iterable[str] = ()) -> Grid:
    techniques: Sequence[str] = comparison.techniques
    rows = tuple((bench, *(cell(technique, bench) for technique in techniques)) for bench in comparison.benches)
    right = frozenset(range(1, len(techniques) + 1))
    return Grid(title, ("Benchmark", *techniques), rows, right, notes=tuple(notes))
