# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches: a path, a token, and the words in which a change below that path is told.

A watch hears of a change at its path or below it, and when a parent of its path is removed. A watch set with
a relative path hears relative ones. `@introduceDomain` and `@releaseDomain` are no nodes but things that
happen.

They are found by their paths (`Watches`): a change looks at its own path and at those above it, so its cost is
the path's depth and the number of those who hear, however many others watch.

Read beside it: fire_watches and do_watch in tools/xenstore/xenstored_watch.c.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

W = TypeVar("W")


class Watch(NamedTuple):
    """`prefix` is the part of the path a relative watch does not want to hear."""

    path: str
    token: bytes
    prefix: str = ""

    def told(self, path: str) -> str:
        """`path` as this watch wants to hear it."""
        return path[len(self.prefix) :].removeprefix("/") if self.prefix else path

    @property
    def weight(self) -> int:
        """What it weighs against its domain's memory."""
        return len(self.path) + len(self.token)


class Watches(Generic[W]):
    """Who watches which path, in the order in which they are told: `rank` says it."""

    def __init__(self) -> None:
        self.by_path: dict[str, dict[tuple[int, int], W]] = {}

    def add(self, path: str, rank: tuple[int, int], who: W) -> None:
        """Somebody watches."""
        self.by_path.setdefault(path, {})[rank] = who

    def remove(self, path: str, rank: tuple[int, int]) -> None:
        """No longer."""
        there = self.by_path[path]
        del there[rank]
        if not there:
            del self.by_path[path]

    def concerned(self, path: str, exact: bool) -> list[W]:
        """Who hears of a change at `path`; of an `exact` one, only those who watch that very path."""
        found: dict[tuple[int, int], W] = dict(self.by_path.get(path, ()))
        if not exact:
            above = path
            while above != "/":
                above = above[: above.rindex("/")] or "/"
                found.update(self.by_path.get(above, ()))
        return [found[rank] for rank in sorted(found)]
