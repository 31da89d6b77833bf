# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows as a table, or as JSON."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pvhv import __version__
from pvhv.machine import engine
from tools.benchmark.rows import Row, readable


def as_json(rows: Sequence[Row], samples: int) -> str:
    """One object: what was measured where, and the rows by name."""
    found: dict[str, Any] = {
        "pvhv": __version__,
        "engine": ".".join(map(str, engine.version())),
        "python": platform.python_version(),
        "host": f"{platform.system()} {platform.machine()}",
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "samples": samples,
        "rows": {
            row.name: {
                "group": row.group,
                "title": row.title,
                "value": None if row.missing else round(row.value, 4),
                "unit": row.unit,
                "ns": None if row.ns is None else round(row.ns, 2),
                "target": row.target,
                "met": row.met,
                "beside": row.beside or None,
                "missing": row.missing or None,
            }
            for row in rows
        },
    }
    return json.dumps(found, indent=1)


def table(rows: Sequence[Row], samples: int) -> Table:
    """The rows as a table; rows that miss their target are highlighted."""
    shown = Table(title=f"pvhv {__version__}: medians of {samples}", title_justify="left")
    shown.add_column("what")
    beside = any(row.beside for row in rows)
    for heading in ("figure", "in", "target", "time", *(["beside it"] if beside else [])):
        shown.add_column(heading, justify="left" if heading == "in" else "right")
    group = None
    for row in rows:
        if group not in (None, row.group):
            shown.add_section()
        group = row.group
        style = {True: "green", False: "bold red", None: ""}[row.met]
        target = "" if row.target is None else f"{'≥' if row.at_least else '≤'} {row.target:g}"
        time_ = "" if row.ns is None or row.unit in ("ns", "ms") else readable(row.ns)
        if row.missing:
            shown.add_row(row.title, "-", "not measured", target)
        else:
            shown.add_row(row.title, f"{row.value:.2f}", row.unit, target, time_, *([row.beside] * beside), style=style)
    if reasons := dict.fromkeys(row.missing for row in rows if row.missing):
        shown.caption = "not measured: " + "; ".join(reasons)
        shown.caption_justify = "left"
    return shown


def show(rows: Sequence[Row], samples: int) -> None:
    """The table on standard output."""
    Console(file=sys.stdout).print(table(rows, samples))


def progress(text: str) -> None:
    """Show a message to the person who waits."""
    print(text, file=sys.stderr, flush=True)
