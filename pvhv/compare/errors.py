# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors of a comparison: one sentence says what is wrong with the question, another one what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CompareError(Exception):
    """The question is wrong. The command prints the message, and ends with status 2."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UnknownName(CompareError):
    """There is no technique, benchmark, cost table or paper with that name."""


class CostTableError(CompareError):
    """A cost table does not say what it has to."""


class TechniqueNotAvailable(CompareError):
    """This pvhv cannot run the technique, or not on this machine."""


class PlottingMissing(CompareError):
    """The plotting library, which is an extra, is not installed."""


class OutputError(CompareError):
    """A file cannot be written."""


def shown(name: str) -> str:
    """A name from a keyboard or a file, fit to be printed between quotes."""
    return name if name.isprintable() else ascii(name)[1:-1]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant; None if there is none near."""
    by_folded = {each.casefold(): each for each in known}
    begin = [each for folded, each in by_folded.items() if name and folded.startswith(name.casefold())]
    if len(begin) == 1:
        return begin[0]
    matches = difflib.get_close_matches(name.casefold(), by_folded, 1, 0.5)
    return by_folded[matches[0]] if matches else None


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for an unknown name."""
    names = list(known)
    near = nearest(name, names)
    hint = f"did you mean '{near}'? " if near else ""
    return UnknownName(f"there is no {kind} '{shown(name)}'", f"{hint}known: {', '.join(names)}")
