# SPDX-License-Identifier: GPL-2.0-or-later
"""Published results of the classic papers, for the report that shows ours beside them.

Only papers.py reads them: no price may depend on them (costs.py).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final

from pvhv.compare.errors import unknown

DIRECTORY: Final = Path(__file__).parent / "published"


@dataclass(frozen=True)
class Row:
    """One benchmark in the paper's unit, column by column."""

    bench: str
    values: Mapping[str, Fraction]
    unchecked: frozenset[str]
    why: str = ""  # what it holds that no count of ours has and no table prices


@dataclass(frozen=True)
class Paper:
    """A paper's table."""

    name: str
    title: str
    citation: str
    unit: str
    cycles_per_unit: int
    costs: str  # the cost table that stands for its processor
    columns: Mapping[str, str]  # its name -> our technique, or "" where we have none
    rows: tuple[Row, ...]

    @property
    def techniques(self) -> tuple[str, ...]:
        """Ours, in the order of its columns."""
        return tuple(technique for technique in self.columns.values() if technique)

    @property
    def benches(self) -> tuple[str, ...]:
        return tuple(row.bench for row in self.rows)

    def value(self, row: Row, technique: str) -> Fraction:
        """The paper's value for a technique of ours."""
        return row.values[next(column for column, ours in self.columns.items() if ours == technique)]


def names() -> tuple[str, ...]:
    """The papers that are here."""
    return tuple(sorted(path.stem for path in DIRECTORY.glob("*.toml")))


def load(name: str) -> Paper:
    """A paper by name."""
    if name not in names():
        raise unknown("paper", name, names())
    data = tomllib.loads((DIRECTORY / f"{name}.toml").read_text("utf-8"), parse_float=Decimal)
    columns = data["columns"]
    rows = tuple(
        Row(
            bench,
            {column: Fraction(row[column]) for column in columns},
            frozenset(row.get("unchecked", ())),
            row.get("why", ""),
        )
        for bench, row in data["rows"].items()
    )
    return Paper(
        name, data["title"], data["citation"], data["unit"], data["cycles_per_unit"], data["costs"], columns, rows
    )
