# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong with a file, gathered while it is read, so that all problems are told together and in the file's order.

An error keeps the domain from being made; a warning does not. Each has a place in the file. After either of them
reading goes on, with a value that does not cause further errors.
"""

from __future__ import annotations

from typing import NamedTuple

from pvhv.toolstack.errors import ToolstackError

LONGEST_TEXT = 400
MOST_TOLD = 50  # of either kind: a file may be anything


class Place(NamedTuple):
    """A line of a file, or the command line, which has none."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


class Problem(NamedTuple):
    """What is wrong, and what to do about it."""

    place: Place
    text: str
    hint: str = ""
    status: int = 1  # the command's

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class Problems:
    """The errors and warnings of reading one file."""

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    def error(self, place: Place, text: str, hint: str = "", status: int = 1) -> None:
        """Add an error, which keeps the domain from being made; `status` is the command's exit status."""
        self.errors.append(Problem(place, _clipped(text), _clipped(hint), status))

    def warn(self, place: Place, text: str) -> None:
        """Add a warning."""
        self.warnings.append(Problem(place, _clipped(text)))

    def told(self) -> list[str]:
        """The warnings, as lines."""
        return _some([[str(warning)] for warning in sorted(self.warnings, key=_order)])

    def refuse_if_any(self) -> None:
        """Raises one ToolstackError of all errors, with the warnings below them."""
        if not self.errors:
            return
        errors = sorted(self.errors, key=_order)
        status = max(error.status for error in errors)
        if len(errors) == 1:
            lines = [errors[0].hint] if errors[0].hint else []
            head = str(errors[0])
        else:
            head = f"{len(errors)} things are wrong"
            lines = _some([_lines(error) for error in errors])
        if told := self.told():
            lines += ["to know as well:", *told]
        raise ToolstackError(head, "\n".join(lines), status=status)


def _order(problem: Problem) -> tuple[bool, int]:
    line = problem.place.line
    return line == 0, line  # the command line comes last


def _clipped(text: str) -> str:
    half = LONGEST_TEXT // 2
    return text if len(text) <= LONGEST_TEXT else f"{text[:half]} ... {text[-half:]}"


def _lines(problem: Problem) -> list[str]:
    return [str(problem), *(f"    {line}" for line in problem.hint.splitlines())]


def _some(groups: list[list[str]]) -> list[str]:
    lines = [line for group in groups[:MOST_TOLD] for line in group]
    return lines + [f"and {len(groups) - MOST_TOLD} more"] * (len(groups) > MOST_TOLD)
