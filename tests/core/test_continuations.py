# SPDX-License-Identifier: GPL-2.0-or-later
"""Page-table work put aside and taken up again, at every point where that can happen.

Random trees, some of them bad, are pinned, unpinned, linked and loaded with shares of work so small that every call is
interrupted many times; sometimes the guest does not come back to a call at all. At each of these points, and after
each call, the frame table must add up.
"""

from __future__ import annotations

import random

import pytest

from pvhv.abi.errno import Errno
from pvhv.core.mm.frames import L1, L2, L3, L4, NONE, PARTIAL, PINNED
from pvhv.core.mm.pte import GLOBAL, NX, PRESENT, RW
from tests.core.guests import BASE
from tests.core.pv import (
    DATA,
    NEW_BASEPTR,
    NEW_USER_BASEPTR,
    PIN_L1,
    PIN_L2,
    PIN_L3,
    PIN_L4,
    UNPIN,
    Bench,
    fixed_up,
    link,
    page,
)

FRAMES = 1100  # as few as do: the frame table is counted thousands of times
PINS = {L1: PIN_L1, L2: PIN_L2, L3: PIN_L3, L4: PIN_L4}
HOW_MANY = {L1: 10, L2: 6, L3: 4, L4: 3}
NO_RAM = 0x8_0000_0000 >> 12


class Forest(Bench):
    """Tables of all levels that name each other at random, sound for the most part."""

    def __init__(self, seed: int) -> None:
        super().__init__(spare=40, frames=FRAMES)
        self.random = random.Random(seed)
        self.badness = (0.0, 1 / 400, 1 / 100, 1 / 30)[seed % 4]
        self.tables = {level: [self.spare.pop() for _ in range(count)] for level, count in HOW_MANY.items()}
        self.every = [(level, mfn) for level, mfns in self.tables.items() for mfn in mfns]
        for level, mfn in self.every:
            indices = self.random.sample(range(512), self.random.choice((1, 3, 9)))
            self.fill(mfn, {index: self.entry_of(level) for index in indices})
        self.random_shares = lambda: self.random.choice((1, 2, 3, 20, 50, 100, 300))

    def entry_of(self, level: int) -> int:
        """An entry for a table of that level, now and then one that is not allowed."""
        chance = self.random
        if chance.random() < self.badness:
            return chance.choice((page(NO_RAM), link(self.l1), link(self.spare[0], PRESENT | RW | GLOBAL), 0, 1))
        if level == L1:
            if chance.random() < 1 / 10:
                return page(chance.choice(self.every)[1], DATA | (RW if chance.random() < self.badness else 0))
            return page(chance.choice(self.spare), DATA | (RW if chance.random() < 1 / 3 else 0))
        return link(chance.choice(self.tables[level - 1]))

    def act(self) -> None:
        """One thing a guest may do."""
        chance = self.random
        level, mfn = chance.choice(self.every + 2 * [(L4, mfn) for mfn in self.tables[L4]])
        what = chance.randrange(10)
        if what < 6:
            pinned = self.frames.types[mfn] & PINNED and chance.random() < 9 / 10
            self.ext(UNPIN if pinned else PINS[level], mfn)
        elif what < 9:
            # Where the frame is a table this changes it, else it writes the entry for the next who takes it as one.
            requests = []
            for _ in range(4):
                level, mfn = chance.choice(self.every)
                if chance.random() < self.badness:
                    level = chance.randint(L1, L4)
                value = self.entry_of(level) if chance.random() < 3 / 4 else 0
                requests.append((mfn << 12 | chance.randrange(512) * 8, value))
            self.updates(*requests)
        elif chance.random() < 1 / 2:
            self.ext(NEW_USER_BASEPTR, chance.choice([0, *self.tables[L4]]))
        else:
            self.let_go()

    def let_go(self) -> None:
        """Take everything back."""
        self.ext(NEW_USER_BASEPTR, 0)
        for _, mfn in self.every:
            if self.frames.types[mfn] & PINNED:
                self.ext(UNPIN, mfn)


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_right_wherever_a_call_is_put_aside(seed: int) -> None:
    forest = Forest(seed)
    chance = forest.random
    interruptions = 0

    def put_aside() -> bool:
        nonlocal interruptions
        interruptions += 1
        assert forest.continued < 10_000
        if interruptions % 5 == 0:
            forest.balanced()
        return chance.random() < 1 / 200

    forest.put_aside = put_aside
    forest.shares = forest.random_shares
    for _ in range(200):
        forest.act()
        forest.balanced()
    assert interruptions > 50
    forest.put_aside = lambda: None
    forest.let_go()
    forest.balanced()
    for _, mfn in forest.every:
        assert forest.type(mfn) == NONE or forest.frames.types[mfn] & PARTIAL  # abandoned for good
    forest.destroy(forest.g)
    forest.balanced()
    assert not any(owner == 1 for owner in forest.frames.owner)


def full_tree(b: Bench, l1s: int, entries: int = 512) -> tuple[int, list[int]]:
    """An L4 with `l1s` full L1s below it."""
    tables = [b.table(dict.fromkeys(range(entries), page(b.spare[0], DATA | RW))) for _ in range(l1s)]
    l2 = b.table({index: link(mfn) for index, mfn in enumerate(tables)})
    l3 = b.table({511: link(l2)})
    return b.table({3: link(l3)}), [l3, l2, *tables]


def test_a_pin_and_its_unpinning_are_put_aside_and_finished() -> None:
    b = Bench()
    l4, below = full_tree(b, 12)
    b.shares = lambda: 100
    b.put_aside = lambda: b.balanced() and None
    assert b.ext(PIN_L4, l4) == 0
    assert b.continued >= 10
    assert [b.type(mfn) for mfn in below] == [L3, L2] + [L1] * 12
    assert b.frames.type_counts[b.spare[0]] == 12 * 512
    assert b.ext(UNPIN, l4) == 0
    assert b.continued >= 10
    assert [b.type(mfn) for mfn in (l4, *below, b.spare[0])] == [NONE] * 16
    assert b.balanced()


def test_a_bad_tree_is_undone_in_pieces() -> None:
    b = Bench()
    l4, below = full_tree(b, 12)
    b.fill(below[-1], {511: page(NO_RAM)})
    b.shares = lambda: 100
    b.put_aside = lambda: b.balanced() and None
    assert b.ext(PIN_L4, l4) == -int(Errno.EPERM)  # told at the very end
    assert b.continued >= 20
    assert b.vcpu.deferred.mfn == 0
    assert [b.type(mfn) for mfn in (l4, *below, b.spare[0])] == [NONE] * 16
    assert b.balanced()


def test_an_entry_that_is_replaced_drops_its_tree_in_pieces() -> None:
    b = Bench()
    _, (l3, *_) = full_tree(b, 12)
    assert b.update(b.l4, 77, link(l3)) == 0
    b.shares = lambda: 100
    b.put_aside = lambda: b.balanced() and None
    other = b.table()
    assert b.updates((b.l4 << 12 | 77 * 8, 0), (b.l4 << 12 | 78 * 8, link(other))) == 0
    assert b.continued >= 10
    assert b.done == 2
    assert (b.type(l3), b.type(other)) == (NONE, L3)
    assert b.balanced()
    # The result of the last entry waits for its old tree to be gone, be it an error.
    assert b.updates((b.l4 << 12 | 77 * 8, link(l3))) == 0
    assert b.updates((b.l4 << 12 | 77 * 8, 0), (b.l4 << 12 | 78 * 8, link(NO_RAM))) == -int(Errno.EINVAL)
    assert b.vcpu.deferred.mfn == 0
    assert b.balanced()


def test_a_root_is_loaded_and_the_old_one_dropped_in_pieces() -> None:
    b = Bench()
    l4, (l3, *_) = full_tree(b, 12)
    b.fill(l4, {BASE >> 39: link(b.l3), 3: link(l3)})
    b.shares = lambda: 100
    b.put_aside = lambda: b.balanced() and None
    old = b.l4
    assert b.ext(NEW_BASEPTR, l4) == 0
    assert b.continued >= 10
    assert (b.vcpu.guest_table, b.type(old)) == (l4, NONE)
    assert b.ext(NEW_BASEPTR, old) == 0  # ... and back: now the big tree goes
    assert b.continued >= 10
    assert (b.vcpu.guest_table, b.type(l4), b.type(l3)) == (old, NONE, NONE)
    assert b.ext(NEW_USER_BASEPTR, l4) == 0
    assert b.ext(NEW_USER_BASEPTR, 0) == 0
    assert b.continued >= 10
    assert b.type(l4) == NONE
    assert b.balanced()


def test_another_vcpu_takes_up_what_one_left_half_done() -> None:
    b = Bench()
    l4, below = full_tree(b, 12)
    b.shares = lambda: 100
    b.put_aside = lambda: b.continued == 5  # and never comes back
    b.ext(PIN_L4, l4)
    assert b.frames.types[l4] & PARTIAL
    assert b.balanced()
    b.put_aside = lambda: b.balanced() and None
    assert b.update(below[1], 400, 0) == -int(Errno.EINVAL)  # half a table is none
    assert b.update(b.l1, 100, page(below[1], DATA | RW)) == -int(Errno.EBUSY)  # nor is it writable
    assert b.ext(PIN_L2, below[1]) == 0
    assert b.ext(PIN_L4, l4) == 0
    assert b.ext(UNPIN, l4) == 0
    assert b.ext(UNPIN, below[1]) == 0
    assert [b.type(mfn) for mfn in (l4, *below, b.spare[0])] == [NONE] * 16
    assert b.balanced()


@pytest.mark.parametrize("stop", range(1, 14))
def test_a_domain_is_taken_apart_whatever_it_was_in_the_middle_of(stop: int) -> None:
    b = Bench()
    l4, _ = full_tree(b, 12)
    b.shares = lambda: 100
    b.put_aside = lambda: b.continued == stop
    b.ext(PIN_L4, l4)
    if not b.frames.types[l4] & PARTIAL:  # the pin came to its end: stop in the middle of its undoing
        b.ext(UNPIN, l4)
    b.destroy(b.g)
    assert b.balanced()
    assert not any(owner == b.g.domid for owner in b.frames.owner)
    assert b.g.domid not in b.hv.domains


def test_batches_go_on_where_they_were() -> None:
    b = Bench()
    b.shares = lambda: 100
    entries = [(b.l1 << 12 | (100 + n) * 8, page(b.spare[n % 8], DATA | (RW if n & 1 else 0))) for n in range(400)]
    assert b.updates(*entries) == 0
    assert b.continued >= 3
    assert b.done == 400
    assert [b.word(b.l1, 100 + n) for n in range(400)] == [fixed_up(value) for _, value in entries]
    assert b.updates(*((ptr, value | NX) for ptr, value in entries[:390]), (0, 0)) == -int(Errno.EINVAL)
    assert b.done == 390
    pins = [(PIN_L1, b.table(), 0) for _ in range(15)]
    b.shares = lambda: 10
    assert b.exts(*pins) == 0
    assert b.continued >= 5
    assert b.done == 15
    assert b.exts(*((UNPIN, mfn, 0) for _, mfn, _ in pins), (UNPIN, NO_RAM, 0)) == -int(Errno.EINVAL)
    assert b.done == 15
    assert b.balanced()
