# SPDX-License-Identifier: GPL-2.0-or-later
"""Every test kernel of guest_kernel/tests, booted, and its verdict believed.

A test kernel argues one rule of the ABI and says PASS or FAIL in its last line. Its source tells in its opening comment
what it needs ("needs: vcpus=2", or an engine) and how the domain ends if that is not by powering off ("ends: crash").
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pvhv.machine import seam
from pvhv.testing import boot

SOURCES = Path(__file__).parents[2] / "guest_kernel" / "tests"
ALL = sorted(path.parent.name for path in SOURCES.glob("*/*.c") if path.parent.name != "lib")
NAMES = [name for name in ALL if not name.startswith("hostile-")]
HOSTILE = [name for name in ALL if name.startswith("hostile-") and name != "hostile-victim"]  # test_hostile_kernels.py


def said(name: str, key: str) -> str:
    """What the opening comment of a test kernel says after `key:`."""
    text = (SOURCES / name / f"{name}.c").read_text().partition("*/")[0]
    found = re.search(rf"^ \* {key}: (.*)$", text, re.MULTILINE)
    return found.group(1) if found else ""


def test_there_are_test_kernels() -> None:
    assert len(NAMES) > 30


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("name", NAMES)
def test_kernel(name: str, clock: str) -> None:
    needs = dict(pair.split("=") for pair in said(name, "needs").split())
    if needs.get("engine") == "corrected" and not seam.present:
        pytest.skip("the stock engine is known to be wrong here")
    result = boot(f"test-{name}", clock=clock, timeout=30, vcpus=int(needs.get("vcpus", "1")))
    assert result.last_line == f"PASS {name}", result.output + result.report
    assert result.ending == (said(name, "ends") or "poweroff")
