# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers in messages: read as C reads them (atoi, strtol), and of any length, as a guest may write them."""

from __future__ import annotations

import re

ATOI = re.compile(rb"\s*([+-]?\d+)")
LONG_MIN, LONG_MAX = -(1 << 63), (1 << 63) - 1


def unsigned(value: int) -> int:
    """A number from a text as an unsigned int: clamped to a long, as strtol does, then cut to 32 bits."""
    return min(max(value, LONG_MIN), LONG_MAX) & 0xFFFF_FFFF


def number_of(text: bytes) -> int:
    """The number that a text begins with, as an unsigned int; 0 if it begins with none."""
    found = ATOI.match(text)
    return unsigned(int(found[1])) if found else 0
