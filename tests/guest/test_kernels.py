# SPDX-License-Identifier: GPL-2.0-or-later
"""Every test kernel of guest_kernel/tests, booted, and its verdict believed.

A test kernel argues one rule of the ABI and says PASS or FAIL in its last line. Its source tells in its opening comment
what it needs ("needs: vcpus=2", or an engine) and how the domain ends if that is not by powering off ("ends: crash").

And a real Xen 4.17 says the same, line for line: its verdicts are kept in tests/reference (tools/xen_reference.py).
"""

from __future__ import annotations

import pytest

from pvhv.machine import seam
from tools.reference import cases, ours, verdicts
from tools.reference.machine import lines_of

NAMES = [name for name in cases.names() if not cases.is_hostile(name)]  # those: test_hostile_kernels.py


def test_there_are_test_kernels() -> None:
    assert len(NAMES) > 30


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("name", NAMES)
def test_kernel(name: str, clock: str) -> None:
    if cases.needs(name).get("engine") == "corrected" and not seam.corrected:
        pytest.skip("the stock engine is known to be wrong here")
    result = ours.alone(cases.job(name, seconds=30), clock)
    assert result.last_line == f"PASS {name}", result.output + result.report
    assert result.ending == (cases.said(name, "ends") or "poweroff")
    assert not verdicts.unexplained(name, name, result.ending, lines_of(result.raw))
