# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict: compare a row's run on a machine of its own with its run at an outer ring under a monitor.

Popek and Goldberg's condition: every sensitive instruction traps outside ring 0. A row violates it at a ring if it runs
to its end there with another observation than on its own machine. An exception counts as a trap, whatever its cause,
because the monitor sees it; so does a transfer to an entry point of the monitor. But an exception that the row's own
machine raises as well is only passed on by the monitor.

Invariant: the ring 0 run must give `wants`; a row that fails there is an error, never a verdict.
It does not know how rows are run or printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pvhv.hvm.classify.bench import GUEST, RINGS, Bench, BenchError, Outcome
from pvhv.hvm.classify.image import image
from pvhv.hvm.classify.row import Row

Verdict = Literal["innocuous", "traps", "sensitive, does not trap"]
INNOCUOUS: Final[Verdict] = "innocuous"
TRAPS: Final[Verdict] = "traps"
VIOLATES: Final[Verdict] = "sensitive, does not trap"


def shows(row: Row, outcome: Outcome) -> str:
    """What the guest has seen at the end of its body."""
    if not outcome.registers:
        return ""
    signed = {name: _Number(value - (1 << 64) if value >> 63 else value) for name, value in outcome.registers.items()}
    return row.seen.format(**signed)


class _Number(int):
    """-0xf0 rather than a hundred and twenty million ones."""


def agrees(row: Row, outcome: Outcome, base: int = GUEST) -> bool:
    """Whether registers at the end are what the row wants of a machine of its own at `base`."""
    wants = image(row, base).wants
    return bool(outcome.registers) and all(outcome.registers[name] == value for name, value in wants.items())


def judge(row: Row, own: Outcome, other: Outcome) -> Verdict:
    """The verdict on a row at one outer ring."""
    if not agrees(row, own):
        raise BenchError(f"{row.name} on a machine of its own: {shows(row, own) or own}, which the row does not want")
    if other.vector is not None or other.entered:
        same = (other.vector, other.error, other.entered) == (own.vector, own.error, own.entered)
        return INNOCUOUS if same else TRAPS
    return INNOCUOUS if agrees(row, other) else VIOLATES


@dataclass(frozen=True)
class Judgement:
    row: Row
    outcomes: dict[int, Outcome]
    verdicts: dict[int, Verdict]
    """By outer ring."""

    @property
    def verdict(self) -> Verdict:
        """The worst of the rings judged."""
        found = self.verdicts.values()
        return VIOLATES if VIOLATES in found else TRAPS if TRAPS in found else INNOCUOUS

    def did(self, ring: int) -> str:
        """One line for a reader: the trap, or what was seen."""
        outcome = self.outcomes[ring]
        if outcome.entered:
            return f"enters the monitor ({outcome.entered})"
        return outcome.exception or f"executes: {shows(self.row, outcome)}"

    def record(self) -> dict[str, Any]:
        """For a script."""
        row = self.row
        return {
            "name": row.name,
            "instruction": row.about,
            "listed": row.listed,
            "mode": row.mode,
            "kind": row.kind,
            "verdict": self.verdict,
            "why": row.why,
            "manual": row.manual,
            "engine": row.engine,
            "wants": image(row, GUEST).wants,
            "rings": {
                str(ring): {
                    "exception": outcome.exception or None,
                    "enters_monitor": outcome.entered or None,
                    "registers": outcome.registers,
                    "saw": shows(row, outcome) or None,
                    "verdict": self.verdicts.get(ring),
                }
                for ring, outcome in self.outcomes.items()
            },
        }


def classify(rows: Iterable[Row], rings: Sequence[int] = RINGS, bench: Bench | None = None) -> list[Judgement]:
    """Run and judge rows; ring 0 is always run, for it is the measure."""
    own_bench = bench is None
    bench = bench or Bench()
    try:
        found = []
        for row in rows:
            outcomes = {ring: bench.run(row, ring) for ring in sorted({0, *rings})}
            own = outcomes[0]
            judge(row, own, own)  # the row itself must hold
            verdicts = {ring: judge(row, own, outcome) for ring, outcome in outcomes.items() if ring}
            found.append(Judgement(row, outcomes, verdicts))
        return found
    finally:
        if own_bench:
            bench.close()


def marked(row: Row, ring: int = 1, bench: Bench | None = None) -> bool:
    """Whether the row violates the condition at `ring`: then binary translation must rewrite the instruction."""
    return classify([row], (ring,), bench)[0].verdicts[ring] == VIOLATES
