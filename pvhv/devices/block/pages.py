# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of the guest that requests of one ring use: mapped for a request, or kept mapped for later ones.

A front end that offers *persistent grants* (`feature-persistent`) uses the same pages again and again, and never ends
their grants by itself. So a page stays mapped after its request, and the next request finds it by its reference: that
costs a look into a table in place of a mapping. Such a page is mapped to be written to even if it is only read, as the
next request may be a read from the disk.

A ring keeps `MOST_KEPT` pages. When more are wanted, those beyond are mapped for one request only, and the ones that
were unused for longest are unmapped, a few at a time. (How long that is, is known by looks at them, `PURGE_NS` apart.)
A page that is in use already when it is named again is mapped a second time, for that request only. All of that is as
in blkback, whose limit it is.

To map a page, or to unmap it, takes a few microseconds, and a guest may have thousands mapped. So it is done in pieces
of `PIECE` pages. Before each, whoever does it is told how many pages it has; between two, the ring may be closed.

A guest that ends the grant of a page that is mapped here finds the grant in use: it harms nobody but itself. Nothing of
it changes the page that is mapped.

Read beside it: xen_blkbk_map, get_persistent_gnt, purge_persistent_gnt in Linux's drivers/block/xen-blkback/blkback.c.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from pvhv.core.errors import GrantError
from pvhv.core.grants.view import GrantView

MOST_KEPT = 1056  # max_persistent_grants
KEPT_NS = 60_000_000_000  # unused for so long, a page is not kept (persistent_grant_unused_seconds)
PURGE_NS = 100_000_000  # between two looks for such pages (LRU_INTERVAL)
PIECE = 64  # pages that are mapped, unmapped or copied at a stretch
PURGED = MOST_KEPT // 100 * 5  # of pages that were used lately, when there is no room (LRU_PERCENT_CLEAN)

Grants = Callable[[int, bool], GrantView]  # maps a reference; True: only to read. Raises GrantError


class RingGone(Exception):
    """The ring was closed while pages for a request of it were being mapped."""


class Taken(NamedTuple):
    """The pages of one request: all of them, in its order; the references of those that are kept; and the others."""

    views: list[GrantView]
    kept: list[int]
    own: list[GrantView]


class Pages:
    """The mapped pages of one ring.

    The usual request names pages that are all kept and not in use. Then nothing here is a loop in Python."""

    def __init__(self, grants: Grants, persistent: bool, now: Callable[[], int]) -> None:
        self._grants = grants
        self._persistent = persistent
        self._now = now
        self._overflow = False  # a page was not kept, for want of room
        self._next_purge = 0
        self._old_at = 0  # no page is old before this time
        self.closed = False
        self._active: set[int] = set()  # references of kept pages that are in use
        self._lately: set[int] = set()  # those that were used since the last purge
        self._last_use = 0  # when one of them was
        self._used: dict[int, int] = {}  # when each of the others was used last, about
        self.kept: dict[int, GrantView] = {}  # by reference

    def find(self, grefs: list[int]) -> list[GrantView] | None:
        """The pages of a request, if all of them are kept, and none is in use."""
        if not self._active.isdisjoint(grefs) or len(set(grefs)) != len(grefs):
            return None
        try:
            return list(map(self.kept.__getitem__, grefs))
        except KeyError:
            return None

    def take_kept(self, grefs: list[int]) -> Taken | None:
        """Have pages for a request, if all of them are kept, and none is in use."""
        views = self.find(grefs)
        if views is None:
            return None
        self._active.update(grefs)
        return Taken(views, grefs, [])

    def take(self, grefs: list[int], readonly: bool) -> Generator[int, None, Taken]:
        """Have pages for a request, in pieces. Raises GrantError or RingGone, and then none is taken."""
        if (known := self.take_kept(grefs)) is not None:
            return known
        taken = Taken([], [], [])
        try:
            for at in range(0, len(grefs), PIECE):
                piece = grefs[at : at + PIECE]
                yield len(piece)
                self._require_ring()
                for gref in piece:
                    self._take_one(gref, readonly, taken)
        except (GrantError, RingGone):
            yield from self.give_back(taken)
            raise
        return taken

    def _require_ring(self) -> None:
        if self.closed:
            raise RingGone

    def _take_one(self, gref: int, readonly: bool, taken: Taken) -> None:
        view = self.kept.get(gref)
        is_new = view is None
        if view is None or gref in self._active:
            view = self._grants(gref, readonly and not self._persistent)
            has_room = len(self.kept) < MOST_KEPT
            self._overflow |= self._persistent and not has_room
            if not (self._persistent and is_new and has_room):
                taken.views.append(view)
                taken.own.append(view)
                return
            self.kept[gref] = view
        self._active.add(gref)
        taken.views.append(view)
        taken.kept.append(gref)

    def give_back(self, taken: Taken) -> Iterator[int]:
        """A request is done with its pages: unmap those that are not kept, in pieces."""
        self.give_back_kept(taken)
        for at in range(0, len(taken.own), PIECE):
            piece = taken.own[at : at + PIECE]
            yield len(piece)
            for view in piece:
                view.release()

    def give_back_kept(self, taken: Taken) -> None:
        """The same, if all of them are kept."""
        if taken.kept:
            self._active.difference_update(taken.kept)
            self._lately.update(taken.kept)
            self._last_use = self._now()

    def may_be_old(self) -> bool:
        """Whether there may be something for `purge` to unmap. It costs next to nothing."""
        return bool(self.kept) and (self._overflow or self._now() >= self._old_at)

    def purge(self) -> Iterator[int]:
        """Unmap kept pages that are old, or a few of the others if there was no room, in pieces."""
        now = self._now()
        if not self._persistent or now < self._next_purge:
            return
        self._next_purge = now + PURGE_NS
        self._used.update(dict.fromkeys(self._lately, self._last_use))
        self._lately.clear()
        wanted = PURGED if self._overflow and len(self.kept) >= MOST_KEPT else 0
        old = now - KEPT_NS
        oldest = min(self._used.values(), default=now)
        self._old_at = oldest + KEPT_NS
        if not wanted and oldest > old:
            return
        unused = sorted((used, gref) for gref, used in self._used.items() if gref not in self._active)
        unmapped = [gref for at, (used, gref) in enumerate(unused) if at < wanted or used <= old]
        if unmapped:
            self._overflow = False
        yield from self._unmap(unmapped)

    def unmap_all(self) -> Iterator[int]:
        """Unmap all kept pages, in pieces. No request has any."""
        return self._unmap(list(self.kept))

    def _unmap(self, grefs: list[int]) -> Iterator[int]:
        for at in range(0, len(grefs), PIECE):
            piece = grefs[at : at + PIECE]
            yield len(piece)
            for gref in piece:
                self._used.pop(gref, None)
                self._lately.discard(gref)
                if (view := self.kept.pop(gref, None)) is not None:
                    view.release()

    def close(self) -> list[GrantView]:
        """Keep nothing any more. Returns what is to be unmapped. May be called again."""
        self.closed = True
        views = list(self.kept.values())
        for table in (self.kept, self._used, self._lately, self._active):
            table.clear()
        return views
