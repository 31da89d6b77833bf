# SPDX-License-Identifier: GPL-2.0-or-later
"""Images for tests: made by us or by qemu-img, changed at random beside a model of what they have to have."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pvhv.images.check import Findings, check
from pvhv.images.file import File
from pvhv.images.image import SECTOR_SIZE, Image
from pvhv.images.opening import open_image
from pvhv.images.plain import open_file
from pvhv.images.qcow2 import header
from pvhv.images.qcow2.make import Recipe, make

MIB = 1 << 20


def qemu(tool: str, *arguments: str | Path, fails: bool = False) -> str:
    """Run qemu-img or qemu-io, and return what it says."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (Debian: apt-get install qemu-utils)")
    done = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def qemu_finds_it_clean(path: Path) -> None:
    qemu("qemu-img", "check", "-f", "qcow2", path)


def qemu_reads(path: Path, expected: bytes) -> None:
    """qemu-img finds the image clean, and these bytes in it."""
    qemu_finds_it_clean(path)
    model = path.with_suffix(".model")
    model.write_bytes(expected)
    assert "identical" in qemu("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, model)


def qemu_counts(path: Path) -> dict[str, Any]:
    """What qemu-img check counts."""
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is not installed (Debian: apt-get install qemu-utils)")
    command = ["qemu-img", "check", "--output=json", "-f", "qcow2", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    counted: dict[str, Any] = json.loads(done.stdout)
    return {"status": done.returncode, **counted}


def make_image(path: Path, size: int, **more: Any) -> Path:
    """Make a qcow2 image of ours."""
    path.touch()
    make(File(open_file(path, True)), Recipe(size, **more)).close()
    return path


@contextmanager
def opened(path: Path, writable: bool = True, format_: str = "qcow2") -> Iterator[Image]:
    image = open_image(str(path), format_, writable)
    try:
        yield image
    finally:
        image.close()


def contents(path: Path, format_: str = "qcow2") -> bytes:
    """All that an image has, as we read it."""
    with opened(path, False, format_) as image:
        return image.read(0, image.sectors)


def look(path: Path) -> Findings:
    """Our check of an image."""
    file = File(open_file(path, False))
    try:
        return check(file, header.read(file, str(path)))
    finally:
        file.close()


class Model:
    """The bytes that a disk has to have, while `work` does to an image whatever comes to mind."""

    def __init__(self, size: int, seed: int, data: bytes = b"") -> None:
        self.data = bytearray(data.ljust(size, b"\0"))
        self.random = random.Random(seed)
        self.sectors = size // SECTOR_SIZE

    def place(self) -> tuple[int, int]:
        """Some sectors: first, count."""
        count = self.random.choice((1, 2, 7, 8, 60, 128, 700))
        first = self.random.randrange(self.sectors)
        return first, min(count, self.sectors - first)

    def work(self, image: Image, steps: int) -> None:
        for _ in range(steps):
            first, count = self.place()
            begin, end = first * SECTOR_SIZE, (first + count) * SECTOR_SIZE
            what = self.random.random()
            if what < 0.5:
                self.data[begin:end] = written = self.random.randbytes(end - begin)
                image.write(first, written)
            elif what < 0.85:
                assert image.read(first, count) == self.data[begin:end]
            elif what < 0.95:
                image.discard(first, count)
                self._discarded(begin, image.read(first, count))
            else:
                image.flush()

    def _discarded(self, begin: int, found: bytes) -> None:
        """Each sector has what it had, or zeros."""
        for at in range(0, len(found), SECTOR_SIZE):
            sector = found[at : at + SECTOR_SIZE]
            assert sector in (bytes(SECTOR_SIZE), self.data[begin + at : begin + at + SECTOR_SIZE])
        self.data[begin : begin + len(found)] = found
