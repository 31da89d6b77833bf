# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGTERM and SIGHUP: a command that has something to put in order is asked to end, and ends.

Where our caller ignores such a signal (nohup does), so do we.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Terminated(BaseException):
    """A signal asked us to go; `status` is the exit status that says so."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def terminate(number: int, _frame: object) -> None:
    """A handler: go, wherever we are."""
    raise Terminated(number)


def numbers(*also: int) -> list[int]:
    """Those that ask us to go, and those in `also`; of which our caller ignores none."""
    named = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in [*named, *also] if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def heard(handler: Callable[[int, object], None] = terminate, also: tuple[int, ...] = ()) -> Iterator[None]:
    """Have them go to `handler`, and those in `also` that are not ignored; afterwards they do what they did before."""
    before = {number: signal.signal(number, handler) for number in numbers(*also)}
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)


class Deferred:
    """A handler for one who must hear an answer to its end: the first signal calls `hurry`, and is raised by `check`.

    A second one is raised at once. SIGINT is KeyboardInterrupt, as it is to all of Python.
    """

    def __init__(self, hurry: Callable[[], None]) -> None:
        self._hurry = hurry
        self.came: int | None = None

    def __call__(self, number: int, _frame: object) -> None:
        again, self.came = self.came is not None, number
        if again:
            self.check()
        self._hurry()

    def check(self) -> None:
        """Raise what came."""
        if self.came == signal.SIGINT:
            raise KeyboardInterrupt
        if self.came is not None:
            raise Terminated(self.came)


class Patient:
    """A handler for one who must not be torn out of what it does: the signal is heard when it next waits.

    A second one is heard at once.
    """

    def __init__(self) -> None:
        self._came: int | None = None
        self._waiting = False

    def __call__(self, number: int, _frame: object) -> None:
        again, self._came = self._came is not None, number
        if self._waiting or again:
            raise Terminated(number)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within this it may be torn out."""
        self._waiting = True
        try:
            if self._came is not None:
                raise Terminated(self._came)
            yield
        finally:
            self._waiting = False
