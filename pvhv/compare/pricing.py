# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts times prices: estimated cycles of one operation, broken down by what they went into.

An estimate always has its table's name, and is never mixed with measured time. Every line is a count, a price and
their product, all exact; the sum of the lines is the estimate. What is not counted (None) adds nothing and is named.

Which price a count has depends on the technique. On bare hardware and under nested paging a guest changes its
page tables by a store, which is priced as an instruction; elsewhere the monitor changes the entry. A guest's
exception is delivered by hardware where its kernel runs at ring 0, and by the monitor's software where it does not.
User code's exits under a deprivileging technique are traps; in guest mode they are #VMEXITs.

Not modelled: cold caches, and a monitor's work beyond the primitives; so estimates are low rather than high.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from pvhv.compare.costs import PRIMITIVES, CostTable
from pvhv.compare.names import BARE, DEPRIVILEGED, HARDWARE, NESTED
from pvhv.compare.records import Comparison, Counts

GUEST: Final = "guest"  # the part of an estimate that the guest's own instructions are
CALLOUT: Final = "[callout] "  # before the instruction: the same name may stand for exits as well
INTERRUPTS: Final = frozenset({"interrupt", "event", "timer"})  # exits of deprivileged guests that no instruction makes
INLINE: Final = frozenset(
    "cli sti pushf popf sgdt sidt sldt str smsw lar lsl verr verw mov-seg mov-from-cr0 mov-from-cr2 mov-from-cr3 "
    "mov-from-cr4 mov-from-cr8 rdtsc clts swapgs call jmp ret".split()
)  # callouts that need only the virtual CPU in memory; all others call the monitor's run-time

# Scalars with one price everywhere.
_PLAIN: Final = {
    "tlb_flushes": "tlb_flush",
    "tlb_page_flushes": "tlb_page_flush",
    "emulated_instructions": "emulated_instruction",
    "shadow_fills": "shadow_fill",
    "nested_fills": "nested_fill",
    "translated_blocks": "translated_block",
    "page_walk_steps": "page_walk_step",
    "ring_crossings": "ring_crossing",
}


@dataclass(frozen=True)
class Line:
    """One part of an estimate."""

    metric: str
    reason: str
    primitive: str
    count: Fraction
    each: Fraction

    @property
    def cycles(self) -> Fraction:
        return self.count * self.each

    @property
    def label(self) -> str:
        """What it is called in tables and plots."""
        if self.metric.startswith("instructions."):
            return GUEST
        if self.metric == "callouts":
            return CALLOUT + self.reason
        return self.reason or self.metric.replace("_", " ")


@dataclass(frozen=True)
class Estimate:
    """Estimated cycles of one operation under one table; or why there is no estimate.

    `uncounted` names what the technique has a price for but no count: it is not in the estimate.
    """

    technique: str
    bench: str
    table: str
    lines: tuple[Line, ...] = ()
    uncounted: tuple[str, ...] = ()
    unavailable: str = ""

    @property
    def cycles(self) -> Fraction | None:
        return None if self.unavailable else sum((line.cycles for line in self.lines), Fraction())

    def by_label(self) -> dict[str, Fraction]:
        """Cycles by what they went into, the largest part first."""
        parts: dict[str, Fraction] = {}
        for line in self.lines:
            parts[line.label] = parts.get(line.label, Fraction()) + line.cycles
        return dict(sorted(parts.items(), key=lambda part: (-part[1], part[0])))


def estimate(counts: Counts, table: CostTable) -> Estimate:
    """What one operation costs by this table."""
    lacking = table.lacks.get(counts.technique)
    if lacking is not None:
        return Estimate(counts.technique, counts.bench, table.name, unavailable=lacking)
    lines = tuple(
        Line(metric, reason, primitive, Fraction(count, counts.operations), table.price(primitive, reason).cycles)
        for metric, reason, primitive, count in _priced(counts)
    )
    uncounted = tuple(
        metric
        for metric, primitive in _PLAIN.items()
        if counts.scalars.get(metric) is None and counts.technique in PRIMITIVES[primitive][1]
    )
    return Estimate(counts.technique, counts.bench, table.name, lines, uncounted)


def estimates(comparison: Comparison, table: CostTable) -> dict[tuple[str, str], Estimate]:
    """Estimates of all counts, by (technique, bench)."""
    return {(each.technique, each.bench): estimate(each, table) for each in comparison}


def gaps(priced: Mapping[tuple[str, str], Estimate]) -> dict[str, tuple[str, ...]]:
    """By technique: the metrics that its estimates lack and another technique's have."""
    counted = {line.metric for estimate in priced.values() for line in estimate.lines}
    missing: dict[str, dict[str, None]] = {}
    for estimate in priced.values():
        for metric in estimate.uncounted:
            if metric in counted:
                missing.setdefault(estimate.technique, {})[metric] = None
    return {technique: tuple(metrics) for technique, metrics in missing.items()}


def exit_primitive(technique: str, reason: str) -> str:
    """The primitive that an exit is."""
    if technique in HARDWARE:
        return "exit.hardware"
    if technique == BARE:
        raise ValueError(f"bare hardware has no exits, but one is counted: {reason}")
    if reason in INTERRUPTS:
        return "exit.interrupt"
    if reason == "syscall" or reason.startswith("hypercall:"):
        return "exit.system_call"
    return "exit.fault"


def callout_primitive(instruction: str) -> str:
    """The primitive that a callout is."""
    return "callout.inline" if instruction in INLINE else "callout.runtime"


def _priced(counts: Counts) -> Iterator[tuple[str, str, str, int]]:
    """What has a price and happened: (metric, reason, primitive, count)."""
    for metric, reason, count in counts.totals():
        if not count:
            continue
        primitive = _primitive(counts.technique, metric, reason)
        if primitive is not None:
            yield metric, reason, primitive, count


def _primitive(technique: str, metric: str, reason: str) -> str | None:
    by_software = technique in DEPRIVILEGED
    match metric:
        case "instructions.user" | "instructions.kernel":
            return "guest_instruction"
        case "exits":
            return exit_primitive(technique, reason)
        case "callouts":
            return callout_primitive(reason)
        case "faults_delivered":
            return "software_delivery" if by_software else "fault_delivery"
        case "interrupts_delivered":
            return "software_delivery" if by_software else "interrupt_delivery"
        case "page_table_updates":
            return None if technique in (BARE, NESTED) else "pte_write"
        case _:
            return _PLAIN.get(metric)
