# SPDX-License-Identifier: GPL-2.0-or-later
"""The word that somebody may have meant, when the one they typed does not exist.

A slip is one letter too many, one missing, one wrong, or two that changed places. A short word may have one slip, a
longer one two. A word that is only somewhat alike would mislead (`boot` is not `root`: the first letter is seldom
wrong).
"""

from __future__ import annotations

from collections.abc import Iterable

LONG_WORD = 6
LONGEST = 64  # no word anybody could have meant is longer


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word of `words` that `word` was meant to be; None if there is none near."""
    if not 2 < len(word) <= LONGEST:
        return None
    allowed = 1 if len(word) < LONG_WORD else 2
    best = min(((slips(word, each), each) for each in words if each[:1] == word[:1]), default=None)
    return best[1] if best is not None and 0 < best[0] <= allowed else None


def slips(one: str, other: str) -> int:
    """How many slips lie between two words (the optimal string alignment distance)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        before2, before = before, row
        row = [at]
        for index, each in enumerate(other, 1):
            cost = min(before[index] + 1, row[index - 1] + 1, before[index - 1] + (letter != each))
            if at > 1 and index > 1 and letter == other[index - 2] and one[at - 2] == each:
                cost = min(cost, before2[index - 2] + 1)
            row.append(cost)
    return row[-1]
