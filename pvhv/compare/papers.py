# SPDX-License-Identifier: GPL-2.0-or-later
"""Our estimates beside a paper's published results: row by row, rank by rank.

What is compared is shape, not size: which technique is ahead of which. Two results within a tenth of each other are a
tie. A row agrees if every pair of techniques has the same order in our counts and in the paper. Where the size is
far off, the estimate's parts are named, so that one sees what has no price. The sentences about the paper's own
explanations are in findings.py.

Published numbers are only shown beside ours: no price is made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

from pvhv.compare.costs import CostTable
from pvhv.compare.findings import Finding, Material, findings
from pvhv.compare.pricing import Estimate, estimates
from pvhv.compare.published import Paper, Row
from pvhv.compare.ranks import agreement, order, versus
from pvhv.compare.records import Comparison, decimal
from pvhv.compare.report import NOTHING, Grid, number, parts

FAR = 3  # an estimate so many times off is explained


@dataclass(frozen=True)
class PaperReport:
    """All that is said about a paper."""

    title: str
    grids: tuple[Grid, ...]
    findings: tuple[Finding, ...]


def report(paper: Paper, comparison: Comparison, table: CostTable) -> PaperReport:
    """Our counts under a cost table beside the paper's results."""
    priced = estimates(comparison, table)
    grids = (_results(paper, comparison, table, priced), _ranks(paper, priced))
    material = Material(comparison, priced)
    said = (
        *findings(paper.name, material),
        *_out_of_order(paper, material),
        *_far_off(paper, table, priced),
    )
    return PaperReport(f"{paper.title} ({paper.citation})", grids, said)


def plain(paper: Paper, comparison: Comparison, table: CostTable) -> dict[str, Any]:
    """The published rows and all findings as plain values, for JSON."""
    whole = report(paper, comparison, table)
    return {
        "name": paper.name,
        "citation": paper.citation,
        "unit": paper.unit,
        "published": [
            {"bench": row.bench, "column": column, "technique": technique, "value": decimal(row.values[column])}
            for row in paper.rows
            for column, technique in paper.columns.items()
        ],
        "ranks": [dict(zip(("bench", "ours", "theirs", "pairs"), row, strict=True)) for row in whole.grids[1].rows],
        "findings": [asdict(finding) for finding in whole.findings],
    }


def _results(
    paper: Paper, comparison: Comparison, table: CostTable, priced: Mapping[tuple[str, str], Estimate]
) -> Grid:
    rows = []
    for row in paper.rows:
        for column, technique in paper.columns.items():
            counts, estimate = comparison.get(technique, row.bench), priced.get((technique, row.bench))
            ours = None if estimate is None else estimate.cycles
            published = row.values[column] * paper.cycles_per_unit
            mark = " ?" if column in row.unchecked else ""
            rows.append(
                (
                    row.bench,
                    column,
                    technique or NOTHING,
                    NOTHING if counts is None else number(counts.exits_per_operation),
                    number(ours),
                    number(published),
                    f"{decimal(row.values[column])} {paper.unit}{mark}",
                    NOTHING if ours is None else number(ours / published),
                )
            )
    columns = (
        "Benchmark", "Paper's column", "Our technique", "Our exits",
        f"Estimate ({table.name})", "Published, cycles", "as printed", "Ratio",
    )  # fmt: skip
    notes = [f"{technique}: {table.lacks[technique]}" for technique in paper.techniques if technique in table.lacks]
    if any(row.unchecked for row in paper.rows):
        notes.append("?: cited, not looked up in the paper")
    title = "Published and estimated cycles per operation"
    return Grid(title, columns, tuple(rows), frozenset(range(3, 8)), notes=tuple(notes))


def _ranks(paper: Paper, priced: Mapping[tuple[str, str], Estimate]) -> Grid:
    rows = []
    for row in paper.rows:
        ours, theirs = _both(paper, row, priced)
        if len(ours) < 2:
            rows.append((row.bench, NOTHING, order(theirs), NOTHING))
            continue
        agreeing, pairs = agreement(ours, theirs)
        rows.append((row.bench, order(ours), order(theirs), f"{agreeing} of {pairs}"))
    columns = ("Benchmark", "Our order", "The paper's order", "Pairs that agree")
    return Grid("Rank, the fastest first", columns, tuple(rows), foldable=frozenset({1, 2}))


def _both(
    paper: Paper, row: Row, priced: Mapping[tuple[str, str], Estimate]
) -> tuple[dict[str, Fraction], dict[str, Fraction]]:
    """(our cycles, the paper's), each by our techniques."""
    ours = {}
    for technique in paper.techniques:
        estimate = priced.get((technique, row.bench))
        if estimate is not None and estimate.cycles is not None:
            ours[technique] = estimate.cycles
    return ours, {technique: paper.value(row, technique) for technique in (ours or paper.techniques)}


def _out_of_order(paper: Paper, material: Material) -> Iterator[Finding]:
    """A finding for each pair of techniques whose order differs from the paper's, with our exits."""
    for row in paper.rows:
        ours, theirs = _both(paper, row, material.estimates)
        for one, other in combinations(ours, 2):
            if versus(ours[one], ours[other]) == versus(theirs[one], theirs[other]):
                continue
            here, there = (order({name: values[name] for name in (one, other)}) for values in (ours, theirs))
            does = "; ".join(material.exits(name, row.bench) for name in (one, other))
            why = f". Why: {row.why}" if row.why else ""
            yield Finding(
                row.bench, False, f"{here} here ({_sizes(ours, one, other)} cycles), {there} there. {does}{why}"
            )


def _sizes(values: Mapping[str, Fraction], one: str, other: str) -> str:
    return " and ".join(number(value) for value in sorted((values[one], values[other])))


def _far_off(paper: Paper, table: CostTable, priced: Mapping[tuple[str, str], Estimate]) -> Iterator[Finding]:
    """A finding for each size that differs much from the paper's: the parts of our estimate, and what has no price."""
    for row in paper.rows:
        ours, _ = _both(paper, row, priced)
        for technique, cycles in ours.items():
            published = paper.value(row, technique) * paper.cycles_per_unit
            if published <= FAR * cycles and cycles <= FAR * published:
                continue
            made_of = parts(priced[technique, row.bench].by_label(), None)
            if cycles < published:
                text = (
                    f"the estimate is {number(cycles / published)} of the published {number(published)} cycles. It is "
                    f"made of {made_of} under {table.name}; what else the paper's system does has no price there"
                )
            else:
                text = (
                    f"the estimate is {number(cycles / published)} times the published {number(published)} cycles. It "
                    f"is made of {made_of} under {table.name}"
                )
            yield Finding(f"{row.bench}, {technique}", None, text)
