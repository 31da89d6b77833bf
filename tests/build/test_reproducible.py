# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree's own products: the same bytes wherever they are built, and quickly there again after an edit."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest

from pvhv.build import build_tree
from pvhv.build.pacer import SOURCE
from pvhv.build.progress import Progress

ROOT = Path(__file__).parents[2]


def processor_time() -> float:
    """What this process and those it waited for have computed, in seconds: the same on a busy host."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources at another place than the tree's, with a longer name, and what was built there."""
    place = tmp_path_factory.mktemp("elsewhere") / "a-longer-name" / "further" / "down"
    shutil.copytree(ROOT / "guest_kernel", place / "guest_kernel")
    (place / SOURCE).parent.mkdir(parents=True)
    for piece in (ROOT / SOURCE).parent.glob("pacer*.[ch]"):
        shutil.copy(piece, (place / SOURCE).parent)
    stream = io.StringIO()
    build_tree(place, place / "out", cache=place / "cache", progress=Progress("", stream))
    assert " 0 files compiled" not in stream.getvalue()
    return place


def products(place: Path) -> dict[str, bytes]:
    files = {p.relative_to(place).as_posix(): p for p in place.rglob("*") if p.is_file()}
    del files["stamp.json"]  # of what it was built from; the tree builds an engine as well
    return {name: path.read_bytes() for name, path in files.items()}


def test_two_builds_in_two_places_are_the_same_bytes(copy: Path) -> None:
    here, there = products(ROOT / "pvhv" / "_built"), products(copy / "out")
    assert {name for name in here if name.startswith("kernels/")} <= there.keys() <= here.keys()
    assert [name for name in there if here[name] != there[name]] == []
    assert "kernels/test-hello" in there
    assert [name for name, image in there.items() if str(copy).encode() in image or str(ROOT).encode() in image] == []


def test_after_an_edit_the_kernel_is_there_in_two_seconds(copy: Path) -> None:
    kernel = copy / "out" / "kernels" / "guest-pv"
    for name in ("kernel/main.c", "user/bin/sh.c"):
        before = kernel.read_bytes()
        with (copy / "guest_kernel" / name).open("a") as source:
            source.write("int added_by_a_test = 1;\n")
        started = processor_time()
        build_tree(copy, copy / "out", cache=copy / "cache", progress=Progress("", io.StringIO()))
        assert processor_time() - started < 2
        assert kernel.read_bytes() != before
