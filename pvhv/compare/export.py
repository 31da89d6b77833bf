# SPDX-License-Identifier: GPL-2.0-or-later
"""A comparison for other programs: JSON and CSV. Equal counts give equal bytes, on every machine.

Counts are integers over `operations`; `per_operation` is their quotient in decimal digits by the rule of
`records.decimal`, so that no binary fraction is ever printed. Measured time is no count: it is in the JSON only where
it was asked for, under a key of its own.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from pvhv.compare.costs import CostTable
from pvhv.compare.names import EVERY_BENCH, EVERY_COLUMN, group_of
from pvhv.compare.pricing import Estimate, estimates
from pvhv.compare.records import RECORD_KEYS, Comparison, decimal

FORMAT: Final = 1  # of the JSON; goes up when what is there changes its meaning


def records(comparison: Comparison, tables: Sequence[CostTable] = (), verbose: bool = False) -> list[dict[str, Any]]:
    """Tidy records: counts first, then estimates. An estimate's `metric` is `estimated_cycles:TABLE`, and its value the
    fraction count / operations, by reason; the record with an empty reason is the sum."""
    rows = comparison.records(verbose)
    for table in tables:
        for estimate in estimates(comparison, table).values():
            rows.extend(_estimated(estimate))
    return rows


def to_json(
    comparison: Comparison,
    tables: Sequence[CostTable] = (),
    verbose: bool = False,
    paper: Mapping[str, Any] | None = None,
) -> str:
    """The comparison as JSON; `paper` is the result of papers.plain."""
    titles = EVERY_COLUMN
    operations = {name: bench.operation for name, bench in EVERY_BENCH.items()}
    document: dict[str, Any] = {
        "format": FORMAT,
        "techniques": {name: titles.get(name, "") for name in comparison.techniques},
        "benches": {name: operations.get(name, "") for name in comparison.benches},
        "costs": {table.name: {"title": table.title, "lacks": dict(table.lacks)} for table in tables},
        "records": [_with_quotient(record) for record in records(comparison, tables, verbose)],
        "absent": [
            {"technique": technique, "bench": bench, "why": why}
            for (technique, bench), why in sorted(comparison.absent.items())
        ],
    }
    if paper is not None:
        document["paper"] = dict(paper)
    if comparison.sequences:
        document["sequences"] = [
            {"technique": technique, "bench": bench, "steps": [step._asdict() for step in steps]}
            for (technique, bench), steps in sorted(comparison.sequences.items())
        ]
    if comparison.measured:
        document["measured_seconds"] = [
            {"technique": technique, "bench": bench, "seconds": seconds}
            for (technique, bench), seconds in sorted(comparison.measured.items())
        ]
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def to_csv(comparison: Comparison, tables: Sequence[CostTable] = (), verbose: bool = False) -> str:
    """The records as CSV, with a heading."""
    text = io.StringIO()
    writer = csv.DictWriter(text, (*RECORD_KEYS, "per_operation"), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_with_quotient(record) for record in records(comparison, tables, verbose))
    return text.getvalue()


def _with_quotient(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "per_operation": decimal(Fraction(record["count"], record["operations"]))}


def _estimated(estimate: Estimate) -> list[dict[str, Any]]:
    if estimate.cycles is None:
        return []
    head = {"technique": estimate.technique, "bench": estimate.bench, "group": group_of(estimate.bench)}
    return [
        {
            **head,
            "metric": f"estimated_cycles:{estimate.table}",
            "reason": reason,
            "count": cycles.numerator,
            "operations": cycles.denominator,
        }
        for reason, cycles in (("", estimate.cycles), *estimate.by_label().items())
    ]
