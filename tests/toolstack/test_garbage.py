# SPDX-License-Identifier: GPL-2.0-or-later
"""Collections that stay short, and what they leave."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from pvhv.toolstack import garbage
from pvhv.toolstack.garbage import MOST_GONE, Garbage


class Thing:
    """Something that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def habits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Garbage]:
    monkeypatch.setattr(garbage, "LONG_S", 0.0)  # every collection is a long one
    made = Garbage()
    made.begin()
    yield made
    made.end()


def test_a_long_collection_is_the_last_to_look_at_what_it_left(habits: Garbage) -> None:
    thing = Thing()
    gone = weakref.ref(thing)
    before = gc.get_freeze_count()
    gc.collect()
    assert gc.get_freeze_count() > before and not any(each is thing for each in gc.get_objects())
    del thing
    gc.collect()
    assert gone() is not None  # nobody looks there any more
    plain = [Thing()]
    plain[0].itself = None  # type: ignore[assignment]
    forgotten = weakref.ref(plain[0])
    gc.collect()
    plain.clear()
    assert forgotten() is None  # what is no cycle needs nobody to look


@pytest.mark.parametrize("others", [False, True])
def test_what_was_set_aside_is_looked_at_now_and_then(habits: Garbage, others: bool) -> None:
    thing = Thing()
    gone = weakref.ref(thing)
    gc.collect()
    del thing
    for _ in range(MOST_GONE - 1 if others else 0):
        habits.domain_gone(others)
        assert gone() is not None
    habits.domain_gone(others)
    assert gone() is None


def test_a_short_one_sets_nothing_aside(habits: Garbage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LONG_S", 100.0)
    before = gc.get_freeze_count()
    thing = Thing()
    gc.collect()
    assert gc.get_freeze_count() == before and any(each is thing for each in gc.get_objects())
