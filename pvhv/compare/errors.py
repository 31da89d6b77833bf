# SPDX-License-Identifier: GPL-2.0-or-later
"""What whoever asks for a comparison got wrong: one sentence, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CompareError(Exception):
    """The question was wrong. The command says so and ends with status 2."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UnknownName(CompareError):
    """A technique, a benchmark, a cost table or a paper that is none."""


class CostTableError(CompareError):
    """A cost table does not say what it has to."""


class TechniqueNotAvailable(CompareError):
    """A technique that this pvhv does not run, or does not run here."""


class PlottingMissing(CompareError):
    """The extra with the plotting library is not installed."""


class OutputError(CompareError):
    """A file cannot be written."""


def shown(name: str) -> str:
    """A name from a keyboard or a file, fit to be printed between quotes."""
    return name if name.isprintable() else ascii(name)[1:-1]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    by_folded = {each.casefold(): each for each in known}
    begin = [each for folded, each in by_folded.items() if name and folded.startswith(name.casefold())]
    if len(begin) == 1:
        return begin[0]
    matches = difflib.get_close_matches(name.casefold(), by_folded, 1, 0.5)
    return by_folded[matches[0]] if matches else None


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that nothing has."""
    names = list(known)
    near = nearest(name, names)
    hint = f"did you mean '{near}'? " if near else ""
    return UnknownName(f"there is no {kind} '{shown(name)}'", f"{hint}known: {', '.join(names)}")
