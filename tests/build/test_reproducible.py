# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree's own products, built twice in two places with nothing shared, are the same bytes."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from pvhv.build import build_tree
from pvhv.build.pacer import SOURCE
from pvhv.build.progress import Progress

ROOT = Path(__file__).parents[2]


def build_copy(place: Path) -> dict[str, bytes]:
    shutil.copytree(ROOT / "guest_kernel", place / "guest_kernel")
    (place / SOURCE).parent.mkdir(parents=True)
    shutil.copy(ROOT / SOURCE, place / SOURCE)
    out = place / "out"
    stream = io.StringIO()
    build_tree(place, out, cache=place / "cache", progress=Progress("", stream))
    assert " 0 files compiled" not in stream.getvalue()
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_two_builds_in_two_places_are_the_same_bytes(tmp_path: Path) -> None:
    first = build_copy(tmp_path / "a")
    second = build_copy(tmp_path / "a-longer-name" / "further" / "down")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert "kernels/test-hello" in first
    assert [name for name, image in first.items() if str(tmp_path).encode() in image] == []
