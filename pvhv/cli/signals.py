# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGTERM and SIGHUP: they ask a command to end, and it puts things in order first.

A signal that our caller ignores (as nohup does) is ignored here as well.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Terminated(BaseException):
    """A signal asked us to end; `status` is the exit status for that."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def terminate(number: int, _frame: object) -> None:
    """A signal handler: raise Terminated at once."""
    raise Terminated(number)


def numbers(*also: int) -> list[int]:
    """The signals that ask us to end, and those in `also`, without those that our caller ignores."""
    named = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in [*named, *also] if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def heard(handler: Callable[[int, object], None] = terminate, also: tuple[int, ...] = ()) -> Iterator[None]:
    """Handle these signals by `handler`; afterwards they do what they did before."""
    before = {number: signal.signal(number, handler) for number in numbers(*also)}
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)


class Deferred:
    """A handler for code that must read an answer to its end: the first signal calls `hurry`, and `check` raises it.

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
        """Raise the signal that came, if one did."""
        if self.came == signal.SIGINT:
            raise KeyboardInterrupt
        if self.came is not None:
            raise Terminated(self.came)


class Patient:
    """A handler for code that must not be interrupted except where it waits: the signal is raised in `waiting`.

    A second one is raised at once.
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
        """Inside this context the signal is raised at once."""
        self._waiting = True
        try:
            if self._came is not None:
                raise Terminated(self._came)
            yield
        finally:
            self._waiting = False
