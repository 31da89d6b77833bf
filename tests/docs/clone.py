# SPDX-License-Identifier: GPL-2.0-or-later
"""A clean clone of this tree, and a reader who types into it what the documents say.

The clone has the files that git knows of, or would, as they are now; nothing that is built or installed. It shares the
environment: `python`, `python3` and `pvhv` are those that run the tests, on the clone's code. What is compiled comes
from the cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>(?:(?!```).*\n)*)```$", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """What stands between two fences of a document, and below which heading."""

    language: str
    text: str
    heading: str


def blocks(document: str) -> list[Block]:
    """All of a document's, in order."""
    text = (ROOT / document).read_text("utf-8")
    headings = [(0, ""), *((found.start(), found[1]) for found in HEADING.finditer(BLOCK.sub(_blank, text)))]
    return [
        Block(found["language"], found["text"], [title for at, title in headings if at <= found.start()][-1])
        for found in BLOCK.finditer(text)
    ]


def _blank(found: re.Match[str]) -> str:
    return " " * len(found[0])


class Clone:
    """The clone, and the shell in it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "clone"
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.path / name)
        commands = directory / "bin"
        commands.mkdir()
        for name, arguments in (("python", ""), ("python3", ""), ("pvhv", " -m pvhv")):
            (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
            (commands / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join((str(commands), os.environ["PATH"])),
            "PYTHONPATH": str(self.path),
            "PVHV_PYTHON": sys.executable,
            "PVHV_RUNTIME_DIR": str(directory / "run"),
        }

    def run(self, commands: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Type commands, up to the first one that fails."""
        return subprocess.run(
            ["sh", "-ec", commands], cwd=self.path, env=self.environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=timeout,
        )  # fmt: skip

    def ok(self, commands: str) -> str:
        """Commands that have to succeed; what they printed."""
        done = self.run(commands)
        assert done.returncode == 0, f"{commands}{done.stdout}{done.stderr}"
        return done.stdout

    def change(self, diff: str) -> None:
        """Make a change, or the new file."""
        path, old, new = change(diff)
        file = self.path / path
        if not old:
            assert not file.exists(), f"{path} is there already"
            file.write_text(new, "utf-8")
            return
        text = file.read_text("utf-8")
        assert text.count(old) == 1, f"{path} has this {text.count(old)} times, and not once:\n{old}"
        file.write_text(text.replace(old, new), "utf-8")

    @contextmanager
    def changed(self, diff: str) -> Iterator[None]:
        """With a change made, until the end of the context."""
        file = self.path / change(diff)[0]
        text, times = file.read_text("utf-8"), file.stat()
        self.change(diff)
        try:
            yield
        finally:
            file.write_text(text, "utf-8")
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def change(diff: str) -> tuple[str, str, str]:
    """A file, what stands there, and what is to stand there: a diff of one place, without the numbers of lines.

    Of a new file, which is made from /dev/null, nothing stands there."""
    first, second, *lines = diff.splitlines()
    path = second.removeprefix("+++ b/")
    assert first in (f"--- a/{path}", "--- /dev/null") and second == f"+++ b/{path}", diff
    assert all(line[:1] in (" ", "-", "+") for line in lines) and any(line[:1] != " " for line in lines), diff
    assert (first == "--- /dev/null") == all(line[0] == "+" for line in lines), diff
    old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
    return path, old, "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
