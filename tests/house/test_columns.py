# SPDX-License-Identifier: GPL-2.0-or-later
"""Types, counts and pins of frames change in one place. The frame table's columns may be read by anybody; who writes
one is listed here, and why.

What is found are stores into what goes by a column's name, or by a local name for one. The rooms below the core have no
frame table, and use some of the names for other things."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvhv.core.mm.frames import FrameTable
from pvhv.machine.ram import Ram

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {"owner", "refs", "types", "type_counts", "allocated", "code"}
BELOW = {"abi", "machine", "build"}
MUTATORS = {"append", "clear", "extend", "frombytes", "fromlist", "insert", "pop", "remove", "reverse", "__setitem__"}

WRITERS = {
    "core/mm/frames.py": ({"owner", "refs", "types", "type_counts", "allocated"}, "the door: each change has its name"),
    "core/mm/fast_types.py": ({"refs", "type_counts"}, "the flat copies; each is replayed beside what it copies"),
    "core/mm/executable.py": ({"code"}, "whose column that is: the frame table only keeps it"),
}


def named(node: ast.expr, local: dict[str, str]) -> str | None:
    """Which column an expression is, if it is one: `frames.refs`, `self.refs`, or a local name for that."""
    if isinstance(node, ast.Attribute):
        return node.attr if node.attr in COLUMNS else None
    return local.get(node.id) if isinstance(node, ast.Name) else None


def pairs(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Each single target of an assignment, with its own value where that can be told."""
    if not isinstance(target, (ast.Tuple, ast.List)):
        yield target, value
        return
    values = value.elts if isinstance(value, (ast.Tuple, ast.List)) else [None] * len(target.elts)
    for each, its_value in zip(target.elts, values, strict=False):
        yield from pairs(each, its_value)


def assignments(tree: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from pairs(target, node.value)
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.NamedExpr)):
            yield node.target, node.value
        elif isinstance(node, ast.Delete):
            yield from ((target, None) for target in node.targets)
        elif isinstance(node, (ast.For, ast.comprehension)):
            yield from pairs(node.target, None)


def columns_written(source: str) -> set[str]:
    """The columns that a module stores into, as a frame's or as a whole. (What makes a column is no store.)"""
    tree = ast.parse(source)
    local = {column: column for column in COLUMNS}
    for target, value in assignments(tree):
        column = named(value, {}) if value is not None else None
        if isinstance(target, ast.Name) and column:
            local[target.id] = column
    written = {
        named(target.value, local) for target, _value in assignments(tree) if isinstance(target, ast.Subscript)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            written.add(named(node.func.value, {}))
    return {column for column in written if column is not None}


def test_these_are_the_columns() -> None:
    """All that is as long as the machine has frames."""
    table = FrameTable(Ram(8))
    assert {name for name, value in vars(table).items() if hasattr(value, "__len__") and len(value) == 8} == COLUMNS


def test_one_door() -> None:
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "pvhv").rglob("*.py")):
        inside = path.relative_to(ROOT / "pvhv")
        if inside.parts[0] not in BELOW and (written := columns_written(path.read_text("utf-8"))):
            found[inside.as_posix()] = written
    assert found == {name: columns for name, (columns, _why) in WRITERS.items()}


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        ("frames.refs[mfn] += 1", {"refs"}),
        ("self.frames.types[mfn] |= 16", {"types"}),
        ("self.owner[a:b] = self.allocated[a:b] = x", {"owner", "allocated"}),
        ("a, frames.code[mfn] = 1, 2", {"code"}),
        ("words, counts = frames.words, frames.type_counts\ncounts[mfn] -= 1", {"type_counts"}),
        ("words, refs = self._columns\nrefs[mfn] -= 1", {"refs"}),
        ("del frames.owner[3]", {"owner"}),
        ("frames.types.__setitem__(mfn, 0)", {"types"}),
        ("for frames.refs[mfn] in range(3): pass", {"refs"}),
        ("x = frames.refs[mfn]; owners = frames.owner; words[mfn] = owners[mfn]; pages.append(mfn)", set()),
    ],
)
def test_a_store_is_found(source: str, columns: set[str]) -> None:
    assert columns_written(source) == columns
