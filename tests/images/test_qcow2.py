# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2 images: what we write QEMU reads and finds clean, and what QEMU writes we read."""

from __future__ import annotations

import errno
import os
import random
import struct
from pathlib import Path

import pytest

from pvhv.images.image import SECTOR_SIZE, BadImage
from pvhv.images.opening import open_image
from pvhv.images.qcow2 import tables
from pvhv.images.qcow2.disk import Qcow2Image
from tests.images.lab import (
    MIB,
    Model,
    contents,
    look,
    make_image,
    opened,
    qemu,
    qemu_counts,
    qemu_finds_it_clean,
    qemu_reads,
)

SHAPES = [  # cluster size, refcount bits, version
    (512, 16, 2), (512, 1, 3), (1024, 64, 3), (4096, 2, 3), (4096, 4, 3), (65536, 16, 3), (65536, 16, 2),
    (65536, 8, 3), (2 * MIB, 32, 3),
]  # fmt: skip


@pytest.mark.parametrize(("cluster_size", "refcount_bits", "version"), SHAPES)
def test_anything_done_to_ours(tmp_path: Path, cluster_size: int, refcount_bits: int, version: int) -> None:
    size = 3 * MIB + 7 * SECTOR_SIZE
    path = make_image(
        tmp_path / "it", size, cluster_size=cluster_size, refcount_bits=refcount_bits, version=version
    )
    qemu_finds_it_clean(path)
    model = Model(size, cluster_size + refcount_bits)
    for _life in range(3):
        with opened(path) as image:
            model.work(image, 40)
            assert image.read(0, image.sectors) == model.data
    assert contents(path) == model.data
    assert look(path).is_clean
    qemu_reads(path, model.data)


@pytest.mark.parametrize(("cluster_size", "refcount_bits", "version"), SHAPES[1::2])
def test_anything_done_to_qemu_s(tmp_path: Path, cluster_size: int, refcount_bits: int, version: int) -> None:
    """Made by qemu-img of random bytes, half of them compressed, above a backing file; with snapshots before and after
    our writes, which keep what they had."""
    size, path, base = 2 * MIB, tmp_path / "it", tmp_path / "base"
    random_bytes = random.Random(cluster_size).randbytes
    below = b"".join(random_bytes(1) * 8192 if n % 2 else random_bytes(8192) for n in range(256))
    (tmp_path / "raw").write_bytes(below)
    options = f"cluster_size={cluster_size},compat={'0.10' if version == 2 else '1.1'}"
    more = f",refcount_bits={refcount_bits}" if version == 3 else ""
    convert = ("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options + more)
    qemu("qemu-img", *convert, tmp_path / "raw", base)
    assert contents(base) == below
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", "-o", options + more, path)
    qemu("qemu-io", "-c", "write -q -P 1 100k 200k", "-c", "write -q -z 400k 200k", path)
    if version == 3 and refcount_bits > 2:
        qemu("qemu-img", "snapshot", "-c", "before", path)
    expected = bytearray(below)
    expected[100 << 10 : 300 << 10] = b"\1" * (200 << 10)
    expected[400 << 10 : 600 << 10] = bytes(200 << 10)
    assert contents(path) == expected
    before = bytes(expected)
    model = Model(size, 5, before)
    with opened(path) as image:
        model.work(image, 60)
    qemu_reads(path, model.data)
    if version == 3 and refcount_bits > 2:
        qemu("qemu-img", "snapshot", "-c", "after", path)
        with opened(path) as image:
            image.write(0, bytes(size))
        qemu_reads(path, bytes(size))
        for name, had in (("before", before), ("after", model.data)):
            qemu("qemu-img", "snapshot", "-a", name, path)
            qemu_reads(path, had)
            assert contents(path) == had
        qemu("qemu-img", "snapshot", "-d", "before", path)
        qemu_reads(path, model.data)


@pytest.mark.parametrize(
    "options",
    ["preallocation=metadata", "preallocation=falloc,lazy_refcounts=on", "preallocation=metadata,compat=0.10",
     "preallocation=metadata,cluster_size=2M"],
)
def test_images_that_have_all_their_clusters_from_the_beginning(tmp_path: Path, options: str) -> None:
    path, model = tmp_path / "it", Model(4 * MIB, 3)
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "4M")
    with opened(path) as image:
        model.work(image, 40)
    qemu_reads(path, model.data)


def test_what_is_not_here_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "it"
    for options, why in (("extended_l2=on", "subclusters"), (f"data_file={path}.data", "an external data file")):
        qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "4M")
        with pytest.raises(BadImage, match=why):
            open_image(str(path), "qcow2", False)
    qemu("qemu-img", "create", "-q", "-f", "qcow2", path, "4M")
    qemu("qemu-img", "bitmap", "--add", path, "kept")
    with pytest.raises(BadImage, match="persistent bitmaps, which a write would make wrong"):
        open_image(str(path), "qcow2", True)
    assert contents(path) == bytes(4 * MIB)
    with path.open("r+b") as file:
        file.seek(35)
        file.write(b"\2")  # what LUKS has there; to make such an image takes seconds
    with pytest.raises(BadImage, match="it is encrypted"):
        open_image(str(path), "qcow2", False)


@pytest.mark.parametrize("method", ["zlib", "zstd"])
def test_what_is_compressed_is_read_and_written_over(tmp_path: Path, method: str) -> None:
    data = b"".join(bytes([n]) * 1000 for n in range(256)) * 8
    data = data.ljust(2 * MIB, b"\0")
    (tmp_path / "raw").write_bytes(data)
    path = tmp_path / "it"
    qemu("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", f"compression_type={method}",
         tmp_path / "raw", path)  # fmt: skip
    assert contents(path) == data
    with opened(path) as image:
        image.write(3, b"x" * SECTOR_SIZE)
        assert image.read(0, 8) == data[: 3 * SECTOR_SIZE] + b"x" * SECTOR_SIZE + data[4 * SECTOR_SIZE : 4096]
    qemu_reads(path, data[: 3 * SECTOR_SIZE] + b"x" * SECTOR_SIZE + data[4 * SECTOR_SIZE :])


def test_a_large_disk_costs_its_tables(tmp_path: Path) -> None:
    path = make_image(tmp_path / "it", 100 << 30)
    assert os.stat(path).st_blocks * 512 <= 4 * 65536
    with opened(path) as image:
        image.write((100 << 30) // SECTOR_SIZE - 1, b"e" * SECTOR_SIZE)
        image.discard(0, (50 << 30) // SECTOR_SIZE)
        image.flush()
        assert image.read((99 << 30) // SECTOR_SIZE, 8) == bytes(4096)
    assert os.stat(path).st_blocks * 512 <= 6 * 65536
    qemu_finds_it_clean(path)


def test_what_is_discarded_goes_back_to_the_host(tmp_path: Path) -> None:
    path = make_image(tmp_path / "it", 32 * MIB)
    with opened(path) as image:
        image.write(0, b"x" * (16 * MIB))
        image.flush()
        full = os.stat(path).st_blocks
        image.discard(0, 16 * MIB // SECTOR_SIZE)
        image.flush()
        assert os.stat(path).st_blocks < full // 8
        length = os.stat(path).st_size
        image.write(16 * MIB // SECTOR_SIZE, b"y" * (8 * MIB))
        assert os.stat(path).st_size == length  # what was freed is used again
    qemu_reads(path, bytes(16 * MIB) + b"y" * (8 * MIB) + bytes(8 * MIB))


def test_more_tables_than_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With clusters of 512 bytes a disk has many tables, of which we keep four; and the refcount table grows."""
    monkeypatch.setattr(tables, "MOST_SLICES", 4)
    size = 8 * MIB
    path = make_image(tmp_path / "it", size, cluster_size=512)
    model = Model(size, 1)
    with opened(path) as image:
        assert isinstance(image, Qcow2Image)
        table = image.header.refcount_table
        model.work(image, 150)
        image.write(0, model.data)
        assert image.header.refcount_table != table
        assert len(image.mapping.cache._slices) <= 4
    qemu_reads(path, model.data)


def test_what_waits_to_be_free_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that discards and writes, and never flushes."""
    monkeypatch.setattr("pvhv.images.qcow2.discarding.MOST_DROPPED", 10)
    path = make_image(tmp_path / "it", MIB, cluster_size=512)
    with opened(path) as image:
        assert isinstance(image, Qcow2Image)
        for number in range(100):
            image.write(20 * number, b"x" * 512)
            image.discard(20 * number, 1)
            assert len(image._dropped) <= 11
        assert os.stat(path).st_size < 60 * 512  # what was freed is used again
    qemu_reads(path, bytes(MIB))


def test_few_calls_for_much_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands side by side in the file is read, and written, in one go."""
    path = make_image(tmp_path / "it", 64 * MIB)
    calls: list[str] = []
    for name in ("pread", "pwritev"):
        original = getattr(os, name)
        monkeypatch.setattr(
            f"pvhv.images.file._{name.removesuffix('v')}",
            lambda *a, _name=name, _original=original: (calls.append(_name), _original(*a))[1],
        )
    with opened(path) as image:
        image.write(0, b"a" * (8 * MIB))  # the tables for it
        calls.clear()
        image.write(8 * MIB // SECTOR_SIZE, b"b" * MIB)
        image.write(0, b"c" * MIB)
        assert image.read(8 * MIB // SECTOR_SIZE, MIB // SECTOR_SIZE) == b"b" * MIB
        assert calls == ["pwritev", "pwritev", "pread"]


def test_a_cluster_that_a_table_lies_in_is_not_written(tmp_path: Path) -> None:
    """An entry that names a table as data would have us write over it. The image is marked as corrupt in its place, and
    what was written before is there."""
    path = make_image(tmp_path / "it", MIB)
    with opened(path) as image:
        image.write(0, b"good" * 128)
        image.write(256, b"gone" * 128)
        assert isinstance(image, Qcow2Image)
        table = image.mapping.l1[0] & 0xFFFFFFFFFE00
    with path.open("r+b") as file:
        file.seek(table + 2 * 8)
        file.write(struct.pack(">Q", 1 << 63 | table))  # the third cluster of the disk is this very table
    saved = path.read_bytes()[table : table + 65536]
    with opened(path) as image:
        image.write(8, b"more" * 128)
        with pytest.raises(OSError, match="another table lies in a cluster with data") as caught:
            image.write(256, b"evil" * 128)
        assert caught.value.errno == errno.EIO
        with pytest.raises(OSError, match="nothing is written to it"):
            image.write(0, b"x" * 512)
        assert image.read(0, 1) == b"good" * 128
        image.flush()
    assert path.read_bytes()[table : table + 65536] == saved
    with pytest.raises(BadImage, match="marked as corrupt"):
        open_image(str(path), "qcow2", True)
    assert contents(path)[4096:4608] == b"more" * 128
    assert "corrupt: true" in qemu("qemu-img", "info", path)


def test_a_disk_that_was_cut_short(tmp_path: Path) -> None:
    path = make_image(tmp_path / "it", MIB)
    with opened(path) as image:
        image.write(0, b"x" * MIB)
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(os.stat(path).st_size - 100_000)
    with opened(path) as image:
        assert image.read(0, 1024) == b"x" * (512 << 10)
        with pytest.raises(OSError, match="cut short"):
            image.read(0, 2048)
        with pytest.raises(OSError, match="beyond the end"):
            image.write(2040, b"x" * 512)
    for length, why in ((196_612, "cut short"), (100, "cut short"), (3, "not a qcow2 image"), (0, "not a qcow2")):
        path.write_bytes(whole[:length])
        with pytest.raises(BadImage, match=why):
            open_image(str(path), "qcow2", True)


def test_what_was_not_closed_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With lazy refcounts QEMU leaves them wrong, and says so in the header."""
    path = tmp_path / "it"
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, "4M")
    qemu("qemu-io", "-c", "write -q -P 7 1M 1M", "-c", "abort", path, fails=True)
    assert look(path).status == 2
    assert contents(path)[MIB : 2 * MIB] == b"\7" * MIB  # to read it, they are not needed
    monkeypatch.setattr("pvhv.images.opening.LARGEST_REPAIRED", 100_000)
    with pytest.raises(BadImage, match=r"have to be repaired, which takes long") as caught:
        open_image(str(path), "qcow2", True)
    assert caught.value.hint == f"pvhv image check --repair all {path}"
    monkeypatch.undo()
    with opened(path) as image:
        image.write(0, b"z" * 512)
    assert qemu_counts(path)["status"] == 0
    assert contents(path)[MIB : 2 * MIB] == b"\7" * MIB
