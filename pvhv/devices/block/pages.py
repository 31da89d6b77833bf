# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of the guest that requests of one ring use: mapped for a request, or kept mapped for later ones.

A front end that offers *persistent grants* (`feature-persistent`) uses the same pages again and again, and never ends
their grants by itself. So a page stays mapped after its request, and the next request finds it by its reference: that
costs a look into a table in place of a mapping. Such a page is mapped to be written to even if it is only read, as the
next request may be a read from the disk.

A ring keeps `MOST_KEPT` pages. When more are wanted, those beyond are mapped for one request only, and the ones that
were unused for longest are unmapped, a few at a time. A page that is in use already when it is named again is mapped a
second time, for that request only. All of that is as in blkback, whose limit it is.

A guest that ends the grant of a page that is mapped here finds the grant in use: it harms nobody but itself. Nothing of
it changes the page that is mapped.

Not modelled: a ring without requests keeps its pages; blkback unmaps them after a minute.

Read beside it: xen_blkbk_map, get_persistent_gnt, purge_persistent_gnt in Linux's drivers/block/xen-blkback/blkback.c.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from pvhv.core.errors import GrantError
from pvhv.core.grants.view import GrantView

MOST_KEPT = 1056  # max_persistent_grants
KEPT_NS = 60_000_000_000  # unused for so long, a page is not kept (persistent_grant_unused_seconds)
PURGE_NS = 100_000_000  # between two looks for such pages (LRU_INTERVAL)
PURGED = MOST_KEPT // 100 * 5  # of pages that were used lately, when there is no room (LRU_PERCENT_CLEAN)

Grants = Callable[[int, bool], GrantView]  # maps a reference; True: only to read. Raises GrantError


class Page:
    """A mapped page. `bytes` is all of it."""

    __slots__ = ("active", "bytes", "kept", "last_used", "view")

    def __init__(self, view: GrantView, kept: bool) -> None:
        self.view = view
        self.bytes = view.bytes
        self.kept = kept
        self.active = True
        self.last_used = 0


class Pages:
    """The mapped pages of one ring."""

    def __init__(self, grants: Grants, persistent: bool, now: Callable[[], int]) -> None:
        self._grants = grants
        self._persistent = persistent
        self._now = now
        self._overflow = False  # a page was not kept, for want of room
        self._next_purge = 0
        self.kept: OrderedDict[int, Page] = OrderedDict()  # by reference; the one unused for longest comes first

    def take(self, grefs: Sequence[int], readonly: bool) -> list[Page]:
        """Have pages for a request. Raises GrantError, and then none is taken."""
        taken: list[Page] = []
        kept = self.kept
        try:
            for gref in grefs:
                page = kept.get(gref)
                if page is None or page.active:
                    page = self._map(gref, readonly, page is None)
                page.active = True
                taken.append(page)
        except GrantError:
            self.give_back(taken)
            raise
        return taken

    def _map(self, gref: int, readonly: bool, is_new: bool) -> Page:
        view = self._grants(gref, readonly and not self._persistent)
        room = len(self.kept) < MOST_KEPT
        page = Page(view, self._persistent and is_new and room)
        if page.kept:
            self.kept[gref] = page
        elif self._persistent and not room:
            self._overflow = True
        return page

    def give_back(self, pages: list[Page]) -> None:
        """A request is done with its pages. May be called again."""
        now = self._now() if self._persistent else 0
        for page in pages:
            if page.kept:
                page.active, page.last_used = False, now
                self.kept.move_to_end(page.view.ref)
            else:
                page.view.release()
        pages.clear()

    def purge(self) -> int:
        """Unmap kept pages that are old, or a few of the others if there was no room. Returns how many."""
        now = self._now()
        if not self._persistent or now < self._next_purge:
            return 0
        self._next_purge = now + PURGE_NS
        wanted = PURGED if self._overflow and len(self.kept) >= MOST_KEPT else 0
        unmapped: list[Page] = []
        for page in self.kept.values():
            if not page.active:
                if page.last_used + KEPT_NS > now and len(unmapped) >= wanted:
                    break
                unmapped.append(page)
        for page in unmapped:
            del self.kept[page.view.ref]
            page.view.release()
        if unmapped:
            self._overflow = False
        return len(unmapped)

    def close(self) -> None:
        """Unmap all that is kept, and not in use. May be called again."""
        for page in self.kept.values():
            page.view.release()
        self.kept.clear()
