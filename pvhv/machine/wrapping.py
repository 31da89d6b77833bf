# SPDX-License-Identifier: GPL-2.0-or-later
"""How to look on: a function of one's own around one of somebody else's, for as long as one looks.

An object names in WRAPPABLE what may be looked at: its methods, callables it keeps in attributes, tables of such.
`wrap` puts a looker-on's function in the place of one; it calls the one it stands around, or what the next looker-on
put around that. Several may look at the same, and each may leave when it wants: what remains are the others, in their
order.

It costs nothing where nobody looks: until then nothing of this is in the object, and a call is the call it always was.
So it works for functions that are looked up when they are called. Whoever keeps one for speed says so (see
pvhv.core.traps.exits, whose closures are made anew).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Around = Callable[[Any], Any]  # from what was there, to what is called instead


def wrap(owner: Any, name: str, around: Around, entry: int | None = None) -> Callable[[], None]:
    """Put `around` around `owner.name`, or around an entry of the table of that name; the result takes it off again.

    Raises ValueError where the owner does not name that."""
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
    """All that stands around one function, the first one innermost.

    Invariant: what somebody else has put there meanwhile, not by `wrap`, stays."""

    def __init__(self, owner: Any, name: str, entry: int | None) -> None:
        self.owner, self.name, self.entry = owner, name, entry
        self.inherited = entry is None and name not in vars(owner) and name not in _properties(owner)
        self.original = self.placed = self._there()
        self.arounds: list[Around] = []

    def add(self, around: Around) -> None:
        self.arounds.append(around)
        self._put()

    def remove(self, around: Around) -> None:
        """Take it off; nothing happens if that is done already."""
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
    """Attributes that a class answers for, and that `setattr` reaches."""
    return {name for kind in type(owner).__mro__ for name, value in vars(kind).items() if isinstance(value, property)}
