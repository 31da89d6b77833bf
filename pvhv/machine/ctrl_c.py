# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C while the engine runs, for whoever runs it in the main thread.

Python raises KeyboardInterrupt wherever the main thread happens to be. In a function that the engine called, the
exception goes nowhere: it is printed, what the function was to do for the guest is not done, and the guest goes on,
wrong. So it is put off until the engine is left.

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
    """Gives a function that tells whether Ctrl-C came. Does nothing in other threads, or where somebody handles it."""
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
