# SPDX-License-Identifier: GPL-2.0-or-later
"""L1 entries: what each of them takes and drops, singly and by the table.

A present entry holds a reference on the frame it names, and a use of it as writable memory if it says RW. A table is
taken and dropped in one piece.

fast_types.py does the same for whole tables, without a call for each entry.

As in Xen an entry gets some bits when it is accepted (pvhv.core.mm.pte.adjust), which the guest can see.

Read beside it: get_page_from_l1e, put_page_from_l1e, promote_l1_table and mod_l1_entry in xen/arch/x86/mm.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import compress

from pvhv.abi.errno import Errno
from pvhv.core.errors import HypercallError
from pvhv.core.mm.executable import Executable
from pvhv.core.mm.frames import WRITABLE, FrameTable
from pvhv.core.mm.linear import LinearTables
from pvhv.core.mm.pte import ACCESSED, ADDRESS, DIRTY, L1_DISALLOW, NX, PRESENT, REVALIDATED, RW, adjust

LOOK_COST = 32  # of looking for the entries of an L1, in units of work (about an entry each)


class L1Tables:
    """The lowest level of page tables over a FrameTable; pvhv.core.mm.pagetables has those above it."""

    def __init__(self, frames: FrameTable, must_yield: Callable[[int], bool] = lambda cost: False) -> None:
        self.frames = frames
        self.words = frames.ram.words
        self.linear = LinearTables(frames)
        self.executable = Executable(frames, self.linear)
        self.must_yield = must_yield
        self.stale = False  # entries were removed or changed since the last flush: TLBs may still know them

    # -- one entry's holds -----------------------------------------------------------------------------------------
    def get_l1_entry(self, entry: int, table_owner: int, page_owner: int, old: int = 0) -> None:
        """Take what a present L1 entry names: a reference, and a writable use if it says RW.

        Raises HypercallError: EINVAL for bits a guest may not set, EPERM for an address that is not RAM, EBUSY for
        another domain's frame, or for a writable mapping of a page table or descriptor page. (get_page_from_l1e)
        """
        if entry & L1_DISALLOW:
            raise HypercallError(Errno.EINVAL)
        mfn = (entry & ADDRESS) >> 12
        frames = self.frames
        if mfn >= frames.count:
            raise HypercallError(Errno.EINVAL if mfn == ADDRESS >> 12 else Errno.EPERM)
        if not frames.get_page(mfn, page_owner):
            raise HypercallError(Errno.EBUSY)
        if entry & RW:
            try:
                frames.get_page_type(mfn, WRITABLE)
            except HypercallError:
                frames.put_page(mfn)
                raise HypercallError(Errno.EBUSY) from None
            if frames.code[mfn] and not self.executable.sees_stores:
                self.executable.made_writable(mfn, entry, old)
        if not entry & NX:
            self.executable.made_executable(mfn, entry, old)

    def put_l1_entry(self, entry: int, table_owner: int) -> None:
        """Drop what a present L1 entry holds. (put_page_from_l1e)"""
        mfn = (entry & ADDRESS) >> 12
        frames = self.frames
        if mfn >= frames.count:
            return
        self.stale = True
        if entry & RW:
            frames.put_page_type(mfn)
        frames.put_page(mfn)

    # -- a table's -------------------------------------------------------------------------------------------------
    def promote_l1(self, mfn: int) -> None:
        """Take what all its entries name, or nothing and raise HypercallError. (promote_l1_table)"""
        words, owner = self.words, self.frames.owner[mfn]
        taken: list[int] = []
        try:
            for slot in self._filled(mfn):
                entry = words[slot]
                if entry & PRESENT:
                    self.get_l1_entry(entry, owner, owner)
                    taken.append(entry)
                    words[slot] = adjust(entry)
        except HypercallError:
            for entry in reversed(taken):
                self.put_l1_entry(entry, owner)
            raise
        finally:
            self.must_yield(LOOK_COST + len(taken))

    def demote_l1(self, mfn: int) -> None:
        """Drop what all entries of the table hold. (demote_l1_table)"""
        words, owner = self.words, self.frames.owner[mfn]
        dropped = 0
        for slot in self._filled(mfn):
            if words[slot] & PRESENT:
                self.put_l1_entry(words[slot], owner)
                dropped += 1
        self.must_yield(LOOK_COST + dropped)

    def _filled(self, table: int) -> Iterable[int]:
        """The indices in `words` of a table's nonzero entries; usually few."""
        start, end = table << 9, (table + 1) << 9
        return compress(range(start, end), self.words[start:end].tolist())

    # -- changes ---------------------------------------------------------------------------------------------------
    def modify_l1(self, slot: int, new: int, preserve_ad: bool, table_owner: int, page_owner: int) -> None:
        """Change the entry at word `slot`. Raises HypercallError with nothing changed. (mod_l1_entry)"""
        old = self.words[slot]
        if new & PRESENT:
            new = adjust(new)
            if new & L1_DISALLOW:
                raise HypercallError(Errno.EINVAL)
            if old & PRESENT and not (old ^ new) & REVALIDATED:
                if (old & ~new) & NX:
                    self.executable.made_executable((new & ADDRESS) >> 12, new, 0)
                self.stale = True
                self.words[slot] = new | old & (ACCESSED | DIRTY) if preserve_ad else new
                return
            self.get_l1_entry(new, table_owner, page_owner, old)
        self.words[slot] = new | old & (ACCESSED | DIRTY) if preserve_ad else new
        if old & PRESENT:
            self.put_l1_entry(old, table_owner)

    def replace_l1_entry(self, slot: int, new: int, owner: int) -> None:
        """Like `modify_l1` for a domain's own L1, but checks the new entry in full, even if it names the same frame.

        The emulation of a guest's own store uses it (ptwr_emulated_update). Raises HypercallError with nothing changed.
        """
        old = self.words[slot]
        if new & PRESENT:
            new = adjust(new)
            self.get_l1_entry(new, owner, owner, old)
        self.words[slot] = new
        if old & PRESENT:
            self.put_l1_entry(old, owner)
