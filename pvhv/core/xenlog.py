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
    """Lines with the time they were said."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._lines: deque[str] = deque(maxlen=LINES)

    def log(self, text: str) -> None:
        """Say something, marked (XEN) with seconds since start."""
        stamp = f"[{self._now() / 1e9:12.6f}]"
        for line in text.splitlines() or [""]:
            self._lines.append(f"(XEN) {stamp} {_printable(line[:LONGEST_LINE])}")

    def guest(self, domid: int, line: str) -> None:
        """A line a guest wrote with console_io."""
        self._lines.append(f"(d{domid}) {line}")

    def read(self) -> str:
        """All that is kept."""
        return "".join(line + "\n" for line in self._lines)

    def clear(self) -> None:
        """Forget it."""
        self._lines.clear()


def _printable(line: str) -> str:
    """What is said may name something, and a name may have anything in it."""
    return line if line.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
