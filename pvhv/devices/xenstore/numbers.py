# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers in messages: read as C reads them (atoi, strtol), and of any length, as a guest may write them."""

from __future__ import annotations

import re

ATOI = re.compile(rb"\s*([+-]?\d+)")
LONG_MIN, LONG_MAX = -(1 << 63), (1 << 63) - 1


def unsigned(value: int) -> int:
    """A number that stood in a text as an unsigned int, by way of the long that strtol makes of it."""
    return min(max(value, LONG_MIN), LONG_MAX) & 0xFFFF_FFFF


def number_of(text: bytes) -> int:
    """The number a text begins with, nought where it begins with none, as an unsigned one."""
    found = ATOI.match(text)
    return unsigned(int(found[1])) if found else 0
