# SPDX-License-Identifier: GPL-2.0-or-later
"""A stock Linux to boot: fetched once, into the user's cache, outside of this tree."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tools import fetch_linux
from tools.linux.deb import BadPackage


class Linux(NamedTuple):
    """The two files of it."""

    kernel: Path
    ramdisk: Path


@pytest.fixture(scope="session")
def linux() -> Linux:
    try:
        return Linux(*fetch_linux.fetch())
    except (BadPackage, OSError) as error:
        pytest.skip(f"no Linux to boot, python3 tools/fetch_linux.py fetches one: {error}")
