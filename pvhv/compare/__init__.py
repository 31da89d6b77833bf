# SPDX-License-Identifier: GPL-2.0-or-later
"""One guest kernel under six virtualization techniques: what every operation costs, counted.

For a notebook:

    from pvhv import compare

    result = compare.run(["bare", "hw-shadow", "pv"], ["syscall", "pgfault"])
    polars.DataFrame(result.records())                         # one row a number, nothing averaged
    table = compare.costs.load("p4-2006")
    polars.DataFrame(compare.export.records(result, [table]))  # the same, with estimated cycles
    compare.plot.plot(result, "compare.svg", table)

A record has technique, bench, group, metric, reason, count and operations; an average is count / operations. The rooms:

    names.py      techniques and benchmarks      records.py    counts, exact, and records    runner.py  who counts
    costs.py      prices of primitives, as data  pricing.py    counts times prices
    report.py     tables                         explain.py    two sequences of events, side by side
    plot.py       pictures                       export.py     JSON and CSV
    published.py  results of papers              papers.py     ours beside theirs: ranks.py, findings.py
    linux.py      a stock Linux beside ours                    disk_io.py    one disk by three device models
"""

from __future__ import annotations

from collections.abc import Sequence

from pvhv.compare import (
    costs,
    disk_io,
    explain,
    export,
    linux,
    names,
    papers,
    plot,
    pricing,
    published,
    records,
    report,
)
from pvhv.compare.errors import CompareError
from pvhv.compare.names import BENCHES, DEFAULT_BENCHES, TECHNIQUES
from pvhv.compare.records import Comparison, Counts, Step
from pvhv.compare.runner import Progress
from pvhv.compare.runner import run as _run

__all__ = [
    "BENCHES",
    "DEFAULT_BENCHES",
    "TECHNIQUES",
    "CompareError",
    "Comparison",
    "Counts",
    "Progress",
    "Step",
    "costs",
    "disk_io",
    "explain",
    "export",
    "linux",
    "names",
    "papers",
    "plot",
    "pricing",
    "published",
    "records",
    "report",
    "run",
]


def run(
    techniques: Sequence[str] | None = None,
    benches: Sequence[str] | None = None,
    *,
    progress: Progress | None = None,
    sequences: Sequence[str] = (),
    measured: bool = False,
) -> Comparison:
    """Run benchmarks under techniques: all techniques, the default benchmarks. Raises CompareError for an unknown name.

    `progress(technique, bench, done, of)` is called before each. `sequences`: benchmarks of which one operation is
    recorded event by event. `measured`: wall time on this engine as well.
    """
    return _run(
        names.techniques_named(TECHNIQUES if techniques is None else techniques),
        names.benches_named(DEFAULT_BENCHES if benches is None else benches),
        progress=progress,
        sequences=names.benches_named(sequences),
        measured=measured,
    )
