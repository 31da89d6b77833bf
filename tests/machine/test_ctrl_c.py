# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C is put off while the engine runs: nothing is half done, nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pvhv.machine import ctrl_c


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Also where the tests run in the background, and were told by the shell to ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_it_is_raised_at_the_end() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), ctrl_c.put_off() as pressed:
        assert not pressed()
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(pressed())
    assert reached == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_it_nothing_happens() -> None:
    with ctrl_c.put_off() as pressed:
        pass
    assert not pressed()


def test_it_comes_before_what_else_went_wrong() -> None:
    with pytest.raises(KeyboardInterrupt), ctrl_c.put_off():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("because it was broken off")


def test_a_handler_of_somebody_elses_stays() -> None:
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with ctrl_c.put_off() as pressed:
            os.kill(os.getpid(), signal.SIGINT)
        assert not pressed()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


def test_in_another_thread_it_does_nothing() -> None:
    done = []

    def other() -> None:
        with ctrl_c.put_off() as pressed:
            done.append(pressed())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert done == [False]
