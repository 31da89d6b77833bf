# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeping Python's garbage collections short.

A full collection looks at every object that refers to others, with everybody waiting: a microsecond each, and a guest
can have a hundred thousand made on its behalf (mapped grants, event channels). So one that took long is the last that
looks at what it left: that is set aside for good (`gc.freeze`), and the next one looks at what is new since.

What is set aside goes when its last reference does, as nearly everything here does: a domain that is gone lets go of
its parts (`Domain.fall_apart`). What is left of it in cycles is looked for when there are no domains any more, or many
have gone since, which is one long collection for all of them.
"""

from __future__ import annotations

import gc
import time
from typing import Any

LONG_S = 0.010
MOST_GONE = 64


class Garbage:
    """The collector's habits in this process, from `begin` on."""

    def __init__(self) -> None:
        self._began = 0.0
        self._gone = 0  # domains, since what is set aside was looked at

    def begin(self) -> None:
        """What is there now stays, and so does what a long collection finds."""
        gc.collect()
        gc.freeze()
        gc.callbacks.append(self._collecting)

    def end(self) -> None:
        """As it was before."""
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
        """One domain less; `others` says whether there are some who would wait."""
        self._gone += 1
        if not others or self._gone >= MOST_GONE:
            self._gone = 0
            gc.unfreeze()
            gc.collect()
            gc.freeze()
