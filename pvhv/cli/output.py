# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables and JSON on standard output.

A table's columns are padded with blanks, and nothing in a table moves a terminal's cursor. On a terminal the headings
are bold, and the table keeps to the terminal's width: cells are folded, never cut. Elsewhere each row is one line, as
long as it has to be, so that grep finds rows; two blanks or more separate the columns. Numbers are aligned to the
right, words to the left.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from pvhv.toolstack.names import shown

GAP = "  "
NARROWEST = 12  # columns of words are not made narrower than that


def print_json(value: Any) -> None:
    """Print a value as JSON, for a script."""
    json.dump(value, sys.stdout, indent=2)
    print(flush=True)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    right: Iterable[int] = (),
    foldable: Iterable[int] = (),
) -> None:
    """Print rows below their headings. The columns in `right` are aligned to the right; those in `foldable` are folded
    first."""
    texts = [[shown(str(cell)) for cell in row] for row in rows]
    flush_right = set(right)
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns  # COLUMNS, or what the terminal says
        _at_terminal(plain(columns, texts, flush_right, _fitting(columns, texts, flush_right, set(foldable), room)))
    else:
        sys.stdout.write(plain(columns, texts, flush_right))
        sys.stdout.flush()


def plain(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: set[int], widths: Sequence[int] | None = None
) -> str:
    """A table as padded text. With `widths`, a longer cell goes on in the next line."""
    lines = [list(columns), *rows]
    if widths is None:
        widths = _natural(lines)
    text = ""
    for line in lines:
        for pieces in zip_longest(*map(_folded, line, widths), fillvalue=""):
            cells = [
                piece.rjust(width) if at in right else piece.ljust(width)
                for at, (piece, width) in enumerate(zip(pieces, widths, strict=True))
            ]
            text += GAP.join(cells).rstrip() + "\n"
    return text


def _natural(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _fitting(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: set[int], foldable: set[int], room: int
) -> list[int]:
    """Widths of columns that fit into `room`, if possible: the widest columns are narrowed, those in `foldable`
    first."""
    widths = _natural([columns, *rows])
    for giving in (foldable, set(range(len(columns))) - right):
        while sum(widths) + len(GAP) * (len(widths) - 1) > room:
            wide = [at for at in giving if widths[at] > max(NARROWEST, len(columns[at]))]
            if not wide:
                break
            widths[max(wide, key=lambda at: widths[at])] -= 1
    return widths


def _folded(text: str, width: int) -> list[str]:
    """A text in pieces of `width` characters at most, broken at blanks, or else behind the signs that join parts of
    names."""
    pieces = []
    while len(text) > width:
        at = text.rfind(" ", 1, width + 1)
        if at < 0:
            at = max(text.rfind(mark, 0, width) for mark in "._-") + 1 or width
        pieces.append(text[:at])
        text = text[at:].lstrip(" ")
    return [*pieces, text]


def _at_terminal(table: str) -> None:
    from rich.console import Console
    from rich.text import Text

    heading, _, rows = table.partition("\n")
    console = Console(highlight=False)
    console.print(Text(heading, style="bold"), soft_wrap=True)
    console.print(Text(rows), soft_wrap=True, end="")
