# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree's own products: the same bytes wherever they are built, and quickly there again after an edit."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

from pvhv.build import build_tree
from pvhv.build.pacer import SOURCE
from pvhv.build.progress import Progress

ROOT = Path(__file__).parents[2]


def processor_time() -> float:
    """What this process and those it waited for have computed, in seconds: the same on a busy host."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def build_copy(place: Path) -> dict[str, bytes]:
    shutil.copytree(ROOT / "guest_kernel", place / "guest_kernel")
    (place / SOURCE).parent.mkdir(parents=True)
    for piece in (ROOT / SOURCE).parent.glob("pacer*.[ch]"):
        shutil.copy(piece, (place / SOURCE).parent)
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


def test_after_an_edit_the_kernel_is_there_in_two_seconds(tmp_path: Path) -> None:
    build_copy(tmp_path)
    kernel = tmp_path / "out" / "kernels" / "guest-pv"
    for name in ("kernel/main.c", "user/bin/sh.c"):
        before = kernel.read_bytes()
        with (tmp_path / "guest_kernel" / name).open("a") as source:
            source.write("int added_by_a_test = 1;\n")
        started = processor_time()
        build_tree(tmp_path, tmp_path / "out", cache=tmp_path / "cache", progress=Progress("", io.StringIO()))
        assert processor_time() - started < 2
        assert kernel.read_bytes() != before
