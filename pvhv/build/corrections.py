# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's source with our corrections in it.

A correction is a TOML file in `pvhv/machine/corrections/`: what is wrong, why it matters, who else knows of it, which
test tells, and edits of the published source:

    what     = "LOCK on an instruction that cannot take it is #UD"
    why      = "..."
    upstream = ["https://..."]                 # may be left out
    test     = "tests/engine/test_containment.py"

    [[edit]]
    file    = "qemu/target/i386/translate.c"
    below   = "static void gen_ins("           # may be left out: the search begins behind this
    find    = "gen_op_movl_T0_0(s);"           # where
    replace = "..."                            # or `before` or `after`: what is put there

Anchors are sought in the source *as it was published*, not in what another correction made of it. So the order of
the files does not matter, and two corrections of one place are an error. An anchor must be there
exactly once (with `below`: exactly once behind that one, up to the next line that begins a function, or the end).

A `.c` or `.h` file beside them becomes part of the engine as it is.

This module does not know what the corrections are about. Read beside it: docs/engine.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pvhv.build.zig import BuildError

_ACTIONS = ("replace", "before", "after")
_KEYS = {"what", "why", "upstream", "test", "edit"}


@dataclass(frozen=True)
class Edit:
    """One change: `text` stands for [start, end) of the published file."""

    file: str
    start: int
    end: int
    text: str
    origin: str  # for messages


@dataclass(frozen=True)
class Correction:
    """A correction: what its file says, without the edits."""

    name: str
    what: str
    why: str
    upstream: tuple[str, ...]
    test: str
    edits: tuple[Mapping[str, str], ...]


def read_corrections(directory: Path) -> list[Correction]:
    """All corrections of a directory, in the order of their names. Raises BuildError."""
    return [_read(path) for path in sorted(directory.glob("*.toml"))]


def apply(corrections: Iterable[Correction], source: Mapping[str, str]) -> dict[str, str]:
    """The files of `source` that corrections change, with the changes. Raises BuildError."""
    edits: dict[str, list[Edit]] = {}
    for correction in corrections:
        for description in correction.edits:
            edit = _locate(correction.name, description, source)
            edits.setdefault(edit.file, []).append(edit)
    return {file: _rewrite(source[file], some) for file, some in edits.items()}


def _read(path: Path) -> Correction:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BuildError(f"correction {path.name}: {error}") from error
    if unknown := set(table) - _KEYS:
        raise BuildError(f"correction {path.name}: unknown key '{min(unknown)}'; known: {', '.join(sorted(_KEYS))}")
    for key in ("what", "why", "test", "edit"):
        if not table.get(key):
            raise BuildError(f"correction {path.name}: needs '{key}'")
    return Correction(
        path.stem, table["what"], table["why"], tuple(table.get("upstream", ())), table["test"], tuple(table["edit"])
    )


def _locate(name: str, edit: Mapping[str, str], source: Mapping[str, str]) -> Edit:
    """The edit with its place in the published file. Raises BuildError."""
    actions = [key for key in _ACTIONS if key in edit]
    if set(edit) - {"file", "find", "below", *_ACTIONS} or len(actions) != 1 or not {"file", "find"} <= set(edit):
        raise BuildError(
            f"correction {name}: an edit has 'file', 'find', one of {', '.join(_ACTIONS)}, and perhaps 'below'"
        )
    file, find, (action,) = edit["file"], edit["find"], actions
    text = source.get(file)
    if text is None:
        raise BuildError(f"correction {name}: the engine's source has no file {file}")
    start, end = 0, len(text)
    if "below" in edit:
        start = _only(name, file, text, edit["below"], 0, end) + len(edit["below"])
        closing = text.find("\n}\n", start)  # of the function that begins there
        end = closing + 1 if closing >= 0 else end
    at = _only(name, file, text, find, start, end)
    origin = f"correction {name}: {file}: '{_short(find)}'"
    if action == "replace":
        return Edit(file, at, at + len(find), edit[action], origin)
    at += len(find) if action == "after" else 0
    return Edit(file, at, at, edit[action], origin)


def _only(name: str, file: str, text: str, pattern: str, start: int, end: int) -> int:
    """Where the pattern is in the text. Raises BuildError unless it is there exactly once."""
    found = text.count(pattern, start, end)
    if found != 1:
        times = "not there" if not found else f"there {found} times"
        raise BuildError(
            f"correction {name}: '{_short(pattern)}' is {times} in {file}; "
            "the source is of another version than the correction was written for"
        )
    return text.index(pattern, start, end)


def _rewrite(text: str, edits: list[Edit]) -> str:
    parts: list[str] = []
    last: Edit | None = None
    for edit in sorted(edits, key=lambda e: (e.start, e.end)):
        if last is not None and edit.start < last.end:
            raise BuildError(f"{edit.origin} overlaps with {last.origin}")
        parts += [text[last.end if last else 0 : edit.start], edit.text]
        last = edit
    return "".join([*parts, text[last.end if last else 0 :]])


def _short(pattern: str) -> str:
    line = pattern.strip().splitlines()[0] if pattern.strip() else pattern
    return line if len(line) <= 60 else line[:57] + "..."
