# SPDX-License-Identifier: GPL-2.0-or-later
"""The frames nobody has: blocks of 2^order neighbours, each aligned to its size, kept by order.

To give frames out, the smallest block that will do is halved until it fits; a frame that comes back joins its buddy, if
that is free as a whole, and both together theirs. So giving and taking back cost some steps an order and never a look
through everything that is free, however a guest has scattered it. A run of frames is aligned to the power of two it is
rounded up to, as guests know it from Xen; what was rounded off is free again at once.

The lists run through two arrays by frame, of memory that the host commits as it is touched: nothing else grows with the
number of pieces.

Invariant: each free frame is in exactly one block, and no two buddies are both free blocks of one order.

Read beside it: alloc_heap_pages and free_heap_pages in xen/common/page_alloc.c.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

NOBODY = 0  # frame 0 is never given out, so a link to it is none


class FreeFrames:
    """Blocks by order. `count` frames are free."""

    def __init__(self, first: int, end: int) -> None:
        """All from `first`, which is not 0, to before `end` are free."""
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
        """A block is free; it is the next of its order to be taken."""
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
        """A block is free."""
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
        """So many neighbours are free."""
        while count:
            order = min((mfn & -mfn).bit_length(), count.bit_length()) - 1
            self.give(mfn, order)
            mfn += 1 << order
            count -= 1 << order

    # -- taking ------------------------------------------------------------------------------------------------
    def take(self, count: int) -> int:
        """So many neighbours; the first one, or NOBODY where there is no block to take them from."""
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
        """The most neighbours, a power of two, that can be taken of those that are `at_most` wanted; 0 for none."""
        if not self._there:
            return 0
        return 1 << min(self._there.bit_length(), at_most.bit_length()) - 1

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(first frame, order) of each block: for who checks the books."""
        for order, head in enumerate(self._heads):
            while head:
                yield head, order
                head = self._next[head]
