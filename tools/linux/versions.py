# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of Debian's versions, and what a dependency asks of one.

    [epoch:]upstream[-revision]

Upstream and revision are compared in turns: first what is no digit, then a number. Among what is no digit a tilde goes
before everything, even before the end, so 1.0~rc1 is older than 1.0; letters go before other characters.

Read beside it: deb-version(7), lib/dpkg/version.c of dpkg.
"""

from __future__ import annotations

import operator
import re
from functools import lru_cache
from typing import TypeAlias

PART = re.compile(r"(\D*)(\d*)")
OPERATORS = {"<<": operator.lt, "<=": operator.le, "=": operator.eq, ">=": operator.ge, ">>": operator.gt}

Parts: TypeAlias = tuple[tuple[tuple[int, ...], int], ...]


@lru_cache(maxsize=4096)
def key(version: str) -> tuple[int, Parts, Parts]:
    """What versions are compared by. A text that is no version has some place in the order as well."""
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdecimal():
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return int(epoch), _parts(upstream if dash else rest), _parts(revision if dash else "0")


def fits(version: str, how: str, wanted: str) -> bool:
    """Whether a version is one that a dependency asks for: `how` is <<, <=, =, >= or >>; any version fits ''."""
    return not how or bool(OPERATORS[how](key(version), key(wanted)))


def _parts(text: str) -> Parts:
    """The turns of one part. The last one is always empty, and stands for the end: a tilde is less than that."""
    return tuple(((*map(_weight, letters), 0), int(digits or 0)) for letters, digits in PART.findall(text))


def _weight(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isascii() and character.isalpha() else ord(character) + 256
