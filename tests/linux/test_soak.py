# SPDX-License-Identifier: GPL-2.0-or-later
"""Stock Linuxes under load, one with a vCPU and one with four, side by side: for half a minute whenever the tests run.

For longer when asked: `pytest -m soak` is ten minutes, or PVHV_SOAK seconds.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.linux import soak
from tests.linux.conftest import Linux

pytestmark = pytest.mark.linux

SECONDS = int(os.environ.get("PVHV_SOAK", "600"))


def soaked(linux: Linux, directory: Path, seconds: int) -> None:
    for report in soak.run(linux, directory, seconds, 1, 4):
        soak.check(report)


def test_half_a_minute_under_load(linux: Linux, tmp_path: Path) -> None:
    soaked(linux, tmp_path, 20)  # half a minute with the boots


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_long_under_load(linux: Linux, tmp_path: Path) -> None:
    soaked(linux, tmp_path, SECONDS)
