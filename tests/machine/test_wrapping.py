# SPDX-License-Identifier: GPL-2.0-or-later
"""Wrapping: several look on, each leaves when it wants, and nothing is left behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from pvhv.machine.wrapping import wrap


class Thing:
    WRAPPABLE = frozenset({"method", "attribute", "table", "prop"})

    def __init__(self) -> None:
        self.attribute: Callable[[], list[str]] = lambda: ["attribute"]
        self.table: list[Callable[[], list[str]]] = [lambda: ["table 0"], lambda: ["table 1"]]
        self._prop: Callable[[], list[str]] = lambda: ["prop"]

    def method(self) -> list[str]:
        return ["method"]

    @property
    def prop(self) -> Callable[[], list[str]]:
        return self._prop

    @prop.setter
    def prop(self, value: Callable[[], list[str]]) -> None:
        self._prop = value

    def secret(self) -> None: ...


def around(name: str) -> Callable[[Callable[[], list[str]]], Callable[[], list[str]]]:
    return lambda inner: lambda: [name, *inner()]


def call(thing: Thing, name: str, entry: int | None) -> list[str]:
    there = getattr(thing, name)
    found: list[str] = there() if entry is None else there[entry]()
    return found


PLACES = [("method", None), ("attribute", None), ("prop", None), ("table", 1)]


@pytest.mark.parametrize("leaving", list(itertools.permutations(range(3))))
@pytest.mark.parametrize(("name", "entry"), PLACES)
def test_they_leave_in_any_order(name: str, entry: int | None, leaving: tuple[int, ...]) -> None:
    thing = Thing()
    before, attributes = call(thing, name, entry), set(vars(thing))
    ends = [wrap(thing, name, around(str(number)), entry) for number in range(3)]
    left = ["2", "1", "0"]
    assert call(thing, name, entry) == left + before
    for number in leaving:
        ends[number]()
        ends[number]()  # once more is harmless
        left.remove(str(number))
        assert call(thing, name, entry) == left + before
    assert set(vars(thing)) - {"_wrapped"} == attributes


def test_what_is_not_named_is_not_wrapped() -> None:
    with pytest.raises(ValueError, match="not for others to wrap"):
        wrap(Thing(), "secret", around("x"))


def test_what_somebody_put_there_himself_stays() -> None:
    thing = Thing()
    end = wrap(thing, "attribute", around("us"))
    thing.attribute = lambda: ["theirs"]
    end()
    assert thing.attribute() == ["theirs"]
