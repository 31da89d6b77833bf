# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of the host process, which is its standard output."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from pathlib import Path

from pvhv.toolstack.plainfile import open_to_append

LARGEST_LOG = 1 << 20
LONGEST_ENTRY = 16 << 10  # a traceback, say
LINES_A_SECOND = 50


class Log:
    """Our standard output: a file of bounded length, or, if somebody starts us by hand, whatever that is.

    Beyond `LARGEST_LOG` the file is renamed to pvhvd.log.1, replacing an older one, and a new file is begun. At most
    `LINES_A_SECOND` lines are written in a second; the others are counted."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._lock = threading.Lock()
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def __call__(self, text: str) -> None:
        """Write a line. If the disk is full, the line is lost. Any thread may."""
        with self._lock, contextlib.suppress(OSError):
            now = int(time.time())
            if now != self._second:
                self._second, self._lines = now, 0
            self._lines += 1
            if self._lines > LINES_A_SECOND:
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
            self.turn_over()
            self._write(f"({left_out} lines were left out: they came too fast)" if left_out else "")
            self._write(text[:LONGEST_ENTRY])

    def _write(self, text: str) -> None:
        if text:
            line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n"
            os.write(1, line.encode("utf-8", "backslashreplace"))

    def turn_over(self) -> None:
        """Begin a new file if this one is too long. Raises OSError."""
        if os.fstat(1).st_size <= LARGEST_LOG or self.path is None or not self._is_ours(self.path):
            return
        try:
            os.replace(self.path, f"{self.path}.1")
            descriptor = open_to_append(self.path)
        except OSError:  # no directory, no room: at least it does not grow
            os.ftruncate(1, 0)
            return
        for standard in (1, 2):
            os.dup2(descriptor, standard)
        os.close(descriptor)

    @staticmethod
    def _is_ours(path: Path) -> bool:
        try:
            return os.path.samestat(os.fstat(1), path.stat())
        except OSError:
            return stat.S_ISREG(os.fstat(1).st_mode)  # its directory was cleared away


log = Log()
