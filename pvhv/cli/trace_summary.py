# SPDX-License-Identifier: GPL-2.0-or-later
"""The summary of a trace as tables: what took long, what was frequent, what failed."""

from __future__ import annotations

from typing import Any

from pvhv.cli.output import print_table

NOTHING = "-"
TIMED = ("% time", "Time(us)", "us each", "Count", "Errors")


def show_summary(summary: dict[str, Any]) -> None:
    """Print it. Times are the hypervisor's, by the domain's clock."""
    rows, calls = summary["rows"], summary["calls"]
    if calls:
        total = sum(call["ns"] for call in calls)
        print_table(
            (*TIMED, "Away(us)", "Exits each", "System call"),
            [
                (
                    *_timed(call, total), f"{call['away'] / 1000:.1f}", f"{call['exits'] / call['count']:.1f}",
                    call["name"],
                )
                for call in calls
            ],
            right=range(7),
        )  # fmt: skip
        print()
    total = sum(row["ns"] for row in rows)
    print_table(
        (*TIMED, "Kind", "Name"),
        [(*_timed(row, total), row["kind"], row["name"]) for row in rows],
        right=range(5),
    )
    if not rows and not calls:
        print("nothing happened")


def _timed(row: dict[str, Any], total: int) -> tuple[str, ...]:
    return (
        f"{100 * row['ns'] / total:.1f}" if total and row["ns"] else NOTHING,
        f"{row['ns'] / 1000:.1f}" if row["ns"] else NOTHING,
        f"{row['ns'] / 1000 / row['count']:.3f}" if row["ns"] else NOTHING,
        str(row["count"]),
        str(row["errors"] or ""),
    )
