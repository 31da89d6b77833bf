# SPDX-License-Identifier: GPL-2.0-or-later
"""Every benchmark under every technique comes to its end, and says that its work was done.

(The runner takes no number of a benchmark that does not: see runner.BenchmarkFailed.)
"""

from __future__ import annotations

import pytest

from pvhv import compare
from pvhv.compare.runner import NOT_UNDER


@pytest.mark.parametrize("technique", compare.TECHNIQUES)
def test_all_benchmarks(technique: str) -> None:
    comparison = compare.run([technique], compare.BENCHES)
    absent = {bench for bench, under in NOT_UNDER if under == technique}
    assert {bench for _, bench in comparison.absent} == absent
    assert set(comparison.benches) == set(compare.BENCHES)
    for counts in comparison:
        assert counts.operations >= 8
        assert counts.instructions_per_operation > 0
        assert (technique == "bare") <= (not counts.exits)
