# SPDX-License-Identifier: GPL-2.0-or-later
"""The portable half of the teaching kernel is read file by file: no two of them need each other."""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.circles import circles

KERNEL = Path(__file__).resolve().parents[2] / "guest_kernel" / "kernel"
# At the beginning of a line: what is defined there, if it is not static.
FUNCTION = re.compile(r"^(?!static|typedef)[a-z][\w *]*?\*?\b(\w+)\([^;{]*\)\n\{", re.MULTILINE)
VARIABLE = re.compile(r"^(?!static|typedef|extern)[a-z][\w ]*[ *](\w+)(?:\[\w+\])*(?: = [^;]+)?;", re.MULTILINE)
NOT_CODE = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\])*"|^#include [^\n]*', re.DOTALL | re.MULTILINE)


def uses(text: str, names: set[str]) -> bool:
    return bool(names) and re.search(rf"(?<![.>])(?<!struct )\b({'|'.join(names)})\b", text) is not None


def test_there_are_no_circles() -> None:
    texts = {path.name: NOT_CODE.sub(" ", path.read_text()) for path in KERNEL.glob("*.c")}
    defined = {name: {*FUNCTION.findall(text), *VARIABLE.findall(text)} for name, text in texts.items()}
    assert "panic" in defined["panic.c"] and defined["current.c"] == {"processes", "current"}
    arrows = {
        name: {other for other in texts if other != name and uses(text, defined[other])}
        for name, text in texts.items()
    }  # fmt: skip
    assert arrows["file.c"] >= {"path.c", "panic.c"}
    assert circles(arrows) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set()}) == [["a", "b", "c"]]
