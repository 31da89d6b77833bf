# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables and JSON on standard output.

On a terminal a table is rich's; elsewhere it is columns padded with blanks, which a script can split and
which nothing has to be imported for. Numbers stand right, words left.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_json(value: Any) -> None:
    """A value for a script."""
    json.dump(value, sys.stdout, indent=2)
    print(flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = ()) -> None:
    """Rows below their headings; the columns in `right` stand right."""
    texts = [[str(cell) for cell in row] for row in rows]
    flush_right = set(right)
    if sys.stdout.isatty():
        _rich(columns, texts, flush_right)
    else:
        sys.stdout.write(plain(columns, texts, flush_right))
        sys.stdout.flush()


def plain(columns: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> str:
    """A table as padded text."""
    lines = [list(columns), *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    text = ""
    for line in lines:
        cells = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text += "  ".join(cells).rstrip() + "\n"
    return text


def _rich(columns: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)
