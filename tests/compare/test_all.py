# SPDX-License-Identifier: GPL-2.0-or-later
"""Every benchmark under every technique comes to its end, and says that its work was done; and what docs/comparing.md
says of them is what they come to now.

(The runner takes no number of a benchmark that does not: see runner.BenchmarkFailed.)
"""

from __future__ import annotations

from fractions import Fraction

import pytest

from pvhv import compare
from pvhv.compare import names
from pvhv.compare.runner import NOT_UNDER
from tools import gen_chapter

SIZES = {
    "read-4k": 4 << 10, "read-64k": 64 << 10, "write-4k": 4 << 10, "write-64k": 64 << 10, "stream-1m": 1 << 20,
}  # fmt: skip
FULL = [technique for technique in compare.TECHNIQUES if technique != "pv"]


@pytest.fixture(scope="module")
def everything() -> compare.Comparison:
    return compare.run(benches=list(compare.BENCHES), sequences=[gen_chapter.EXPLAINED[0]])


@pytest.mark.parametrize("technique", compare.TECHNIQUES)
def test_all_benchmarks(everything: compare.Comparison, technique: str) -> None:
    there = {counts.bench: counts for counts in everything if counts.technique == technique}
    absent = {bench for bench, under in NOT_UNDER if under == technique}
    assert {bench for other, bench in everything.absent if other == technique} == absent
    assert set(there) == set(compare.BENCHES) - absent
    for counts in there.values():
        assert counts.operations >= 8
        assert counts.instructions_per_operation > 0
        assert (technique == "bare") <= (not counts.exits)


@pytest.fixture(scope="module")
def disk() -> compare.Comparison:
    return compare.disk_io.run(
        list(names.DISK_COLUMNS), list(names.DISK_BENCHES), sequences=[gen_chapter.DISK_EXPLAINED[0]]
    )


def test_the_chapter_is_not_stale(everything: compare.Comparison, disk: compare.Comparison) -> None:
    assert gen_chapter.stale(gen_chapter.only(everything, gen_chapter.wanted()), disk) == []


# -- one disk, three device models -------------------------------------------------------------------------------------


def total(disk: compare.Comparison, metric: str, bench: str) -> dict[str, Fraction | None]:
    """A metric of one operation, by column."""
    return {each.technique: each.per_operation(metric) for each in disk if each.bench == bench}


@pytest.mark.parametrize(("bench", "size"), SIZES.items())
def test_what_is_asked_for_is_moved_once(disk: compare.Comparison, bench: str, size: int) -> None:
    for column, (_, model) in names.DISK_COLUMNS.items():
        by_ports = total(disk, "disk.bytes_by_ports", bench=bench)[column]
        by_device = total(disk, "disk.bytes_by_device", bench=bench)[column]
        assert (by_ports, by_device) == {"ide": (size, 0), "virtio": (0, size), "split": (None, size)}[model]


@pytest.mark.parametrize(("bench", "size"), SIZES.items())
def test_a_page_is_granted_once_each(disk: compare.Comparison, bench: str, size: int) -> None:
    assert total(disk, "disk.grants_mapped", bench=bench)["pv/split"] == size // 4096


def test_a_ring_is_notified_once_and_a_register_for_each_block(disk: compare.Comparison) -> None:
    for column, (technique, model) in names.DISK_COLUMNS.items():
        counts = {bench: disk.get(column, bench) for bench in SIZES}
        small, large = counts["read-4k"], counts["read-64k"]
        assert small is not None and large is not None
        assert small.per_operation("disk.notifications") == large.per_operation("disk.notifications") == 1
        interrupts = large.per_operation("interrupts_delivered")
        assert interrupts == (8 if model == "ide" else 1), "blocks of sixteen sectors"
        if model != "ide" and technique != "hw-nested":
            assert small.exits_per_operation == large.exits_per_operation


def test_ports_are_exits_where_hardware_stops_them(disk: compare.Comparison) -> None:
    """The accesses are the same under every technique; and so are exits or callouts, with those to the PICs."""
    for bench in SIZES:
        for model in ("ide", "virtio"):
            accesses = {total(disk, "disk.port_accesses", bench=bench)[f"{name}/{model}"] for name in FULL}
            assert len(accesses) == 1
            nested, shadow = disk.get(f"hw-nested/{model}", bench), disk.get(f"hw-shadow/{model}", bench)
            assert nested is not None and shadow is not None and nested.exits["IOIO"] == shadow.exits["IOIO"]
            assert nested.exits["IOIO"] > accesses.pop() * nested.operations
            bare = disk.get(f"bare/{model}", bench)
            assert bare is not None and not bare.exits


def test_what_is_asked_for_changes_no_number(disk: compare.Comparison) -> None:
    part = compare.disk_io.run(["hw-nested/virtio"], ["write-64k"])
    (alone,) = part
    assert alone == disk.get("hw-nested/virtio", "write-64k")
