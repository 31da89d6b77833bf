# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypervisor's own console ring: what `pvhv dmesg` shows.

Bounded, like Xen's: the oldest lines go first. Read beside it: xen/drivers/char/console.c (conring).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

LINES = 4096
LONGEST_LINE = 4096


class ConsoleRing:
    """The log: lines, each with its time."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._lines: deque[str] = deque(maxlen=LINES)

    def log(self, text: str) -> None:
        """Add lines, marked (XEN), with the seconds since start."""
        stamp = f"[{self._now() / 1e9:12.6f}]"
        for line in text.splitlines() or [""]:
            self._lines.append(f"(XEN) {stamp} {_printable(line[:LONGEST_LINE])}")

    def guest(self, domid: int, line: str) -> None:
        """Add a line that a guest wrote by console_io."""
        self._lines.append(f"(d{domid}) {line}")

    def read(self) -> str:
        """All lines that are kept, as one text."""
        return "".join(line + "\n" for line in self._lines)

    def clear(self) -> None:
        """Remove all lines."""
        self._lines.clear()


def _printable(line: str) -> str:
    """Text without unprintable characters: a logged name may contain any character."""
    return line if line.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
