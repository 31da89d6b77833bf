# SPDX-License-Identifier: GPL-2.0-or-later
"""From tasks to verdicts: both sides run, every difference is a line, and every line is looked for in the list.

Where the processor cannot be asked, or is another maker's, only the laws are held up: that the engine lives, that no
privilege comes without an exit, that what CPUID hides is undefined.

The list (differences.toml) is the only place that excuses a difference. A row is a kind: a pattern of tasks' names and
one of lines, with what the engine does, what the processor does, and why it stays. Rows with `only = "stock"` are of
the engine as the package index has it: in ours they are corrected, and there nothing excuses them. The two laws, that
the engine lives and that no privilege comes without an exit, have rows of that sort only.
"""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import islice
from pathlib import Path

from pvhv.machine import engine as uc
from tests.engine import opcode_map, processor, worker
from tests.engine.compare import difference
from tests.engine.records import AT, BREACH, CODE, DIED, ENDLESS, Outcome, Task, describe
from tests.engine.values import disassemble

LIST = Path(__file__).with_name("differences.toml")
BATCH = 16384
# What may leave ring 1 for an outer one: far returns and IRET, with anything before them.
_OUTWARDS = re.compile(r"ret|\b(cf|cb|ca)\b")


def is_stock() -> bool:
    """Whether the engine is the one of the `unicorn` package, rather than the corrected one that our builder makes."""
    return not uc.corrected


@dataclass(frozen=True)
class Finding:
    """A task of which the engine makes something else."""

    task: Task
    engine: Outcome
    processor: Outcome | None
    line: str

    @cached_property
    def subject(self) -> str:
        """The task's name and what it begins with, in words: what a row's `cases` is looked for in."""
        return f"{self.task.name}: {disassemble(self.task.code + bytes([0xF4] * 8), self.task.mode32, first=True)}"

    def __str__(self) -> str:
        return f"{self.subject} [{self.task.code.hex()}]: {self.line}"


@dataclass
class Row:
    """A kind of difference that is known."""

    name: str
    cases: re.Pattern[str]
    differs: re.Pattern[str]
    engine: str
    processor: str
    why: str = ""  # it stays; or, if it does not, what it means
    only: str = ""
    rare: bool = False  # too rare for the gate's part of a suite: looked for by tools/differences.py --all
    host: bool = False  # not the same on every machine: not missed where it is not
    found: int = field(default=0, compare=False)

    def excuses(self, finding: Finding) -> bool:
        return bool(self.differs.search(finding.line) and self.cases.search(finding.subject))


def rows(stock: bool | None = None) -> list[Row]:
    """The list, as far as it holds of this engine (or of the one that is asked for)."""
    engine = "stock" if (is_stock() if stock is None else stock) else "corrected"
    found = []
    for entry in tomllib.loads(LIST.read_text("utf-8"))["difference"]:
        row = Row(**{**entry, "cases": re.compile(entry["cases"]), "differs": re.compile(entry["differs"])})
        if row.only in ("", engine):
            found.append(row)
    return found


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="pvhv-proof-")


def outcomes(tasks: Sequence[Task], clock: worker.Clock = "wall") -> Iterator[tuple[Task, Outcome, Outcome | None]]:
    """Both sides of each; the processor's where it can be asked."""
    asked = [replace(t, code=opcode_map.for_processor(t)) for t in tasks if t.native]
    natively = iter(processor.run(asked, Path(_directory().name))) if processor.is_right() else None
    for task, ours in zip(tasks, worker.run(tasks, clock), strict=True):
        yield task, ours, next(natively) if natively and task.native else None


def verdict(task: Task, ours: Outcome, right: Outcome | None) -> str | None:
    """What is wrong, in a line: first the laws, which need no processor."""
    if ours.kind >= BREACH or ours.kind & ~0xFF == DIED:
        return f"ends {describe(ours.kind)}"
    if hidden := next((tag for tag in task.tags if tag.startswith("hidden:")), None):
        if ours.kind == 6 and ours.rip == CODE + AT:
            return None
        return f"{hidden.removeprefix('hidden:')} is hidden, and ends {describe(ours.kind, ours.error)}"
    if task.cpl == 1 and ours.selectors[1] & 3 != 1 and not _OUTWARDS.search(task.name):
        return f"falls to ring {ours.selectors[1] & 3}"
    if right is None:
        return "ends never" if ours.kind == ENDLESS else None
    return difference(task, ours, right)


def findings(tasks: Iterable[Task], clock: worker.Clock = "wall") -> Iterator[Finding]:
    """Every difference there is, in or out of the list."""
    waiting = iter(tasks)
    while batch := list(islice(waiting, BATCH)):
        for task, ours, right in outcomes(batch, clock):
            if line := verdict(task, ours, right):
                yield Finding(task, ours, right, line)


def judge(tasks: Iterable[Task], known: Sequence[Row], clock: worker.Clock = "wall") -> list[Finding]:
    """The differences that no row excuses; the rows count those that they do."""
    unknown = []
    for finding in findings(tasks, clock):
        excusing = [row for row in known if row.excuses(finding)]
        for row in excusing:
            row.found += 1
        if not excusing:
            unknown.append(finding)
    return unknown
