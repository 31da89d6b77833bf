# SPDX-License-Identifier: GPL-2.0-or-later
"""The events of one operation under two techniques, side by side.

Both sequences are complete and in order. Events that both techniques have, in the same order, stand on one line; the
rest stands where it happened. The same event many times over in a row is one line with its number of times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from itertools import groupby, zip_longest

from pvhv.compare.errors import CompareError
from pvhv.compare.records import Comparison, Step
from pvhv.compare.report import Grid

EXIT, CALLOUT, ASSIST = "exit", "callout", "assist"


def explain(comparison: Comparison, bench: str, left: str, right: str, verbose: bool = False) -> Grid:
    """One operation of a benchmark under two techniques; with engine assists if `verbose`. Raises CompareError."""
    for technique in (left, right):
        if (technique, bench) not in comparison.sequences:
            why = comparison.absent.get((technique, bench), "its events were not recorded")
            raise CompareError(f"there is nothing to show of {bench} under {technique}: {why}")
    return side_by_side(
        f"One operation of {bench}",
        (left, comparison.sequences[left, bench]),
        (right, comparison.sequences[right, bench]),
        verbose,
    )


def side_by_side(
    title: str, left: tuple[str, Sequence[Step]], right: tuple[str, Sequence[Step]], verbose: bool = False
) -> Grid:
    """Two named sequences as a table of two columns."""
    ours, theirs = _runs(left[1], verbose), _runs(right[1], verbose)
    rows: list[tuple[str, str]] = []
    matcher = SequenceMatcher(None, [_key(run) for run in ours], [_key(run) for run in theirs], autojunk=False)
    for _, from_left, to_left, from_right, to_right in matcher.get_opcodes():
        pairs = zip_longest(ours[from_left:to_left], theirs[from_right:to_right])
        rows.extend((_line(one), _line(other)) for one, other in pairs)
    columns = (_heading(*left), _heading(*right))
    return Grid(title, columns, tuple(rows), foldable=frozenset({0, 1}))


def _runs(steps: Iterable[Step], verbose: bool) -> list[tuple[Step, int]]:
    shown = (step for step in steps if verbose or step.kind != ASSIST)
    return [(step, sum(1 for _ in same)) for step, same in groupby(shown)]


def _key(run: tuple[Step, int]) -> tuple[str, str]:
    return run[0].kind, run[0].reason


def _line(run: tuple[Step, int] | None) -> str:
    if run is None:
        return ""
    step, times = run
    kind = "" if step.kind == EXIT else f"[{step.kind}] "
    detail = f"  {step.detail}" if step.detail else ""
    return f"{kind}{step.reason}{detail}{f'  x{times}' if times > 1 else ''}"


def _heading(name: str, steps: Sequence[Step]) -> str:
    exits = sum(step.kind == EXIT for step in steps)
    return f"{name}: {exits or 'no'} exit{'' if exits == 1 else 's'}"
