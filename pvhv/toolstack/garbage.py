# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeping Python's garbage collections short.

A full collection visits every object that refers to others, while all guests wait. It takes a microsecond for each, and
a guest can have a hundred thousand of them made (mapped grants, event channels). So when a collection took long, the
objects that are left are set aside for good (`gc.freeze`): the next collection visits only the newer ones.

An object that is set aside is still freed with its last reference, as nearly all objects here are: a domain that is
gone drops its parts (`Domain.fall_apart`). What remains in cycles is collected when there are no domains any more, or
when many have gone: one long collection for all of them.
"""

from __future__ import annotations

import gc
import time
from typing import Any

LONG_S = 0.010
MOST_GONE = 64


class Garbage:
    """Controls Python's garbage collector in this process, from `begin` to `end`."""

    def __init__(self) -> None:
        self._began = 0.0
        self._gone = 0  # domains, since what is set aside was looked at

    def begin(self) -> None:
        """Set aside all objects there are now; and after each long collection, those it left."""
        gc.collect()
        gc.freeze()
        gc.callbacks.append(self._collecting)

    def end(self) -> None:
        """Restore Python's own behaviour."""
        gc.callbacks.remove(self._collecting)
        gc.unfreeze()

    def _collecting(self, phase: str, info: dict[str, Any]) -> None:
        if info["generation"] != 2:
            return
        if phase == "start":
            self._began = time.thread_time()
        elif time.thread_time() - self._began > LONG_S:
            gc.freeze()

    def domain_gone(self, others: bool) -> None:
        """A domain is gone; `others` says whether there are domains that a collection would stop."""
        self._gone += 1
        if not others or self._gone >= MOST_GONE:
            self._gone = 0
            gc.unfreeze()
            gc.collect()
            gc.freeze()
