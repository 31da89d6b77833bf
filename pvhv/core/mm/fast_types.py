# SPDX-License-Identifier: GPL-2.0-or-later
"""The fast paths: the most-used page-table methods, each in one function without further calls.

Each method here repeats what l1tables.py and pagetables.py (whose class this one inherits from) do in small steps, with
the help of frames.py. Read those files; no rule is made here. Each step there is a Python call, and three calls cost as
much as a whole entry does here. So the steps are written out for the most frequent case: an entry for a frame of the
owner's own, read-only, or writable where the frame is writable memory already. All other cases go to the steps. Each
method names the methods it repeats as its twin.

Invariant: the frame table, and what a guest sees, are the same whether an entry is changed here or by the twin.
tests/core/test_fast_types.py replays long random sequences through both and compares every column after each step.

Not checked here: COUNT_LIMIT. To reach it takes as many entries as fit into 16 GiB of page tables.
"""

from __future__ import annotations

from array import array
from functools import cached_property
from typing import TypeAlias

from pvhv.core.errors import HypercallError
from pvhv.core.mm.frames import COUNT_LIMIT, FIT_FOR, L1_TABLE, L4_TABLE, PINNED, WRITABLE_MEMORY
from pvhv.core.mm.l1tables import LOOK_COST
from pvhv.core.mm.pagetables import PageTables
from pvhv.core.mm.pte import ADDRESS, GLOBAL, GUEST_KERNEL, L1_DISALLOW, NX, PRESENT, REVALIDATED, RW, USER, adjust

Numbers: TypeAlias = "array[int]"


class FastPageTables(PageTables):
    """PageTables, with flat copies of the methods that are called most."""

    @cached_property
    def _columns(self) -> tuple[memoryview, Numbers, Numbers, bytearray, Numbers, bytearray, int]:
        """Seven attributes in one."""
        frames = self.frames
        return self.words, frames.owner, frames.refs, frames.types, frames.type_counts, frames.code, frames.count

    # -- entries of an L1 --------------------------------------------------------------------------------------
    def modify_own(self, requests: list[int], start: int, domid: int) -> tuple[int, Exception | None]:
        """Twin: PageTables.modify_own, and in it modify_l1, get_l1_entry, put_l1_entry and adjust."""
        words, owners, refs, types, type_counts, code, limit = self._columns
        index = start
        try:
            for index in range(start, len(requests), 2):
                address = requests[index]
                new = requests[index + 1]
                table = address >> 12
                if (
                    address & 7
                    or table >= limit
                    or owners[table] != domid
                    or types[table] & FIT_FOR != L1_TABLE
                    or not type_counts[table]
                ):
                    return index, None
                slot = address >> 3
                old = words[slot]
                if new & PRESENT:
                    if not new & USER:
                        new |= USER | GUEST_KERNEL
                    elif not new & GUEST_KERNEL:
                        new |= GLOBAL
                    target = (new & ADDRESS) >> 12
                    if (
                        new & L1_DISALLOW
                        or target >= limit
                        or owners[target] != domid
                        or (new & RW and (types[target] != WRITABLE_MEMORY or code[target]))
                        or (old & PRESENT and not (old ^ new) & REVALIDATED)
                    ):
                        self.modify(address, new, False, domid, domid)
                        continue
                    if new & RW:
                        type_counts[target] += 1
                    refs[target] += 1
                    if new < NX:
                        self.executable.made_executable(target, new, old)
                words[slot] = new
                if old & PRESENT:
                    dropped = (old & ADDRESS) >> 12
                    if dropped >= limit or refs[dropped] == 1:
                        self.put_l1_entry(old, domid)
                        continue
                    self.stale = True
                    if old & RW:
                        type_counts[dropped] -= 1
                    refs[dropped] -= 1
        except HypercallError as failure:
            return index, failure
        return len(requests), None

    def put_l1_entry(self, entry: int, table_owner: int) -> None:
        """Twin: L1Tables.put_l1_entry, and in it put_page_type and put_page."""
        mfn = (entry & ADDRESS) >> 12
        frames = self.frames
        if mfn >= frames.count:
            return
        self.stale = True
        if entry & RW:
            frames.type_counts[mfn] -= 1
        refs = frames.refs[mfn]
        if refs > 1:
            frames.refs[mfn] = refs - 1
        else:
            frames.put_page(mfn)

    # -- an L1 as a whole --------------------------------------------------------------------------------------
    def promote_l1(self, mfn: int) -> None:
        """Twin: L1Tables.promote_l1, and in it get_l1_entry."""
        words, owners, refs, types, type_counts, code, limit = self._columns
        owner, sees_stores = owners[mfn], self.executable.sees_stores
        taken: list[int] = []
        try:
            for slot in self._filled(mfn):
                entry = words[slot]
                if not entry & PRESENT:
                    continue
                target = (entry & ADDRESS) >> 12
                if (
                    entry < NX
                    or entry & L1_DISALLOW
                    or target >= limit
                    or owners[target] != owner
                    or (entry & RW and (types[target] != WRITABLE_MEMORY or (code[target] and not sees_stores)))
                ):
                    self.get_l1_entry(entry, owner, owner)
                else:
                    if entry & RW:
                        type_counts[target] += 1
                    refs[target] += 1
                taken.append(entry)
                if not entry & USER or not entry & (GLOBAL | GUEST_KERNEL):
                    words[slot] = adjust(entry)
        except HypercallError:
            for entry in reversed(taken):
                self.put_l1_entry(entry, owner)
            raise
        finally:
            self.must_yield(LOOK_COST + len(taken))

    def demote_l1(self, mfn: int) -> None:
        """Twin: L1Tables.demote_l1, and in it put_l1_entry."""
        words, owners, refs, _types, type_counts, _code, limit = self._columns
        owner = owners[mfn]
        dropped = 0
        for entry in filter(None, words[mfn << 9 : (mfn + 1) << 9].tolist()):
            if not entry & PRESENT:
                continue
            dropped += 1
            target = (entry & ADDRESS) >> 12
            if target >= limit or refs[target] == 1:
                self.put_l1_entry(entry, owner)
                continue
            self.stale = True
            if entry & RW:
                type_counts[target] -= 1
            refs[target] -= 1
        self.must_yield(LOOK_COST + dropped)

    # -- roots -------------------------------------------------------------------------------------------------
    def get_root(self, mfn: int, owner: int) -> None:
        """Twin: PageTables.get_root, and in it get_page and get_page_type: a switch to a root that is in use."""
        frames = self.frames
        if mfn < frames.count and frames.owner[mfn] == owner and frames.types[mfn] & ~PINNED == L4_TABLE:
            uses = frames.type_counts[mfn]
            if 0 < uses < COUNT_LIMIT and frames.refs[mfn] < COUNT_LIMIT:
                frames.type_counts[mfn] = uses + 1
                frames.refs[mfn] += 1
                return
        super().get_root(mfn, owner)

    def put_root(self, mfn: int) -> None:
        """Twin: PageTables.put_root, and in it put_page_and_type_preemptible: a switch from one that stays in use."""
        frames = self.frames
        if frames.type_counts[mfn] > 1 and frames.refs[mfn] > 1 and frames.types[mfn] & ~PINNED == L4_TABLE:
            frames.type_counts[mfn] -= 1
            frames.refs[mfn] -= 1
            return
        super().put_root(mfn)
