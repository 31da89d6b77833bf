# SPDX-License-Identifier: GPL-2.0-or-later
"""Rooms in which no two files need each other, not even for a type: a reader can begin at the bottom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house.circles import circles

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_CIRCLES = ["machine"]  # what is here never leaves; a room whose last circle was opened comes here


def arrows(room: str) -> dict[str, set[str]]:
    """Which files of a room each of them imports, wherever in it, for type checks included."""
    paths = (ROOT / "pvhv" / room).rglob("*.py")
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        named: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                named |= {node.module or ""} | {f"{node.module}.{each.name}" for each in node.names}
            elif isinstance(node, ast.Import):
                named |= {each.name for each in node.names}
        found[name] = named & files.keys()
    return found


@pytest.mark.parametrize("room", WITHOUT_CIRCLES)
def test_there_are_no_circles(room: str) -> None:
    assert circles(arrows(room)) == []


def test_the_arrows_of_the_metal_are_found() -> None:
    found = arrows("machine")
    assert found["pvhv.machine.pcpu"] >= {"pvhv.machine.running", "pvhv.machine.proof"}
    assert "pvhv.machine.breakpoints" in found["pvhv.machine.debug"]
