# SPDX-License-Identifier: GPL-2.0-or-later
"""Free frames against a plain model: a set of numbers."""

from __future__ import annotations

import random
import time

import pytest

from pvhv.core.mm.free_frames import NOBODY, FreeFrames

END = 1000


def check(free: FreeFrames, model: set[int]) -> None:
    """Every free frame is in one block, blocks are aligned, and no two of them could be one."""
    blocks = list(free.blocks())
    frames = [mfn + index for mfn, order in blocks for index in range(1 << order)]
    assert len(frames) == len(set(frames)) == free.count and set(frames) == model
    assert all(mfn % (1 << order) == 0 for mfn, order in blocks)
    assert not any((mfn ^ 1 << order, order) in blocks for mfn, order in blocks)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_taken_and_given_back(seed: int) -> None:
    dice = random.Random(seed)
    free, model = FreeFrames(1, END), set(range(1, END))
    held: list[tuple[int, int]] = []
    for _ in range(400):
        if held and dice.random() < 0.5:
            mfn, count = held.pop(dice.randrange(len(held)))
            part = dice.randrange(count) if dice.random() < 0.3 else 0  # in two pieces
            free.give_run(mfn + part, count - part)
            free.give_run(mfn, part)
            model |= set(range(mfn, mfn + count))
        else:
            count = dice.choice((1, 1, 1, 2, 3, 8, 30, 64, 200))
            mfn = free.take(count)
            if mfn == NOBODY:
                assert not any(1 << order >= count for _, order in free.blocks())
                continue
            run = set(range(mfn, mfn + count))
            assert run <= model and mfn % (1 << (count - 1).bit_length()) == 0
            model -= run
            held.append((mfn, count))
        check(free, model)
    for mfn, count in held:
        free.give_run(mfn, count)
    check(free, set(range(1, END)))
    assert sorted(free.blocks()) == sorted(FreeFrames(1, END).blocks())


def test_the_largest_that_can_be_had() -> None:
    free = FreeFrames(1, 1024)
    assert [free.largest(wanted) for wanted in (1, 2, 3, 600, 5000)] == [1, 2, 2, 512, 512]
    taken = [free.take(1) for _ in range(1023)]
    assert (free.largest(8), free.count, free.take(1)) == (0, 0, NOBODY)
    free.give(taken[5])
    assert free.largest(8) == 1


def test_asking_for_what_is_not_there_is_no_search() -> None:
    """Every second frame of a big machine is free, so nobody can have two."""
    free = FreeFrames(1, 1 << 19)
    taken = [free.take(1) for _ in range(1 << 18)]
    for mfn in taken[::2]:
        free.give(mfn)
    while free.take(2):
        pass
    began = time.thread_time()
    for _ in range(1000):
        assert free.take(512) == NOBODY
    assert time.thread_time() - began < 0.02
