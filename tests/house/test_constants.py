# SPDX-License-Identifier: GPL-2.0-or-later
"""Each fact stands in one place: no two files of pvhv/ give the same value to the same name.

What Xen's interface and ELF define is in pvhv/abi/, what the processor's manuals define in pvhv/machine/ (x86.py says
where), and whoever needs it imports it. A name given to another name (`ADDRESS = PTE_ADDRESS`) is no second copy."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_NAMES = {"__builtins__": {"range": range, "frozenset": frozenset, "bytes": bytes, "len": len, "tuple": tuple}}

# Of the same name and value by accident, or by how one writes here: changing one would not change the other.
BY_ACCIDENT = {
    "CHUNK": "characters written to the console at a time; entries of a table between two looks at the share of work",
    "LARGEST": "how large a ramdisk may be (that is libxenguest's), and how large a kernel",
    "LONGEST_NAME": "of a domain; of a symbol",
    "MOST_NAMES": "of exits that one system call is told of; of domains that an error message names",
    "NOTHING": "what stands in an empty cell, of compare's tables and of trace's",
    "OK": "what xenstored answers to a request, and to a command of its control interface",
    "PIECE": "how much is read, unpacked, copied or sent in one go, everywhere something else",
    "POLL_S": "how often it is looked whether pvhvd is there, and whether the store takes more",
    "SEARCHED_AT_ONCE": "bytes of a kernel between two chances for other threads, in two searches that are tuned apart",
}


def value_of(node: ast.expr) -> object:
    """Of an expression that says it by itself, with no name of anything else's; else None."""
    try:
        value: object = eval(compile(ast.Expression(node), "", "eval"), dict(WITHOUT_NAMES))
        return tuple(value) if isinstance(value, Iterator) else value
    except Exception:
        return None


def constants(path: Path) -> Iterator[tuple[str, object, int]]:
    """(name, value, line) of each constant of a module whose value stands there, but for what begins empty."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        else:
            continue
        value = value_of(node.value) if node.value is not None else None
        for target in targets:
            if isinstance(target, ast.Tuple) and isinstance(value, (tuple, range)):
                pairs = list(zip(target.elts, value, strict=False))
            else:
                pairs = [(target, value)]
            for each, its_value in pairs:
                if isinstance(each, ast.Name) and re.match("_*[A-Z]", each.id) and its_value not in (None, {}, []):
                    yield each.id, its_value, node.lineno


def repeated(root: Path) -> dict[str, list[str]]:
    """Name -> where it is given the same value more than once."""
    places: dict[tuple[str, str], dict[Path, str]] = defaultdict(dict)
    for path in sorted(root.rglob("*.py")):
        for name, value, line in constants(path):
            places[name, repr(value)].setdefault(path, f"{path.relative_to(root)}:{line}")
    found: dict[str, list[str]] = defaultdict(list)
    for (name, _), where in places.items():
        if len(where) > 1:
            found[name].extend(where.values())
    return found


def test_no_constant_stands_twice() -> None:
    again = {name: where for name, where in repeated(ROOT / "pvhv").items() if name not in BY_ACCIDENT}
    assert not again, "\n".join(f"{name}: {', '.join(where)}" for name, where in sorted(again.items()))


def test_what_is_excused_is_there() -> None:
    assert sorted(BY_ACCIDENT) == sorted(name for name in repeated(ROOT / "pvhv") if name in BY_ACCIDENT)


def test_a_copy_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "CR0_TS, CR4_DE = 1 << 3, 8\nUD, GP = (n for n in (6, 13))\nE820_RAM: int = 1\nNX = 1\n"
    )
    (tmp_path / "b.py").write_text(
        "CR0_TS: Final = 0b1000\nA, GP = range(12, 14)\nE820_RAM = 1\nNX = PTE_NX\nCR4_DE = 9\n"
    )
    assert sorted(repeated(tmp_path)) == ["CR0_TS", "E820_RAM", "GP"]
