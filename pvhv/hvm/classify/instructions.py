# SPDX-License-Identifier: GPL-2.0-or-later
"""All rows, and finding one by its name."""

from __future__ import annotations

import difflib
from typing import Final

from pvhv.hvm.classify.image import Image, image
from pvhv.hvm.classify.listed import LISTED
from pvhv.hvm.classify.privileged import PRIVILEGED
from pvhv.hvm.classify.row import REGISTERS, Row

__all__ = ["LISTED", "PRIVILEGED", "REGISTERS", "ROWS", "Image", "Row", "UnknownInstruction", "image", "rows_of"]

ROWS: Final = [*LISTED, *PRIVILEGED]


class UnknownInstruction(LookupError):
    """No row has this name; `nearest` is what may have been meant, or empty."""

    def __init__(self, name: str, nearest: str) -> None:
        super().__init__(f"no row for {name!r}")
        self.name, self.nearest = name, nearest


def rows_of(name: str) -> list[Row]:
    """The row of this name, or all rows about this instruction; in any case of letters."""
    wanted = name.casefold()
    names = {row.name.casefold(): row.name for row in ROWS} | {row.about.casefold(): row.about for row in ROWS}
    found = [row for row in ROWS if row.about.casefold() == wanted] or [
        row for row in ROWS if row.name.casefold() == wanted
    ]
    if not found:
        nearest = difflib.get_close_matches(wanted, names, 1)
        raise UnknownInstruction(name, names[nearest[0]] if nearest else "")
    return found
