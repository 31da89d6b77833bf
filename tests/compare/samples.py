# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts made by hand, for tests of what is made of counts."""

from fractions import Fraction
from typing import Any

from pvhv.compare.costs import PRIMITIVES, CostTable, Price
from pvhv.compare.records import Counts


def counts(technique: str, bench: str, operations: int = 1, user: int = 0, kernel: int = 0, **more: Any) -> Counts:
    """Counts with so many instructions; other scalars by name with `_` for the dot they do not have."""
    families = {name: more.pop(name) for name in ("exits", "callouts", "batch_sizes", "engine_assists") if name in more}
    scalars = {"instructions.user": user, "instructions.kernel": kernel, **more}
    return Counts(technique, bench, operations, scalars, **families)


def table(lacks: dict[str, str] | None = None, name: str = "toy", **cycles: float) -> CostTable:
    """A table in which everything is free but what is named; `exit_hardware` is the price of `exit.hardware`."""
    prices = {primitive: Price(Fraction(0), "derived: nothing") for primitive in PRIMITIVES}
    for given, value in cycles.items():
        primitive = given.replace("exit_", "exit.", 1).replace("callout_", "callout.", 1)
        assert primitive in prices
        prices[primitive] = Price(Fraction(value), "derived: for a test")
    return CostTable(name, "a toy", prices, lacks or {})
