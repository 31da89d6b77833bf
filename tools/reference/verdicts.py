# SPDX-License-Identifier: GPL-2.0-or-later
"""The answers of the real Xen to our test kernels, kept in the tree, and the comparison with pvhv's answers.

tests/reference/verdicts.json has, for every job of cases.py, the console's lines, how the domain ended, the versions of
Xen and QEMU, and a digest of the kernel's own source: a kernel that was changed since has to be recorded again.
tests/reference/differences.toml is the only place that excuses a line that differs.

Lines a kernel says vary (`varies:`) are compared with their numbers taken out.

This module runs nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.reference import cases
from tools.reference.machine import NOT_RUN, Outcome

RECORDED = Path(__file__).parents[2] / "tests" / "reference"
VERDICTS, DIFFERENCES = RECORDED / "verdicts.json", RECORDED / "differences.toml"
ASK_AGAIN = "ask the real Xen: python tools/xen_reference.py record"


@dataclass(frozen=True)
class Verdict:
    """The recorded outcome of one job."""

    source: str
    on: str
    ending: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Excuse:
    """A row of the list of differences: patterns of the lines there and here, who is at fault, and why."""

    kernel: str
    xen: str
    pvhv: str
    why: str
    whose: str  # "pvhv", "the reference machine" or "nobody"

    def covers(self, theirs: str, ours: str) -> bool:
        return bool(re.fullmatch(self.xen, theirs) and re.fullmatch(self.pvhv, ours))


def load() -> dict[str, Verdict]:
    """All recorded verdicts, by job."""
    return {
        name: Verdict(row["source"], row["on"], row["ending"], tuple(row["lines"]))
        for name, row in json.loads(VERDICTS.read_text()).items()
    }


def save(verdicts: Mapping[str, Verdict]) -> None:
    """Write the verdicts, with one line for each line of a console, so that a diff shows the lines that changed."""
    rows = {name: asdict(verdict) for name, verdict in sorted(verdicts.items())}
    VERDICTS.write_text(json.dumps(rows, indent=1, ensure_ascii=True) + "\n")


def excuses() -> list[Excuse]:
    """The list of differences."""
    return [Excuse(**row) for row in tomllib.loads(DIFFERENCES.read_text()).get("difference", [])]


def digest(kernel: str) -> str:
    """The digest of a kernel's own sources. The sources that all kernels share are not in it."""
    made = hashlib.sha256()
    for path in sorted((cases.SOURCES / kernel).iterdir()):
        made.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return made.hexdigest()[:16]


def recorded(kernel: str, outcome: Outcome, versions: Mapping[str, str]) -> Verdict:
    """An outcome as a verdict. Raises ValueError for an outcome that is no answer."""
    if outcome.ending in (NOT_RUN, "failed") or outcome.victim == "hurt":
        raise ValueError(f"{outcome.name}: {outcome.ending} {outcome.victim} {' '.join(outcome.complaints)}")
    return Verdict(digest(kernel), ", ".join(versions.values()), outcome.ending, tuple(outcome.lines))


def compared(kernel: str, verdict: Verdict, ending: str, lines: Sequence[str]) -> Iterable[tuple[str, str]]:
    """The lines that differ, theirs and ours; where one side has none, it is empty."""
    varies = cases.said(kernel, "varies")

    def plain(line: str) -> str:
        return re.sub(r"\d+", "N", line) if varies and re.search(varies, line) else line

    theirs = [*map(plain, verdict.lines), f"[{verdict.ending}]"]
    ours = [*map(plain, lines), f"[{ending}]"]
    for kind, a, b, c, d in difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
        if kind != "equal":
            more = max(b - a, d - c)
            yield from zip(
                theirs[a:b] + [""] * (more - b + a), ours[c:d] + [""] * (more - d + c), strict=True
            )


def unexplained(kernel: str, job: str, ending: str, lines: Sequence[str]) -> list[str]:
    """What differs from the recorded verdict and is not in the list of differences, a sentence each."""
    if (verdict := load().get(job)) is None:
        return [f"{job} has no verdict: {ASK_AGAIN} {kernel}"]
    if verdict.source != digest(kernel):
        return [f"{kernel}'s source is not what the verdict was given on: {ASK_AGAIN} {kernel}"]
    known = [excuse for excuse in excuses() if excuse.kernel == kernel]
    return [
        f"Xen: {theirs or '(nothing)'}\npvhv: {ours or '(nothing)'}"
        for theirs, ours in compared(kernel, verdict, ending, lines)
        if not any(excuse.covers(theirs, ours) for excuse in known)
    ]
