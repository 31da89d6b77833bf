# SPDX-License-Identifier: GPL-2.0-or-later
"""Every benchmark under every technique comes to its end, and says that its work was done; and what docs/comparing.md
says of them is what they come to now.

(The runner takes no number of a benchmark that does not: see runner.BenchmarkFailed.)
"""

from __future__ import annotations

import pytest

from pvhv import compare
from pvhv.compare.runner import NOT_UNDER
from tools import gen_chapter


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


def test_the_chapter_is_not_stale(everything: compare.Comparison) -> None:
    assert gen_chapter.stale(gen_chapter.only(everything, gen_chapter.wanted())) == []
