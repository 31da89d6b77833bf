# SPDX-License-Identifier: GPL-2.0-or-later
"""Linear page tables: an entry of a table that names a table of its own level.

A kernel that maps an L4 into one of its own slots sees, behind that slot, all its page tables as memory: the CPU's walk
takes one step less down, and ends at a table. An entry that names the very table it stands in needs nothing. One that
names another table of the level holds it as any use would, with rules of its own:

- it is read-only, or it would be the way to write one's own page tables;
- the table it names is validated already: it is not validated for this;
- a table either has such entries or is named by them, never both, so that there are no chains, and no circles in which
  tables would hold each other for good.

`counts` serves the last rule: for a table, the number of such entries in it, or, negative, of such entries that name
it.

Read beside it: define_get_linear_pagetable, inc_linear_entries, inc_linear_uses in xen/arch/x86/mm.c.
"""

from __future__ import annotations

from pvhv.core.mm.frames import COUNT_LIMIT, FIT_FOR, TYPE_MASK, VALIDATED, FrameTable
from pvhv.core.mm.pte import ADDRESS, RW

MOST_USES = 1 << 15  # Xen counts in sixteen bits


class LinearTables:
    """Which tables name tables of their own level."""

    def __init__(self, frames: FrameTable) -> None:
        self.frames = frames
        self.counts: dict[int, int] = {}
        self.owners: set[int] = set()  # domains that ever had one: they can run their tables as code

    def take(self, entry: int, table: int, level: int, owner: int) -> bool:
        """Whether `entry` of `table` may name a table of the same `level`; if so, take a reference and a use of it."""
        if entry & RW:
            return False
        mfn = (entry & ADDRESS) >> 12
        frames, counts = self.frames, self.counts
        if mfn == table:
            self.owners.add(owner)
            return True
        entries, uses = counts.get(table, 0), counts.get(mfn, 0)
        if (
            mfn >= frames.count
            or frames.types[mfn] & FIT_FOR != level | VALIDATED
            or frames.type_counts[mfn] >= COUNT_LIMIT
            or entries < 0
            or not -MOST_USES < uses <= 0
            or not frames.get_page(mfn, owner)
        ):
            return False
        frames.get_page_type(mfn, level)
        counts[table], counts[mfn] = entries + 1, uses - 1
        self.owners.add(owner)
        return True

    def joined(self, mfn: int, table: int) -> bool:
        """Whether an entry of `table` that names `mfn` is a linear entry."""
        return bool(self.counts) and not (self.frames.types[mfn] ^ self.frames.types[table]) & TYPE_MASK

    def part(self, mfn: int, table: int) -> None:
        """A linear entry of `table` that named `mfn` was dropped, or its drop has begun: update `counts`."""
        for each, step in ((table, -1), (mfn, 1)):
            count = self.counts[each] + step
            if count:
                self.counts[each] = count
            else:
                del self.counts[each]
