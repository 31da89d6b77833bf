# SPDX-License-Identifier: GPL-2.0-or-later
"""Imports run one way: down the list of rooms in the README. Those under TYPE_CHECKING count: who has to know a type
has to know the room."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BESIDE = {"build", "__version__"}  # the builder of guest kernels stands beside the rooms; it imports none of them


def rooms_of_the_readme() -> list[str]:
    """As the README has them, the highest first."""
    text = (ROOT / "README.md").read_text("utf-8")
    table = text[text.index("## Where things are") :].split("\n\n")[2]
    return re.findall(r"`pvhv/(\w+)(?:/|\.py)`", table.partition("`pvhv/build/`")[0])


def rooms_of_the_architecture() -> list[str]:
    """As docs/architecture.md has them, in its table of the parts."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    cast = text[text.index("## The parts") : text.index("## What happens at an exit")]
    return re.findall(r"^\| `(\w+)(?:/|\.py)` \|", cast, re.MULTILINE)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of everything of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            names = [f"pvhv.{each.name}" for each in node.names] if node.module == "pvhv" else [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.startswith("pvhv."))


def room_of(path: Path) -> str:
    inside = path.relative_to(ROOT / "pvhv")
    return inside.parts[0].removesuffix(".py")


def test_every_room_is_in_the_readme() -> None:
    there = {room_of(path) for path in (ROOT / "pvhv").rglob("*.py")} - {"__init__", "__main__", "build"}
    assert sorted(rooms_of_the_readme()) == sorted(there)
    assert rooms_of_the_architecture() == rooms_of_the_readme()


@pytest.mark.parametrize("room", [*rooms_of_the_readme(), "build"])
def test_arrows_run_down(room: str) -> None:
    order = rooms_of_the_readme()
    allowed = set() if room == "build" else {room, *order[order.index(room) + 1 :]}
    upward = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sorted((ROOT / "pvhv").rglob("*.py"))
        if room_of(path) == room
        for line, module in imports(path)
        if module.split(".")[1] not in allowed | BESIDE | {room}
    ]
    assert not upward, "\n".join(upward)


def test_nobody_patches_what_is_anothers() -> None:
    """Who looks on does so by pvhv/machine/wrapping.py, which can be taken off again."""
    patching = [
        f"{path.relative_to(ROOT)}: {module}"
        for folder in ("pvhv", "tools")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for module in [getattr(node, "module", None) or node.names[0].name]
        if module.startswith("unittest")
    ]
    assert not patching
