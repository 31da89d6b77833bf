# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv top`: what domains cost, shown again and again, as xentop does.

At a terminal each table replaces the one before, and keeps to the screen; elsewhere, and with --batch, they follow each
other.
What leaves a guest is shown per second and by kind: hypercalls, system calls on their way to the guest's kernel, faults
of the guest's own, instructions that were emulated for it, and the rest (of a fully virtualized guest: everything). Of
its disks, of whatever kind, requests and bytes are shown; with --json, as blkback counts them.

Read beside it: tools/xentop/xentop.c.
"""

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
from pvhv.images.image import SECTOR_SIZE
from pvhv.toolstack.names import shown

# Exits of a paravirtual guest by what they are about; a kind that stands nowhere is another.
ABOUT = {
    "Syscalls/s": ("syscall",),
    "Faults/s": ("page_fault", "exception", "no_device"),
    "Emulated/s": ("general_protection", "invalid_opcode", "cpuid", "io"),
}
OF_DISKS = ("VBD/s", "VBD_KiB/s")
COLUMNS = (
    "Name", "ID", "State", "Time(s)", "CPU(%)", "Hypercalls/s", *ABOUT, "Other/s", *OF_DISKS, "Mem", "VCPUs"
)  # fmt: skip
REQUESTS, SECTORS = ("rd_req", "wr_req", "f_req", "ds_req"), ("rd_sect", "wr_sect")  # blkback's counts of a disk
DISK_COUNTS = (*REQUESTS, *SECTORS)
LONGEST_DELAY = 10**6
RIGHT = {1, *range(3, len(COLUMNS))}


@command("top")
def top(
    delay: Annotated[
        float, typer.Option("-d", "--delay", help="Seconds between two tables.", min=0.05, max=LONGEST_DELAY)
    ] = 1.0,
    iterations: Annotated[
        int | None,
        typer.Option("-i", "--iterations", help="Show so many tables, then end.", metavar="N", min=1),
    ] = None,
    batch: Annotated[
        bool, typer.Option("-b", "--batch", help="Print tables one after another.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show each domain's hypercalls and exits by name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what domains cost, again and again (once if standard output is not a terminal)."""
    at_terminal = sys.stdout.isatty() and not as_json and not batch
    live = at_terminal and os.environ.get("TERM", "dumb") != "dumb"  # which knows no way back to its first line
    looks = iterations or (None if at_terminal or batch else 1)
    with connect() as client:
        before, then = client.call("counters"), time.monotonic()
        while looks is None or looks > 0:
            time.sleep(delay)
            now, at = client.call("counters"), time.monotonic()
            rows = [_rates(row, _of(before, row), at - then) for row in now]
            _show(rows, live, as_json, verbose)
            before, then = now, at
            looks = None if looks is None else looks - 1


def _of(rows: list[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    """The same domain's row in the table before; for a new domain the row itself."""
    return next((other for other in rows if other["domid"] == row["domid"]), row)


def _rates(row: dict[str, Any], before: dict[str, Any], seconds: float) -> dict[str, Any]:
    def rates(kind: str) -> dict[str, int]:
        grown = {name: count - before[kind].get(name, 0) for name, count in row[kind].items()}
        return {
            name: round(count / seconds)
            for name, count in sorted(grown.items(), key=lambda item: -item[1])
            if count
        }

    def total(kind: str) -> int:
        return round(float(sum(row[kind].values()) - sum(before[kind].values())) / seconds)

    def rate(name: str) -> int:  # a disk that was detached took its counts with it
        return max(round(float(row["disks"][name] - before["disks"][name]) / seconds), 0)

    return {
        **{key: row[key] for key in ("name", "domid", "state", "time", "memory", "vcpus")},
        "cpu_percent": round(100 * (row["time"] - before["time"]) / seconds, 1),
        "hypercalls_per_s": total("hypercalls"),
        "exits_per_s": total("exits"),
        "hypercalls": rates("hypercalls"),
        "exits": rates("exits"),
        "disks": {"vbds": row["disks"]["vbds"], **{f"{name}_per_s": rate(name) for name in DISK_COUNTS}},
    }


def _show(rows: list[dict[str, Any]], live: bool, as_json: bool, verbose: bool) -> None:
    if as_json:
        print(json.dumps(rows), flush=True)
        return
    rows = sorted(rows, key=lambda row: -row["cpu_percent"])
    cells = [_cells(row) for row in rows]
    notes = [_by_name(row) if verbose else [] for row in rows]
    if live:
        # Home, then each line over the old one, then clear what is below: no flicker.
        text = "\x1b[H" + _screen(cells, notes).replace("\n", "\x1b[K\n") + "\x1b[J"
    else:
        text = _table(cells, notes, len(COLUMNS))
    sys.stdout.write(text)
    sys.stdout.flush()


def _cells(row: dict[str, Any]) -> list[str]:
    about = [sum(row["exits"].get(kind, 0) for kind in kinds) for kinds in ABOUT.values()]
    other = sum(row["exits"].values()) - sum(about)  # not from the total, which is rounded by itself
    return [
        shown(row["name"]), str(row["domid"]), row["state"], f"{row['time']:.1f}", f"{row['cpu_percent']:.1f}",
        str(row["hypercalls_per_s"]), *map(str, about), str(other), *_of_disks(row["disks"]),
        str(row["memory"]), str(row["vcpus"]),
    ]  # fmt: skip


def _of_disks(disks: dict[str, int]) -> list[str]:
    """Requests a second, and KiB read and written; nothing for a domain without disks."""
    if not disks["vbds"]:
        return ["-", "-"]
    requests, sectors = (sum(disks[f"{name}_per_s"] for name in names) for names in (REQUESTS, SECTORS))
    return [str(requests), str(sectors * SECTOR_SIZE >> 10)]


def _by_name(row: dict[str, Any]) -> list[str]:
    """A domain's hypercalls and exits by name, the most frequent first."""
    return [
        f"  {what} a second: {', '.join(f'{name} {rate}' for name, rate in row[what].items())}"
        for what in ("hypercalls", "exits")
        if row[what]
    ]


def _table(cells: list[list[str]], notes: list[list[str]], columns: int) -> str:
    """The table, with each row's notes below it."""
    heading, *lines = plain(COLUMNS[:columns], [row[:columns] for row in cells], RIGHT).splitlines()
    text = [heading]
    for line, below in zip(lines, notes, strict=True):
        text += [line, *below]
    return "\n".join(text) + "\n"


def _screen(cells: list[list[str]], notes: list[list[str]]) -> str:
    """As much of the table as fits on the terminal: the last columns are left out, and a line says how many rows
    are."""
    room = shutil.get_terminal_size()
    notes = [[note[: room.columns - 1] for note in below] for below in notes]
    lines = max(room.lines - 2, 1)  # the headings; the line where the cursor rests
    shown = len(cells)
    if sum(1 + len(below) for below in notes) > lines:
        shown = 0
        used = 1  # the word for those that are not shown
        while used + 1 + len(notes[shown]) <= lines:
            used += 1 + len(notes[shown])
            shown += 1
    more = len(cells) - shown
    columns = len(COLUMNS)
    while True:
        text = _table(cells[:shown], notes[:shown], columns)
        widest = max(map(len, plain(COLUMNS[:columns], [row[:columns] for row in cells[:shown]], RIGHT).splitlines()))
        if columns == 1 or widest < room.columns:
            return text + (f"... {more} more\n" if more else "")
        columns -= 1
