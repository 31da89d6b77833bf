# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers in messages: written in decimal, and read as generously as C's atoi reads them."""

from __future__ import annotations

import re

ATOI = re.compile(rb"\s*([+-]?\d+)")


def number_of(text: bytes) -> int:
    """The number a text begins with, nought where it begins with none, as an unsigned one."""
    found = ATOI.match(text)
    return int(found[1]) & 0xFFFF_FFFF if found else 0
