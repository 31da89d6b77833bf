# SPDX-License-Identifier: GPL-2.0-or-later
"""The fast paths (pvhv/core/mm/fast_types.py) do what the slow ones do that they copy.

Long random sequences go through both. After each step every column of the frame table is the same, and so is all else
that can be told: answers, entries, what waits to be dropped, and what the hypervisor was told meanwhile.

First come page tables alone. There each step is a call of theirs, and most steps are about a handful of frames, so
that the rare cases are met often. Then come whole machines with hostile guests on them, and their hypercalls."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from pvhv.core.errors import HypercallError, Interrupted, Restart
from pvhv.core.hypervisor import Hypervisor
from pvhv.core.mm.fast_types import FastPageTables
from pvhv.core.mm.frames import DOMID_FREE, L1, L4, TYPE_MASK, FrameTable
from pvhv.core.mm.pagetables import PageTables
from pvhv.core.mm.pte import ACCESSED, DIRTY, GLOBAL, GUEST_KERNEL, NX, PAT_PSE, PRESENT, RW, USER
from pvhv.machine.ram import Ram
from tests.core.fuzz_campaign import Campaign

FRAMES = 64
STEPS = 40_000
MOVES = 5000
COLUMNS = ("owner", "refs", "types", "type_counts", "allocated", "code")
FEW_SLOTS = (0, 1, 2, 3, 255, 511)
FLAGS = (
    PRESENT | NX, PRESENT | RW | NX, PRESENT | RW | NX | USER, PRESENT, PRESENT | RW, PRESENT | USER | NX | DIRTY,
    PRESENT | RW | NX | USER | GUEST_KERNEL | ACCESSED | DIRTY, PRESENT | USER | GLOBAL | NX, 0, RW,
)  # fmt: skip
Outcome = Any
Step = Callable[["World"], Outcome]


class World:
    """Frames and page tables of a kind, without a hypervisor around them; `heard` is what they told it."""

    def __init__(self, kind: type[PageTables], sees_stores: bool) -> None:
        self.ram = Ram(FRAMES)
        self.frames = FrameTable(self.ram)
        self.tables = tables = kind(self.frames)
        self.heard: list[Any] = []
        self.yields = random.Random(1)
        self.roots: list[int] = []
        self.held: list[int] = []
        tables.executable.sees_stores = sees_stores
        tables.executable.forget_code = lambda mfn: self.heard.append(("forget", mfn))
        tables.executable.watch_code = lambda mfn, wanted: self.heard.append(("watch", mfn, wanted))
        tables.flush_before_reuse = lambda: self.heard.append("flush")
        tables.l4_changed = lambda: self.heard.append("l4")
        tables.domain_freed_frames = self._freed
        tables.must_yield = self._must_yield
        for _ in range(FRAMES - 8):
            self.frames.allocate(1 if _ % 8 else 2)

    def _must_yield(self, cost: int) -> bool:
        self.heard.append(cost)
        return self.yields.random() < 0.3

    def _freed(self, domid: int, mfn: int, count: int) -> None:
        self.heard.append(("freed", domid, mfn, count))

    def outcome(self, step: Step) -> Outcome:
        """What a step answers, or how it fails."""
        self.heard.clear()
        self.tables.stale = False
        try:
            answer = step(self)
        except (HypercallError, Restart, Interrupted) as failure:
            return told(failure)
        return tuple(map(told, answer)) if isinstance(answer, tuple) else answer

    def everything(self) -> list[Any]:
        frames, tables = self.frames, self.tables
        return [
            *((name, getattr(frames, name)) for name in COLUMNS),
            ("memory", bytes(self.ram.bytes)),
            ("partial", tables.partial),
            ("deferred", (tables.deferred.mfn, tables.deferred.partial)),
            ("stale", tables.stale),
            ("linear", (tables.linear.counts, tables.linear.owners)),
            ("digests", tables.executable.digests),
            ("free", frames.free_frames),
            ("heard", self.heard),
        ]


def told(what: Any) -> Any:
    """An exception as something that can be compared."""
    return (type(what).__name__, getattr(what, "errno", None)) if isinstance(what, Exception) else what


class Sequence:
    """Random steps, by what the first world looks like."""

    def __init__(self, seed: int, world: World) -> None:
        self.rng = random.Random(seed)
        self.world = world

    def frame(self) -> int:
        return self.rng.choice((self.rng.randrange(1, 12), self.rng.randrange(FRAMES)))

    def table(self, lowest: int = L1, highest: int = L1) -> int:
        """One of such a level, if there is one."""
        types, counts = self.world.frames.types, self.world.frames.type_counts
        some = [mfn for mfn in range(FRAMES) if lowest <= types[mfn] & TYPE_MASK <= highest and counts[mfn]]
        return self.rng.choice(some) if some and self.rng.random() < 0.95 else self.frame()

    def entry(self) -> int:
        rng = self.rng
        value = self.frame() << 12 | rng.choice(FLAGS)
        if rng.random() < 0.06:
            value ^= rng.choice((PAT_PSE, 1 << 9, 1 << 40, USER, NX, FRAMES << 12, 0xF_FFFF_FFFF_F000))
        return value

    def address(self) -> int:
        return self.table() << 12 | self.rng.choice(FEW_SLOTS) << 3

    def step(self) -> Step:
        kinds, weights = zip(*STEP_KINDS, strict=True)
        kind: Callable[[Sequence], Step] = self.rng.choices(kinds, weights)[0]
        return kind(self)

    # -- kinds of steps ----------------------------------------------------------------------------------------
    def updates(self) -> Step:
        rng = self.rng
        requests = []
        for _ in range(rng.choice((1, 1, 2, 6))):
            requests += [self.address() | (rng.random() < 0.03) | (rng.random() < 0.01) << 20, self.entry()]
        start, domid = rng.choice((0, 0, 0, 2)), 1 if rng.random() < 0.9 else 2
        return lambda world: world.tables.modify_own(requests, start, domid)

    def modify(self) -> Step:
        rng = self.rng
        where, new = self.table(L1, L4) << 12 | rng.choice(FEW_SLOTS) << 3, self.entry()
        if rng.random() < 0.5:
            new = self.table(L1, L4) << 12 | rng.choice((PRESENT, PRESENT | RW, 0))
        keeps, user, owner = rng.random() < 0.3, rng.choice((1, 1, 1, 2)), rng.choice((1, 1, 1, 2))
        return lambda world: world.tables.modify(where, new, keeps, user, owner)

    def store(self) -> Step:
        slot, new = self.address() >> 3, self.entry()
        if self.world.frames.types[slot >> 9] & TYPE_MASK != L1 or not self.world.frames.type_counts[slot >> 9]:
            return self.updates()
        return lambda world: world.tables.replace_l1_entry(slot, new, 1)

    def fill(self) -> Step:
        """What a guest does to memory that is no table, before it has it taken for one."""
        rng = self.rng
        mfn, entries = self.frame(), [(rng.choice(FEW_SLOTS), self.entry()) for _ in range(rng.choice((1, 4, 8)))]
        frames = self.world.frames
        if frames.owner[mfn] == DOMID_FREE or (frames.types[mfn] & TYPE_MASK <= L4 and frames.type_counts[mfn]):
            return self.updates()
        if rng.random() < 0.4:
            below = self.table(L1, L4)
            entries = [(0, below << 12 | PRESENT | USER)]

        def step(world: World) -> None:
            world.ram.frame(mfn)[:] = bytes(4096)
            for index, value in entries:
                world.ram.words[mfn << 9 | index] = value

        return step

    def pin(self) -> Step:
        mfn, level = self.frame(), self.rng.choice((L1, L1, L1, 2, 3, L4))

        def step(world: World) -> bool:
            frames, deferred = world.frames, world.tables.deferred
            if deferred.mfn or not frames.get_page(mfn, 1):
                return False
            try:
                frames.get_page_type(mfn, level, preemptible=True)
            except (HypercallError, Interrupted, Restart):
                if deferred.mfn != mfn:
                    frames.put_page(mfn)
                raise
            if frames.pin(mfn):
                return True
            deferred.put(mfn, partial=False)
            return False

        return step

    def unpin(self) -> Step:
        mfn = self.table(L1, L4)

        def step(world: World) -> bool:
            frames, deferred = world.frames, world.tables.deferred
            if deferred.mfn or frames.owner[mfn] != 1 or not frames.unpin(mfn):
                return False
            try:
                frames.put_page_and_type_preemptible(mfn)
            except Restart:
                deferred.put(mfn, partial=True)
            except Interrupted:
                deferred.put(mfn, partial=False)
            return True

        return step

    def root(self) -> Step:
        """A vCPU's root comes or goes."""
        mfn, at, coming = self.table(L4, L4), self.rng.random(), self.rng.random() < 0.5

        def step(world: World) -> bool:
            if world.tables.deferred.mfn:
                return False
            if coming:
                world.tables.get_root(mfn, 1)
                world.roots.append(mfn)
            elif world.roots:
                world.tables.put_root(world.roots.pop(int(at * len(world.roots))))
            return True

        return step

    def hold(self) -> Step:
        """The hypervisor holds a frame for a while, as memory that is written to or not."""
        mfn, written, at = self.frame(), self.rng.random() < 0.5, self.rng.random()

        def step(world: World) -> bool:
            frames = world.frames
            if len(world.held) > 6:
                frames.put_page(world.held.pop(int(at * len(world.held))))
            if not frames.get_page(mfn, 1):
                return False
            if written:
                try:
                    frames.get_page_type(mfn, 7)
                    frames.put_page_type(mfn)
                finally:
                    frames.put_page(mfn)
            else:
                world.held.append(mfn)
            return True

        return step

    def give_up(self) -> Step:
        """A guest gives a frame back, and gets another."""
        mfn = self.frame()

        def step(world: World) -> int:
            frames = world.frames
            if frames.owner[mfn] == 1 and frames.free_frames < 16:
                frames.release_allocation(mfn)
            return frames.allocate(1) if frames.free_frames > 4 else 0

        return step

    def settle(self) -> Step:
        return lambda world: world.tables.settle()


STEP_KINDS: list[tuple[Callable[[Sequence], Step], int]] = [
    (Sequence.updates, 40), (Sequence.modify, 10), (Sequence.store, 8), (Sequence.fill, 12), (Sequence.pin, 10),
    (Sequence.unpin, 4), (Sequence.root, 8), (Sequence.hold, 4), (Sequence.give_up, 6), (Sequence.settle, 6),
]  # fmt: skip


@pytest.mark.parametrize("sees_stores", [True, False], ids=["corrected", "stock"])
def test_every_step_is_the_same_by_either_way(sees_stores: bool) -> None:
    fast, slow = World(FastPageTables, sees_stores), World(PageTables, sees_stores)
    sequence = Sequence(7, fast)
    met: Counter[str] = Counter()
    for number in range(STEPS):
        step = sequence.step()
        name = step.__qualname__.split(".")[1]
        before = fast.outcome(step)
        assert before == slow.outcome(step), f"step {number}, {name}"
        for (column, one), (_same, other) in zip(fast.everything(), slow.everything(), strict=True):
            assert one == other, f"step {number}, {name}: {column}"
        met[name] += 1
        met[str(before)] += 1
        met.update(each[0] for each in fast.heard if isinstance(each, tuple))
    # Enough of what there is to go wrong went by.
    assert all(met[kind.__name__] > STEPS // 50 for kind, _ in STEP_KINDS), met
    assert met["forget"] > 50 and met["freed"] > 200, met
    assert sum(count for outcome, count in met.items() if "HypercallError" in outcome) > STEPS // 50, met
    assert sum(count for outcome, count in met.items() if "Restart" in outcome) > 50, met


def tables_of(hypervisor: Hypervisor) -> dict[int, bytes]:
    """What its page tables say. (Other memory differs: the time of day stands in it.)"""
    frames = hypervisor.frames
    tables = [mfn for mfn, state in enumerate(frames.types) if L1 <= state & TYPE_MASK <= L4]
    return {mfn: bytes(hypervisor.ram.frame(mfn)) for mfn in tables if frames.type_counts[mfn]}


def test_hostile_guests_get_the_same_by_either_way() -> None:
    campaigns = [Campaign(41, device_models=True) for _ in range(2)]
    answers: list[list[tuple[int, list[int], int]]] = [[], []]
    for campaign, heard in zip(campaigns, answers, strict=True):
        campaign.judge.answer = lambda number, arguments, result, subject=None, heard=heard: (  # type: ignore
            heard.append((number, arguments, result))
        )
    fast, slow = (campaign.machine.hv for campaign in campaigns)
    assert type(fast.pagetables) is FastPageTables
    slow.pagetables.__class__ = PageTables  # type: ignore[assignment]
    for number in range(MOVES):
        for campaign in campaigns:
            campaign.move()
        assert answers[0] == answers[1], f"move {number}"
        for column in COLUMNS:
            assert getattr(fast.frames, column) == getattr(slow.frames, column), f"move {number}: {column}"
    assert tables_of(fast) == tables_of(slow)
    for campaign in campaigns:
        campaign.count(None)
    assert len(answers[0]) > MOVES
