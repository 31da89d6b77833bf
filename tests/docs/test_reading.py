# SPDX-License-Identifier: GPL-2.0-or-later
"""The journey can be made: in a clean clone every command works, and every change breaks what the chapter says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.clone import ROOT, Block, Clone, blocks, change

READING = "docs/reading.md"
CHAPTERS = 8
AFTERNOON = range(6000, 7500)  # lines
LONGEST = 15  # lines of a quoted trace


def broken() -> Iterator[tuple[Block, Block]]:
    """Each change, and the commands right behind it."""
    found = blocks(READING)
    yield from ((diff, test) for diff, test in pairwise(found) if diff.language == "diff")


BREAKS = list(broken())


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("reading"))


def test_the_page_says_what_is(clone: Clone) -> None:
    """What its commands print, and how long the files are: in a clone that has nothing but what git knows."""
    clone.ok("python3 tools/dev.py build")
    clone.ok("python tools/gen_reading.py --check")


def test_every_chapter_has_all_its_parts() -> None:
    text = (ROOT / READING).read_text("utf-8")
    chapters = re.split(r"^## ", text, flags=re.MULTILINE)
    chapters = [chapter for chapter in chapters if re.match(r"\d\. ", chapter)]
    assert len(chapters) == CHAPTERS
    for chapter in chapters:
        for part in ("| **together** |", "**One thing happening.**", "**Real Xen, and lguest.**", "**Now break it.**"):
            assert chapter.count(part) == 1, f"{part} in {chapter.splitlines()[0]}"
    named = re.findall(r"^\| \[`[^`]+`\]\(\.\./([^)]+)\) \| \d+ \|", text, re.MULTILINE)
    assert len(named) == len(set(named)) and len(named) > 30
    lines = re.search(r"<!-- lines -->([\d ]+)<!-- end -->", text)
    assert lines is not None and int(lines[1].replace(" ", "")) in AFTERNOON
    readme = re.search(r"eight chapters and some ([\d ]+) lines", (ROOT / "README.md").read_text("utf-8"))
    said = int(readme[1].replace(" ", "")) if readme else 0
    assert abs(said - int(lines[1].replace(" ", ""))) <= 150, "the README says how long it is"
    assert all(block.text.count("\n") <= LONGEST for block in blocks(READING) if block.language == "text")


def test_what_to_look_for_is_there() -> None:
    """Names in a table's last column are in the file that its row is about."""
    text = (ROOT / READING).read_text("utf-8")
    missing = [
        f"{path}: {name}"
        for path, looked_for in re.findall(r"^\| \[`[^`]+`\]\(\.\./([^)]+)\) \| \d+ \| (.*) \|$", text, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", looked_for)
        if not re.search(rf"\b{re.escape(name)}\b", (ROOT / path).read_text("utf-8"))
    ]
    assert missing == []


def test_every_command_is_run_by_one_of_these_tests() -> None:
    found = blocks(READING)
    for block, following in zip(found, [*found[1:], Block("", "", "")], strict=True):
        assert block.language in ("sh", "text", "diff"), block
        if block.language == "sh" and following.language != "text":
            assert block in [test for _, test in BREAKS]
    assert [diff.heading for diff, _ in BREAKS] == sorted({diff.heading for diff, _ in BREAKS})
    assert len(BREAKS) == CHAPTERS


@pytest.mark.parametrize(("diff", "test"), BREAKS, ids=[Path(change(diff.text)[0]).stem for diff, _ in BREAKS])
def test_what_is_broken_is_noticed(clone: Clone, diff: Block, test: Block) -> None:
    """By the named test, which fails: it does not merely not run."""
    with clone.changed(diff.text):
        done = clone.run(test.text)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"\b\d+ failed\b", done.stdout.splitlines()[-1]), done.stdout


def test_a_change_that_does_not_fit_is_told(clone: Clone) -> None:
    diff = "--- a/README.md\n+++ b/README.md\n-there is no such line\n+at all\n"
    with pytest.raises(AssertionError, match=r"README\.md has this 0 times"), clone.changed(diff):
        pass
