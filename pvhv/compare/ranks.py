# SPDX-License-Identifier: GPL-2.0-or-later
"""Order among techniques, with ties: what a comparison with published results rests on."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Final

TIE: Final = Fraction(1, 10)


def versus(one: Fraction, other: Fraction) -> int:
    """-1 where `one` is less, 1 where it is more, 0 where they tie: within a tenth of the larger."""
    if abs(one - other) <= TIE * max(one, other):
        return 0
    return -1 if one < other else 1


def order(values: Mapping[str, Fraction]) -> str:
    """Names from the least to the most; neighbours that tie are joined by `=`."""
    ordered = sorted(values, key=lambda name: values[name])
    text = ordered[0] if ordered else ""
    for before, name in pairwise(ordered):
        text += f" {'<' if versus(values[before], values[name]) else '='} {name}"
    return text


def agreement(ours: Mapping[str, Fraction], theirs: Mapping[str, Fraction]) -> tuple[int, int]:
    """Of the pairs of names that both have: how many stand in the same order, and how many there are."""
    names = [name for name in ours if name in theirs]
    pairs = list(combinations(names, 2))
    same = sum(versus(ours[a], ours[b]) == versus(theirs[a], theirs[b]) for a, b in pairs)
    return same, len(pairs)
