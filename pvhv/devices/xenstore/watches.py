# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches: a path, a token, and the form in which a change below that path is told.

A watch hears of a change at its path or below it, and when a parent of its path is removed. A watch set with
a relative path hears relative ones. `@introduceDomain` and `@releaseDomain` are not nodes but
events.

Watches are found by their paths (`Watches`): for a change only its own path and those above it are looked up. So its
cost depends on the path's depth and on the number of watches that hear of it, but not on the number of all watches.

Read beside it: fire_watches and do_watch in tools/xenstore/xenstored_watch.c.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

W = TypeVar("W")


class Watch(NamedTuple):
    """A watch. `prefix` is what an event's path leaves out for a relative watch."""

    path: str
    token: bytes
    prefix: str = ""

    def told(self, path: str) -> str:
        """`path` in the form in which this watch is told."""
        return path[len(self.prefix) :].removeprefix("/") if self.prefix else path

    @property
    def weight(self) -> int:
        """How many bytes it takes of its domain's memory."""
        return len(self.path) + len(self.token)


class Watches(Generic[W]):
    """All watches, by path. `rank` is the order in which they are told."""

    def __init__(self) -> None:
        self.by_path: dict[str, dict[tuple[int, int], W]] = {}

    def add(self, path: str, rank: tuple[int, int], who: W) -> None:
        """Add a watch of `path` by `who`."""
        self.by_path.setdefault(path, {})[rank] = who

    def remove(self, path: str, rank: tuple[int, int]) -> None:
        """Remove a watch of `path`."""
        there = self.by_path[path]
        del there[rank]
        if not there:
            del self.by_path[path]

    def concerned(self, path: str, exact: bool) -> list[W]:
        """Those who are to be told of a change at `path`; of an `exact` one, only those who watch this very path."""
        found: dict[tuple[int, int], W] = dict(self.by_path.get(path, ()))
        if not exact:
            above = path
            while above != "/":
                above = above[: above.rindex("/")] or "/"
                found.update(self.by_path.get(above, ()))
        return [found[rank] for rank in sorted(found)]
