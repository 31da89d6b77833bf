# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image's thread computes at a stretch, between two moments at which guests may have the interpreter."""

from __future__ import annotations

import gc
import random
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pvhv.images import shares
from pvhv.images.file import File
from pvhv.images.image import SECTOR_SIZE
from pvhv.images.qcow2.refcounts import decode, encode
from pvhv.images.qcow2.regions import Regions
from tests.images.lab import MIB, make_image, opened

LIMIT_S = 0.010  # shares take a tenth of it on a busy host; what was not cut took four times as much, or seconds
TRIES = 3


class Stretches:
    """The longest stretch of processor time of this thread, between calls that let others run."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.began = time.thread_time()

    def ends(self) -> None:
        self.longest = max(self.longest, time.thread_time() - self.began)

    def around(self, call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object) -> object:
            self.ends()
            try:
                return call(*arguments)
            finally:
                self.began = time.thread_time()

        return wrapped


@contextmanager
def measured() -> Iterator[Stretches]:
    gc.collect()
    gc.disable()
    with pytest.MonkeyPatch.context() as patch:
        stretches = Stretches()
        patch.setattr(shares.time, "sleep", stretches.around(time.sleep))
        for name in ("read_some", "write", "sync", "punch"):
            patch.setattr(File, name, stretches.around(getattr(File, name)))
        stretches.began = time.thread_time()
        try:
            yield stretches
        finally:
            stretches.ends()
            gc.enable()


def longest_of(*steps: Callable[[], object]) -> float:
    with measured() as stretches:
        for step in steps:
            step()
    return stretches.longest


def least(attempt: Callable[[], float]) -> float:
    """The least of some tries: what stumbles once (over other load) may try again."""
    found = float("inf")
    for _try in range(TRIES):
        found = min(found, attempt())
        if found < LIMIT_S:
            break
    print(f"{found * 1000:.2f} ms")
    return found


def test_a_discard_of_a_disk_without_tables(tmp_path: Path) -> None:
    path = make_image(tmp_path / "it.qcow2", 1024 * MIB, cluster_size=512)
    with opened(path) as image:
        assert least(lambda: longest_of(lambda: image.discard(0, image.sectors))) < LIMIT_S


@pytest.mark.parametrize("bits", [1, 4])
def test_refcounts_of_a_few_bits(tmp_path: Path, bits: int) -> None:
    """A block counts up to sixteen million clusters, and a slice of it 32768."""
    path = tmp_path / "it.qcow2"

    def attempt() -> float:
        path.unlink(missing_ok=True)
        took = longest_of(lambda: make_image(path, 64 * MIB, cluster_size=2 * MIB, refcount_bits=bits))
        with opened(path) as image:
            return max(took, longest_of(lambda: image.write(0, bytes(SECTOR_SIZE)), image.flush))

    assert least(attempt) < LIMIT_S


@pytest.mark.parametrize("order", range(7))
def test_refcounts_are_encoded_and_decoded(order: int) -> None:
    numbers = random.Random(order).choices(range(min(1 << (1 << order), 1 << 62)), k=64)
    raw = encode(array("BBBBHIQ"[order], numbers), order)
    assert len(raw) == 64 * (1 << order) // 8 and list(decode(raw, order)) == numbers
    bits = 1 << order
    if bits < 8:  # the lowest bits of a byte come first
        assert [raw[0] >> at & (1 << bits) - 1 for at in range(0, 8, bits)] == numbers[: 8 // bits]


def test_the_places_of_many_tables() -> None:
    clusters = random.Random(3).choices(range(2, 1 << 40, 2), k=200_000)
    regions = Regions()

    def attempt() -> float:
        nonlocal regions
        regions = Regions()
        return longest_of(lambda: regions.add_all(clusters))

    assert least(attempt) < LIMIT_S
    assert list(regions._single) == sorted(set(clusters))
    assert regions.hit(clusters[7], 1) and not regions.hit(clusters[7] + 1, 1)
