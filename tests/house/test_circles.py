# SPDX-License-Identifier: GPL-2.0-or-later
"""No two files need each other, not even for a type, but for those named here: a reader can begin at the bottom."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.house.circles import circles

ROOT = Path(__file__).resolve().parents[2]
MOST = 3
# The circles there are, each with its reason.
CIRCLES = {
    ("core.domain", "core.services", "core.vcpu"): (
        "a handler has a vCPU in hand, and gets from it to its domain, from there to the hypervisor, and back"
    ),
}


def files() -> dict[str, Path]:
    """Every file of the package, by its module's name without the package's."""
    package = ROOT / "pvhv"
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_files(path: Path, known: dict[str, Path]) -> set[str]:
    """The files that a file imports; `from package import name` is the name's file, where it has one."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pvhv":
            module = (node.module or "").removeprefix("pvhv").removeprefix(".")
            names = {f"{module}.{each.name}".removeprefix(".") for each in node.names}
            found |= {name if name in known else module for name in names}
        elif isinstance(node, ast.Import):
            found |= {each.name.removeprefix("pvhv.") for each in node.names if each.name.startswith("pvhv.")}
    return {name for name in found if known.get(name, path) != path}


def test_there_are_no_circles_but_those_named_here() -> None:
    known = files()
    there = {tuple(each) for each in circles({name: imported_files(path, known) for name, path in known.items()})}
    assert there == set(CIRCLES), "open what is new, or name it with its reason; what is open is no more to be named"
    assert all(len(circle) <= MOST for circle in there)


def test_the_arrows_of_the_metal_are_found() -> None:
    known = files()
    assert imported_files(known["machine.pcpu"], known) >= {"machine.running", "machine.proof"}
    assert "machine.breakpoints" in imported_files(known["machine.debug"], known)
