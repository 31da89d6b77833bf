# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the chapter on comparing virtualization techniques: docs/comparing.md and its pictures, from our own counts.

    python tools/gen_chapter.py            write the chapter
    python tools/gen_chapter.py --check    exit 1 when it is not what would be written

Every number in it is counted anew each time, on the virtual clock; so the chapter is the same on every machine, and
goes stale only when the kernel or a technique changes. The text between the tables is in chapter.md.in, with marks
where generated parts go.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pvhv import compare  # noqa: E402
from pvhv.build.progress import Progress  # noqa: E402
from pvhv.compare import costs, disk_io, explain, names, papers, plot, published, report  # noqa: E402
from pvhv.compare.report import Grid  # noqa: E402
from pvhv.hvm.classify.instructions import ROWS  # noqa: E402
from pvhv.hvm.classify.verdict import classify  # noqa: E402

WORDS = Path(__file__).with_name("chapter.md.in")
DOCS = ROOT / "docs"
CHAPTER = "comparing.md"
DRAWN = ("syscall", "in", "pgfault", "ptemod", "fork", "exec", "ctx-2p-0k", "page-fault")  # there is no room for all
PICTURES = {"exits.svg": None, "cycles-2006.svg": "p4-2006", "cycles-today.svg": "skylake-kvm"}
EXPLAINED = ("page-fault", "hw-shadow", "pv")
DISK_PICTURE = "disk-exits.svg"
DISK_PARTS = ("read-64k",)  # there is no room for all
DISK_EXPLAINED = ("read-4k", "hw-nested/ide", "hw-nested/virtio")
MARK = re.compile(r"^<!-- (?P<name>[a-z-]+)(?: (?P<argument>\S+))? -->$", re.MULTILINE)


def wanted() -> list[str]:
    """The benchmarks that the chapter tells of: the default ones, and those of the papers."""
    told = (bench for name in published.names() for bench in published.load(name).benches)
    chosen = {*compare.DEFAULT_BENCHES, *told}
    return [bench for bench in compare.BENCHES if bench in chosen]


def count() -> compare.Comparison:
    """Count these benchmarks under all techniques, and record one operation step by step."""
    with Progress("chapter") as progress:

        def begins(technique: str, bench: str, done: int, of: int) -> None:
            if not done:
                progress.expect(of)
            progress.advance(f"{technique}: {bench}")

        return compare.run(benches=wanted(), progress=begins, sequences=[EXPLAINED[0]])


def count_disk() -> compare.Comparison:
    """Count the operations of a disk, by all device models, and record one step by step."""
    with Progress("chapter") as progress:

        def begins(column: str, bench: str, done: int, of: int) -> None:
            if not done:
                progress.expect(of)
            progress.advance(f"{column}: {bench}")

        columns, benches = list(names.DISK_COLUMNS), list(names.DISK_BENCHES)
        return disk_io.run(columns, benches, progress=begins, sequences=[DISK_EXPLAINED[0]])


# -- what stands at the marks ------------------------------------------------------------------------------------------
def table(grid: Grid) -> str:
    """A grid as Markdown."""

    def row(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join("--:" if column in grid.right else "---" for column in range(len(grid.columns))) + "|"
    lines = [f"*{grid.title}*", "", row(grid.columns), rule, *(row(cells) for cells in grid.rows)]
    if grid.notes:
        lines += ["", *(f"- {note}" for note in grid.notes)]
    return "\n".join(lines)


def paper(name: str, comparison: compare.Comparison) -> str:
    """A paper's rows beside ours, and the findings."""
    source = published.load(name)
    whole = papers.report(source, comparison, costs.load(source.costs))
    sign = {True: "as in the paper", False: "**not** as in the paper"}
    said = [
        f"- **{finding.about}**, {sign[finding.agrees]}: {finding.text}."
        for finding in whole.findings
        if finding.agrees is not None
    ]
    return "\n\n".join([*(table(grid) for grid in whole.grids), "\n".join(said)])


def classified() -> str:
    """Which of the listed instructions do not trap."""
    rows = []
    for judgement in classify([row for row in ROWS if row.listed], (0, 1, 3)):
        rows.append((judgement.row.name, judgement.did(0), judgement.did(1), judgement.verdict))
    columns = ("Instruction", "At ring 0, without a monitor", "At ring 1, under a monitor", "Verdict")
    return table(Grid("Robin and Irvine's list, run on the engine", columns, tuple(rows)))


def chapter(comparison: compare.Comparison, disk: compare.Comparison) -> str:
    """The text of chapter.md.in, with everything generated in its place."""
    makers: dict[str, Callable[[str], str]] = {
        "exits": lambda _: table(report.picture(comparison)),
        "cycles": lambda name: table(report.cycles(comparison, costs.load(name))),
        "paper": lambda name: paper(name, comparison),
        "explain": lambda _: table(explain.explain(comparison, *EXPLAINED)),
        "classify": lambda _: classified(),
        "models": lambda _: table(Grid("The three devices", ("Device", "What it is"), tuple(names.MODELS.items()))),
        "disk": lambda _: table(report.disk_picture(disk)),
        "disk-parts": lambda _: table(report.disk_details(only(disk, DISK_PARTS))),
        "disk-explain": lambda _: table(explain.explain(disk, *DISK_EXPLAINED)),
        "techniques": lambda _: table(
            Grid("The six techniques", ("Technique", "What it is"), tuple(compare.TECHNIQUES.items()))
        ),
    }
    text = MARK.sub(lambda mark: makers[mark["name"]](mark["argument"] or ""), WORDS.read_text("utf-8"))
    return text.rstrip() + "\n"


def write(comparison: compare.Comparison, disk: compare.Comparison, docs: Path) -> None:
    """The chapter and its pictures into a directory."""
    (docs / CHAPTER).write_text(chapter(comparison, disk), "utf-8")
    plot.plot(disk, str(docs / DISK_PICTURE))
    drawn = only(comparison, DRAWN)
    for name, prices in PICTURES.items():
        plot.plot(drawn, str(docs / name), costs.load(prices) if prices else None)


def only(comparison: compare.Comparison, benches: Sequence[str]) -> compare.Comparison:
    """The comparison, reduced to these benchmarks."""
    return compare.Comparison.of(
        (counts for counts in comparison if counts.bench in benches),
        absent={pair: why for pair, why in comparison.absent.items() if pair[1] in benches},
        sequences={pair: steps for pair, steps in comparison.sequences.items() if pair[1] in benches},
    )


def stale(comparison: compare.Comparison, disk: compare.Comparison) -> list[str]:
    """The files that are not what would be written."""
    with tempfile.TemporaryDirectory() as place:
        write(comparison, disk, Path(place))
        return [
            name
            for name in (CHAPTER, *PICTURES, DISK_PICTURE)
            if not (DOCS / name).exists() or (DOCS / name).read_bytes() != (Path(place) / name).read_bytes()
        ]


def main() -> None:
    """Write the chapter, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the chapter is what would be written")
    arguments = parser.parse_args()
    comparison, disk = count(), count_disk()
    if not arguments.check:
        DOCS.mkdir(exist_ok=True)
        write(comparison, disk, DOCS)
        return
    if old := stale(comparison, disk):
        sys.exit(f"{', '.join(old)}: out of date; run `python tools/gen_chapter.py`")


if __name__ == "__main__":
    main()
