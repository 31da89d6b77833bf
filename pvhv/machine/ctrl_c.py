# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C while the engine runs in the main thread.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a function that the engine called, ctypes
prints the exception and drops it. Then the function has not finished its work, and the guest continues in a wrong
state. So the exception is delayed until the engine has returned.

    with put_off() as pressed:
        ... run the engine until `pressed()` ...

Invariant: within the `with`, Ctrl-C raises nothing; at its end it raises KeyboardInterrupt, if it came.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def put_off() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether Ctrl-C was pressed. Does nothing in other threads, or with a handler set."""
    came = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True

    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt
