# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads for work beside the guests: how many there are, and how long they stay."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import pytest

from pvhv.toolstack.beside import Beside


def until_it_has_none(beside: Beside) -> None:
    deadline = time.monotonic() + 10
    while beside._threads:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_thread_that_lingers_does_what_comes_next() -> None:
    beside = Beside(1, linger_s=0.3)
    threads = set()
    for _ in range(3):
        threads.add(beside.do(threading.get_ident).result(10))
        while not beside._idle:
            time.sleep(0.001)
    assert len(threads) == 1 == beside._threads
    until_it_has_none(beside)
    assert beside.do(lambda: 7).result(10) == 7


@pytest.mark.parametrize("linger_s", [0.0, 0.001, 10.0])
@pytest.mark.parametrize("at_once", [1, 2])
def test_all_is_done_whoever_asks(at_once: int, linger_s: float) -> None:
    """In the order in which it came if there is one thread; never on more threads than there may be."""
    beside, done, at_work, most = Beside(at_once, linger_s), [], [0], [0]

    def work(number: int) -> int:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        done.append(number)
        if not number % 7:
            time.sleep(0.001)
        at_work[0] -= 1
        return number

    def ask(first: int) -> list[Future[int]]:
        return [beside.do(lambda number=number: work(number)) for number in range(first, first + 100)]  # type: ignore[misc]

    futures = ask(0)
    asking = [threading.Thread(target=ask, args=(first,)) for first in (100, 200)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(10)
    last = beside.do(lambda: work(300))
    assert last.result(10) == 300 and [future.result(10) for future in futures] == list(range(100))
    deadline = time.monotonic() + 10
    while len(done) < 301 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert sorted(done) == list(range(301)) and 0 < most[0] <= at_once
    if at_once == 1:
        assert done[:100] == list(range(100)) and done[-1] == 300
    if linger_s < 1:
        until_it_has_none(beside)


def test_a_failure_is_the_works_own() -> None:
    beside = Beside(1, linger_s=0.01)
    with pytest.raises(ZeroDivisionError):
        beside.do(lambda: 1 // 0).result(10)
    assert beside.do(lambda: 1).result(10) == 1
