# SPDX-License-Identifier: GPL-2.0-or-later
"""Telling the person who waits what the build is doing.

On a terminal one line is rewritten as work goes on; elsewhere (a log, CI) a line appears every few
seconds, so that nothing is silent for long and nothing floods.  All of it goes to
standard error: standard output belongs to the guest.  A build with nothing to do says one short line.

This module knows no work, only labels and counts.  Several threads may call `advance` and `say`.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TextIO

_REDRAW = 0.05
_HEARTBEAT = 2.0


class Progress:
    """One build's line of progress."""

    def __init__(self, title: str, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.title = title
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._live = self._stream.isatty() and not quiet
        self._lock = threading.Lock()
        self._done = self._total = 0
        self._width = 0
        self.started = time.monotonic()
        self._drawn = 0.0 if self._live else self.started

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *how: object) -> None:
        """Whatever the end was, the next message begins on a new line."""
        with self._lock:
            self._erase()

    def expect(self, jobs: int) -> None:
        """Add `jobs` to the number of jobs to do."""
        with self._lock:
            self._total += jobs

    def advance(self, label: str) -> None:
        """One job is done; `label` names it."""
        with self._lock:
            self._done += 1
            self._show(f"{self.title} [{self._done}/{self._total}] {label}", _REDRAW)

    def at(self, what: str) -> None:
        """Show what is being done, for work that is not counted in jobs. The text may have any characters; it becomes
        one line."""
        line = "".join(each if each.isprintable() else "?" for each in what)
        with self._lock:
            self._show(f"{self.title} {line}", 0.0)

    def say(self, text: str) -> None:
        """Print a line that stays on the screen: a warning of the compiler, or the result."""
        with self._lock:
            self._erase()
            self._stream.write(text.rstrip("\n") + "\n")
            self._stream.flush()

    def end(self, summary: str) -> None:
        """The closing line, with the time it took where that was long enough to matter."""
        if not self._quiet:
            seconds = time.monotonic() - self.started
            self.say(f"{self.title} {summary}" + (f" ({seconds:.1f} s)" if seconds >= 0.1 else ""))

    def _show(self, line: str, not_within: float) -> None:
        now = time.monotonic()
        if self._quiet or now - self._drawn < (not_within if self._live else _HEARTBEAT):
            return
        self._drawn = now
        if self._live:
            self._rewrite(line[: shutil.get_terminal_size().columns - 1])
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def _erase(self) -> None:
        if self._live and self._width:
            self._rewrite("")
            self._stream.write("\r")
            self._stream.flush()

    def _rewrite(self, line: str) -> None:
        self._stream.write("\r" + line.ljust(self._width))
        self._width = len(line)
