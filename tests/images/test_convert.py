# SPDX-License-Identifier: GPL-2.0-or-later
"""Images made of others: the same bytes, no room for zeros, and all or nothing."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pvhv.images.convert import convert
from pvhv.images.file import File
from pvhv.images.image import BadImage
from tests.images.lab import MIB, contents, look, make_image, opened, qemu_reads


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A raw image: random bytes, zeros that take room, text, and a hole; its last cluster is not whole."""
    path = tmp_path / "source"
    path.write_bytes(random.Random(2).randbytes(MIB) + bytes(MIB) + b"text and text\n" * 70000)
    with path.open("r+b") as file:
        file.truncate(8 * MIB + 1536)
    return path


def converted(source: Path, target: Path, format_: str = "raw", compress: bool = False, **options: str) -> Path:
    shares: list[float] = []
    with opened(source, False, "raw" if source.name == "source" else "qcow2") as image:
        convert(image, str(target), format_, options, compress, shares.append)
    assert shares == sorted(shares) and shares[-1] <= 1
    return target


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"cluster_size": "512"}, {"cluster_size": "4k", "refcount_bits": "1"}, {"compat": "0.10"}], ids=str
)
def test_there_and_back(source: Path, tmp_path: Path, compress: bool, options: dict[str, str]) -> None:
    there = converted(source, tmp_path / "there", "qcow2", compress, **options)
    assert look(there).is_clean
    qemu_reads(there, source.read_bytes())
    back = converted(there, tmp_path / "back")
    assert back.read_bytes() == source.read_bytes()
    assert os.stat(back).st_blocks * 512 <= 3 * MIB
    if compress and "refcount_bits" not in options:  # with one bit, no cluster is shared by two packed ones
        assert os.stat(there).st_size < 1.7 * MIB


def test_backing_files_are_taken_in(source: Path, tmp_path: Path) -> None:
    base = converted(source, tmp_path / "base", "qcow2")
    above = make_image(tmp_path / "above", 10 * MIB, backing_file="base", backing_format="qcow2")
    with opened(above) as image:
        image.write(5, b"above" * 1024)
    whole = converted(above, tmp_path / "whole", "qcow2")
    base.unlink()
    expected = bytearray(source.read_bytes().ljust(10 * MIB, b"\0"))
    expected[5 * 512 : 5 * 512 + 5120] = b"above" * 1024
    assert contents(whole) == expected


def test_much_that_is_nothing_takes_no_time(tmp_path: Path) -> None:
    large = make_image(tmp_path / "large", 1 << 40)
    with opened(large) as image:
        image.write((1 << 40) // 512 - 8, b"z" * 512)
    raw = converted(large, tmp_path / "raw", "raw")
    assert raw.stat().st_size == 1 << 40 and raw.stat().st_blocks * 512 < MIB
    with opened(raw, False, "raw") as image:
        convert(image, str(tmp_path / "again"), "qcow2", {}, False, lambda _share: None)
    with opened(tmp_path / "again", False) as image:
        assert image.read((1 << 40) // 512 - 8, 1) == b"z" * 512


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_a_disk_that_becomes_full_has_nothing_of_it(
    source: Path, tmp_path: Path, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., None] = File.write
    left = 500_000

    def write(self: File, offset: int, *pieces: bytes) -> None:
        nonlocal left
        left -= sum(map(len, pieces))
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, offset, *pieces)

    monkeypatch.setattr(File, "write", write)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadImage, match="target: the disk is full"):
        converted(source, tmp_path / "target", format_)
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadImage, match="there is there already"):
        converted(source, tmp_path / "there", "qcow2")
    with pytest.raises(BadImage, match="'vmdk' is not here"):
        converted(source, tmp_path / "new", "vmdk")
    with pytest.raises(BadImage, match="is not compressed"):
        converted(source, tmp_path / "new", "raw", True)
    with pytest.raises(BadImage, match="cluster_size is a power of two"):
        converted(source, tmp_path / "new", "qcow2", cluster_size="5000")
    with pytest.raises(BadImage, match="No such file"):
        converted(source, tmp_path / "no" / "new", "qcow2")
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "there").read_text() == "precious"
