# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv top`: what domains cost, over and over."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from typing import Annotated, Any

import typer

from pvhv.cli.commands import AsJson, command
from pvhv.cli.common import connect
from pvhv.cli.output import plain

COLUMNS = ("Name", "ID", "State", "Time(s)", "CPU(%)", "Mem", "VCPUs", "Hypercalls/s", "Exits/s")
LONGEST_DELAY = 10**6
RIGHT = {1, 3, 4, 5, 6, 7, 8}


@command("top")
def top(
    delay: Annotated[
        float, typer.Option("-d", "--delay", help="Seconds between two looks.", min=0.05, max=LONGEST_DELAY)
    ] = 1.0,
    iterations: Annotated[
        int | None,
        typer.Option("-i", "--iterations", help="Look so many times, then end.", metavar="N", min=1),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what domains cost, over and over (once where standard output is not a terminal)."""
    at_terminal = sys.stdout.isatty() and not as_json
    live = at_terminal and os.environ.get("TERM", "dumb") != "dumb"  # which knows no way back to its first line
    looks = iterations or (None if at_terminal else 1)
    with connect() as client:
        before, then = client.call("counters"), time.monotonic()
        while looks is None or looks > 0:
            time.sleep(delay)
            now, at = client.call("counters"), time.monotonic()
            rows = [_rates(row, _of(before, row), at - then) for row in now]
            _show(rows, live, as_json)
            before, then = now, at
            looks = None if looks is None else looks - 1


def _of(rows: list[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    """The same domain's row of the look before; a new domain is its own."""
    return next((other for other in rows if other["domid"] == row["domid"]), row)


def _rates(row: dict[str, Any], before: dict[str, Any], seconds: float) -> dict[str, Any]:
    def rate(kind: str) -> float:
        return float(sum(row[kind].values()) - sum(before[kind].values())) / seconds

    return {
        **{key: row[key] for key in ("name", "domid", "state", "time", "memory", "vcpus")},
        "cpu_percent": round(100 * (row["time"] - before["time"]) / seconds, 1),
        "hypercalls_per_s": round(rate("hypercalls")),
        "exits_per_s": round(rate("exits")),
    }


def _show(rows: list[dict[str, Any]], live: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows), flush=True)
        return
    cells = [
        [
            row["name"], str(row["domid"]), row["state"], f"{row['time']:.1f}", f"{row['cpu_percent']:.1f}",
            str(row["memory"]), str(row["vcpus"]), str(row["hypercalls_per_s"]), str(row["exits_per_s"]),
        ]
        for row in sorted(rows, key=lambda row: -row["cpu_percent"])
    ]  # fmt: skip
    if live:
        # Home, then each line over the old one, then clear what is below: no flicker.
        text = "\x1b[H" + _screen(cells).replace("\n", "\x1b[K\n") + "\x1b[J"
    else:
        text = plain(COLUMNS, cells, RIGHT)
    sys.stdout.write(text)
    sys.stdout.flush()


def _screen(cells: list[list[str]]) -> str:
    """As much of the table as the terminal has room for: without last columns, with a word for last rows."""
    room = shutil.get_terminal_size()
    shown = len(COLUMNS)
    more = len(cells) - max(room.lines - 2, 1)  # the headings; the line where the cursor rests
    if more > 0:
        more += 1
        cells = cells[:-more]
    while True:
        text = plain(COLUMNS[:shown], [row[:shown] for row in cells], RIGHT)
        if shown == 1 or max(map(len, text.splitlines())) < room.columns:
            return text + (f"... {more} more\n" if more > 0 else "")
        shown -= 1
