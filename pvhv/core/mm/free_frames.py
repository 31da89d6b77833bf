# SPDX-License-Identifier: GPL-2.0-or-later
"""The buddy allocator of free frames: blocks of 2^order neighbouring frames, aligned to their size, in a list by order.

An allocation takes the smallest block that is large enough and halves it until it fits. A block that is freed is joined
with its buddy if that is free as a whole, and the result with its own buddy in turn. So both cost a few steps for each
order, and never a search through all free blocks, however a guest has scattered them. A run of frames is rounded up to
a power of two and aligned to it, as guests know it from Xen; the frames in excess are freed at once.

The lists are links in two arrays, indexed by frame, which the host commits on use: no other memory grows with the
number of blocks.

Invariant: each free frame is in exactly one block, and no two free blocks of one order are buddies.

Read beside it: alloc_heap_pages and free_heap_pages in xen/common/page_alloc.c.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

NOBODY = 0  # frame 0 is never given out, so a link to it is none


class FreeFrames:
    """Free blocks by order; `count` is the number of free frames."""

    def __init__(self, first: int, end: int) -> None:
        """The frames in range(first, end) are free. `first` is not 0."""
        self.end = end
        self.most = end.bit_length()
        self.count = 0
        self._order = bytearray(end)  # of the block that begins at a frame, plus one; 0 where none does
        self._heads = [NOBODY] * (self.most + 1)
        self._there = 0  # a bit an order: whether there are blocks of it
        self._links = [mmap.mmap(-1, end * 4) for _ in range(2)]
        self._next, self._before = (memoryview(each).cast("I") for each in self._links)
        self.give_run(first, end - first)

    def __len__(self) -> int:
        return self.count

    # -- lists -------------------------------------------------------------------------------------------------
    def _link(self, mfn: int, order: int) -> None:
        """Put a free block at the head of the list of its order."""
        head = self._heads[order]
        self._next[mfn], self._before[mfn] = head, NOBODY
        if head:
            self._before[head] = mfn
        else:
            self._there |= 1 << order
        self._heads[order] = mfn
        self._order[mfn] = order + 1

    def _unlink(self, mfn: int, order: int) -> None:
        before, following = self._before[mfn], self._next[mfn]
        if before:
            self._next[before] = following
        else:
            self._heads[order] = following
            if not following:
                self._there &= ~(1 << order)
        if following:
            self._before[following] = before
        self._order[mfn] = 0

    # -- giving back -------------------------------------------------------------------------------------------
    def give(self, mfn: int, order: int = 0) -> None:
        """Free the block of 2^order frames at `mfn`."""
        self.count += 1 << order
        orders = self._order
        while True:
            buddy = mfn ^ 1 << order
            if buddy >= self.end or orders[buddy] != order + 1:
                break
            self._unlink(buddy, order)
            mfn &= buddy
            order += 1
        self._link(mfn, order)

    def give_run(self, mfn: int, count: int) -> None:
        """Free `count` neighbouring frames."""
        while count:
            order = min((mfn & -mfn).bit_length(), count.bit_length()) - 1
            self.give(mfn, order)
            mfn += 1 << order
            count -= 1 << order

    # -- taking ------------------------------------------------------------------------------------------------
    def take(self, count: int) -> int:
        """Take `count` neighbouring frames; returns the first, or NOBODY when no block is large enough."""
        order = (count - 1).bit_length()
        there = self._there >> order
        if not there:
            return NOBODY
        found = order + (there & -there).bit_length() - 1
        mfn = self._heads[found]
        self._unlink(mfn, found)
        while found > order:
            found -= 1
            self._link(mfn + (1 << found), found)
        self.count -= 1 << order
        if count != 1 << order:
            self.give_run(mfn + count, (1 << order) - count)
        return mfn

    def largest(self, at_most: int) -> int:
        """The largest power of two, not above `at_most`, that `take` can serve; 0 when no frame is free."""
        if not self._there:
            return 0
        return 1 << min(self._there.bit_length(), at_most.bit_length()) - 1

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(first frame, order) of each free block, for consistency checks."""
        for order, head in enumerate(self._heads):
            while head:
                yield head, order
                head = self._next[head]
