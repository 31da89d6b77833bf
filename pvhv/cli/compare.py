# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv compare`: what operations cost under each virtualization technique.

Options are checked before anything runs. Answers go to standard output, progress to standard error. pvhv.compare counts
and prices; this module asks and prints.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from pvhv.cli.commands import command
from pvhv.cli.output import print_table
from pvhv.hvm.names import BINARY_TRANSLATION, HW_SHADOW
from pvhv.toolstack.errors import UsageError

if TYPE_CHECKING:
    from pvhv.compare.costs import CostTable
    from pvhv.compare.linux import Linux
    from pvhv.compare.published import Paper
    from pvhv.compare.records import Comparison
    from pvhv.compare.report import Grid

DEFAULT_COSTS = "skylake-kvm"  # the table that prices all techniques
DEFAULT_PAIR = (BINARY_TRANSLATION, HW_SHADOW)
DEFAULT_DISK_PAIR = ("hw-nested/virtio", "pv/split")

Names = list[str] | None


@dataclass(frozen=True)
class Request:
    """The options, checked."""

    techniques: tuple[str, ...]
    benches: tuple[str, ...]
    tables: tuple[CostTable, ...]
    paper: Paper | None
    explain: str | None
    plot: str | None
    plotted: CostTable | None  # the table that the picture is priced by; without one it shows exits
    measured: bool
    verbose: bool
    linux: Linux | None
    lives: bool


@command("compare")
def compare(
    technique: Annotated[
        Names, typer.Option("-t", "--technique", help="Only these techniques; may be repeated.", metavar="NAME")
    ] = None,
    bench: Annotated[
        Names, typer.Option("-b", "--bench", help="Only these benchmarks; may be repeated.", metavar="NAME")
    ] = None,
    costs: Annotated[
        Names, typer.Option("--costs", help="Price events by this table, or a file of your own.", metavar="TABLE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print exact counts as JSON, for scripts.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print exact counts as CSV.")] = False,
    plot: Annotated[
        str | None,
        typer.Option("--plot", help="Draw it into a .png or .svg file; priced if --costs is given.", metavar="FILE"),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option("--explain", help="The exits of one operation, in two techniques side by side.", metavar="BENCH"),
    ] = None,
    paper: Annotated[
        str | None, typer.Option("--paper", help="Compare with a paper's published results.", metavar="PAPER")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Run all benchmarks.")] = False,
    linux: Annotated[
        bool, typer.Option("--linux", help="Count a stock Linux as well: operations, boot, shell, poweroff.")
    ] = False,
    kernel: Annotated[
        str | None, typer.Option("--kernel", help="With --linux: this kernel, not the fetched one.", metavar="FILE")
    ] = None,
    ramdisk: Annotated[
        str | None, typer.Option("--ramdisk", help="With --linux: its ramdisk, with a shell.", metavar="FILE")
    ] = None,
    io: Annotated[
        str | None,
        typer.Option("--io", help="Compare devices: one disk as IDE, virtio and split driver.", metavar="disk"),
    ] = None,
    measured: Annotated[bool, typer.Option("--measured", help="Measure wall time on this engine as well.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show all counts, and every price.")] = False,
) -> None:
    """Count what operations cost under each virtualization technique."""
    from pvhv.compare.errors import CompareError

    try:
        if as_json and as_csv:
            raise CompareError("--json and --csv cannot be given together", "leave out one of them")
        if as_csv and (explain is not None or paper is not None):
            raise CompareError("--csv has no room for --explain and --paper", "take --json")
        if not linux and (kernel is not None or ramdisk is not None):
            raise CompareError("--kernel and --ramdisk need --linux", "give --linux as well")
        if io is not None:
            others = {"--all": everything, "--linux": linux, "--measured": measured, "--paper": paper, "--costs": costs}
            disk_request = _checked_io(io, technique, bench, plot, explain, others, verbose)
            _answer_io(disk_request, _run_io(disk_request), as_json, as_csv)
            return
        stock = (kernel, ramdisk) if linux else None
        request = _checked(technique, bench, costs, plot, explain, paper, everything, stock, measured, verbose)
        _answer(request, _run(request), as_json, as_csv)
    except CompareError as error:
        raise UsageError(error.message, error.hint) from None


def _checked(
    technique: Names,
    bench: Names,
    costs: Names,
    plot: str | None,
    explain: str | None,
    paper: str | None,
    everything: bool,
    stock: tuple[str | None, str | None] | None,
    measured: bool,
    verbose: bool,
) -> Request:
    from pvhv.compare import BENCHES, DEFAULT_BENCHES, TECHNIQUES, CompareError, linux, names, published
    from pvhv.compare.costs import load
    from pvhv.compare.plot import check

    techniques = names.techniques_named(_split(technique)) or tuple(TECHNIQUES)
    benches = names.benches_named(_split(bench)) or (tuple(BENCHES) if everything else DEFAULT_BENCHES)
    chosen = [option for option, given in (("--bench", bench), ("--all", everything)) if given]
    found = None
    if stock is not None:
        if explain is not None or paper is not None or measured:
            raise CompareError("--linux adds counts to a comparison", "leave out --explain, --paper and --measured")
        found = linux.found(*stock)
        techniques = techniques if technique else (names.PV,)
        benches = benches if chosen else linux.OPERATIONS
    if len(chosen) > 1:
        raise CompareError("--bench and --all contradict each other", "leave out one of them")
    if explain is not None:
        if chosen or paper is not None or plot is not None:
            raise CompareError("--explain shows one benchmark only", "leave out --bench, --all, --paper and --plot")
        benches = names.benches_named([explain])
        techniques = techniques if technique else DEFAULT_PAIR
        if len(techniques) != 2:
            raise CompareError("--explain compares two techniques", "give two: --technique NAME --technique NAME")
    source = None if paper is None else published.load(paper)
    if source is not None:
        if technique or chosen:
            raise CompareError("--paper chooses techniques and benchmarks", "leave out --technique, --bench and --all")
        techniques = names.techniques_named(source.techniques)
        benches = names.benches_named(source.benches)
    tables = tuple(map(load, _split(costs) or [DEFAULT_COSTS if source is None else source.costs]))
    if source is not None and len(tables) > 1:
        raise CompareError("--paper takes one cost table", "give --costs once")
    if plot is not None:
        check(plot)
    plotted = tables[0] if costs or source is not None else None
    return Request(
        techniques, benches, tables, source, explain, plot, plotted, measured, verbose, found, lives=not chosen
    )


def _checked_io(
    io: str,
    technique: Names,
    bench: Names,
    plot: str | None,
    explain: str | None,
    others: Mapping[str, object],
    verbose: bool,
) -> Request:
    from pvhv.compare import CompareError, names
    from pvhv.compare.plot import check

    if io != names.DISK_IO:
        raise CompareError(f"there is nothing to compare for --io {io[:40]!r}", "there is --io disk")
    if extra := [option for option, given in others.items() if given]:
        raise CompareError(f"--io disk counts, and has no {extra[0]}", f"leave out {extra[0]}")
    benches = names.disk_benches_named(_split(bench)) or tuple(names.DISK_BENCHES)
    columns = names.disk_columns_named(_split(technique)) or tuple(names.DISK_COLUMNS)
    if explain is not None:
        if bench or plot is not None:
            raise CompareError("--explain shows one operation only", "leave out --bench and --plot")
        benches = names.disk_benches_named([explain])
        columns = columns if technique else DEFAULT_DISK_PAIR
        if len(columns) != 2:
            raise CompareError(
                "--explain compares two columns", "give two, as in -t hw-nested/ide -t hw-nested/virtio"
            )
    if plot is not None:
        check(plot)
    return Request(columns, benches, (), None, explain, plot, None, False, verbose, None, lives=False)


def _run_io(request: Request) -> Comparison:
    from pvhv.build.progress import Progress
    from pvhv.compare import disk_io

    with Progress("compare") as progress:

        def begins(column: str, bench: str, done: int, of: int) -> None:
            if not done:
                progress.expect(of)
            progress.advance(f"{column}: {bench}")

        sequences = [request.explain] if request.explain else []
        return disk_io.run(request.techniques, request.benches, progress=begins, sequences=sequences)


def _answer_io(request: Request, comparison: Comparison, as_json: bool, as_csv: bool) -> None:
    from pvhv.compare import report

    if as_json or as_csv or request.explain is not None:
        _answer(request, comparison, as_json, as_csv)
        return
    if request.plot is not None:
        from pvhv.compare import plot as plots

        plots.plot(comparison, request.plot)
    _show(report.disk_picture(comparison))
    _show(report.disk_details(comparison))
    if request.verbose:
        _show(report.work(comparison, verbose=True))


def _split(names: Iterable[str] | None) -> list[str]:
    return [name.strip() for text in names or () for name in text.split(",")]


def _run(request: Request) -> Comparison:
    from pvhv.build.progress import Progress
    from pvhv.compare import linux, run

    with Progress("compare") as progress:

        def begins(technique: str, bench: str, done: int, of: int) -> None:
            if not done:
                progress.expect(of)
            progress.advance(f"{technique}: {bench}")

        comparison = run(
            request.techniques,
            request.benches,
            progress=begins,
            sequences=[request.explain] if request.explain else [],
            measured=request.measured,
        )
        if request.linux is not None:
            comparison = linux.add(
                comparison, request.linux, request.benches, lives=request.lives, progress=begins
            )
    return comparison


def _answer(request: Request, comparison: Comparison, as_json: bool, as_csv: bool) -> None:
    from pvhv.compare import export, papers, report
    from pvhv.compare import plot as plots
    from pvhv.compare.explain import explain

    if request.plot is not None:
        plots.plot(comparison, request.plot, request.plotted)
    if as_csv:
        sys.stdout.write(export.to_csv(comparison, request.tables, request.verbose))
        return
    if as_json:
        source = request.paper
        paper = None if source is None else papers.plain(source, comparison, request.tables[0])
        sys.stdout.write(export.to_json(comparison, request.tables, request.verbose, paper))
        return
    if request.explain is not None:
        left, right = request.techniques
        _show(explain(comparison, request.explain, left, right, request.verbose))
        return
    if request.paper is not None:
        _show_paper(request.paper, comparison, request.tables[0])
    else:
        _show(report.picture(comparison))
        for table in request.tables:
            _show(report.cycles(comparison, table, request.verbose))
        _show(report.details(comparison))
    if request.verbose:
        _show(report.work(comparison, verbose=True))
        for table in request.tables:
            _show(report.breakdown(comparison, table))
    if request.measured:
        _show(report.measured(comparison))


def _show(grid: Grid) -> None:
    """Print a table: its title above, its notes below."""
    print(grid.title)
    print_table(grid.columns, grid.rows, grid.right, grid.foldable)
    for note in grid.notes:
        print(f"  {note}")
    print()


def _show_paper(paper: Paper, comparison: Comparison, table: CostTable) -> None:
    from pvhv.compare.papers import report

    whole = report(paper, comparison, table)
    print(f"{whole.title}\n")
    for grid in whole.grids:
        _show(grid)
    print("In words")
    marks = {True: "as in the paper", False: "not as in the paper", None: "note"}
    for finding in whole.findings:
        print(f"  {finding.about} ({marks[finding.agrees]}): {finding.text}.")
    print()
