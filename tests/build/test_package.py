# SPDX-License-Identifier: GPL-2.0-or-later
"""The package says which version it is, and pyproject reads it from the same place."""

import re
import tomllib
from pathlib import Path

import pvhv

ROOT = Path(__file__).parents[2]


def test_version_is_read_from_the_package() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", pvhv.__version__)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["tool"]["hatch"]["version"]["path"] == "pvhv/__init__.py"
    assert "version" in pyproject["project"]["dynamic"]
