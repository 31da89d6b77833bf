# SPDX-License-Identifier: GPL-2.0-or-later
"""Observing: put a function around a method of another object, and take it off again.

An object lists in WRAPPABLE what may be wrapped: methods, callables in attributes, tables of callables. `wrap` replaces
one by the observer's function, which calls the one it replaced. Several observers may wrap the same function, and each
may unwrap at any time: the others stay, in their order.

Without an observer it costs nothing: the object is unchanged, and so is the call. It works for functions that are
looked up at each call. Code that keeps a function in a variable for speed must say so (see pvhv.core.traps.exits, whose
closures are made again).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Around = Callable[[Any], Any]  # from what was there, to what is called instead


def wrap(owner: Any, name: str, around: Around, entry: int | None = None) -> Callable[[], None]:
    """Wrap `owner.name`, or one entry of the table of that name; returns the function that unwraps it.

    `around` gets the function that is there and returns the one to call instead. Raises ValueError if `name` is not in
    WRAPPABLE."""
    if name not in owner.WRAPPABLE:
        raise ValueError(f"{name} of {owner!r} is not for others to wrap")
    chains: dict[tuple[str, int | None], Chain] = vars(owner).setdefault("_wrapped", {})
    chain = chains.get((name, entry))
    if chain is None:
        chain = chains[name, entry] = Chain(owner, name, entry)
    chain.add(around)

    def unwrap() -> None:
        chain.remove(around)
        if not chain.arounds:
            chains.pop((name, entry), None)

    return unwrap


class Chain:
    """All wrappers of one function, the first one innermost.

    Invariant: a function that was put in its place otherwise than by `wrap` is not removed."""

    def __init__(self, owner: Any, name: str, entry: int | None) -> None:
        self.owner, self.name, self.entry = owner, name, entry
        self.inherited = entry is None and name not in vars(owner) and name not in _properties(owner)
        self.original = self.placed = self._there()
        self.arounds: list[Around] = []

    def add(self, around: Around) -> None:
        self.arounds.append(around)
        self._put()

    def remove(self, around: Around) -> None:
        """Remove a wrapper; a second call does nothing."""
        if around in self.arounds:
            self.arounds.remove(around)
            if self._there() is self.placed:
                self._put()

    def _there(self) -> Any:
        there = getattr(self.owner, self.name)
        return there if self.entry is None else there[self.entry]

    def _put(self) -> None:
        if not self.arounds and self.inherited:
            del vars(self.owner)[self.name]  # the class's own shows again
            return
        function = self.original
        for around in self.arounds:
            function = around(function)
        self.placed = function
        if self.entry is None:
            setattr(self.owner, self.name, function)
        else:
            getattr(self.owner, self.name)[self.entry] = function


def _properties(owner: Any) -> set[str]:
    """The names of attributes that are properties of the class: `setattr` sets those without an instance attribute."""
    return {name for kind in type(owner).__mro__ for name, value in vars(kind).items() if isinstance(value, property)}
