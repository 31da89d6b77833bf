# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that somebody damaged on purpose: each is refused in words, or its guest gets I/O errors, or data.

Bytes and entries of headers and tables are changed at random. Whatever comes of it, nothing else is raised, the header
is only changed where we change headers, the file does not grow beyond reason, and it does not take long. PVHV_FUZZ_S
says how many seconds to go on."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from pvhv.images import facts
from pvhv.images.check import ALL, check
from pvhv.images.file import File
from pvhv.images.image import SECTOR_SIZE, BadImage, Image
from pvhv.images.opening import open_image
from pvhv.images.plain import open_file
from pvhv.images.qcow2 import header
from tests.images.lab import MIB, look, make_image, opened, qemu

SECONDS = float(os.environ.get("PVHV_FUZZ_S", "2"))
CHANGED_BY_US = {*range(48, 60), *range(72, 80), *range(88, 96)}  # the refcount table's place, features
SLOW_S, MOST_BYTES = 5.0, 16 * MIB


def originals(directory: Path) -> list[bytes]:
    """Images of all kinds."""
    made = []
    for cluster_size, version, refcount_bits in ((512, 3, 4), (4096, 2, 16), (65536, 3, 16)):
        path = make_image(
            directory / f"{cluster_size}", MIB, cluster_size=cluster_size, version=version, refcount_bits=refcount_bits
        )
        with opened(path) as image:
            image.write(0, b"abc!" * 12800)
            image.write(1000, b"zz" * 2048)
            image.discard(8, 128)
        made.append(path)
    kept, packed = directory / "kept", directory / "packed"
    qemu("qemu-img", "create", "-q", "-f", "qcow2", kept, "1M")
    qemu("qemu-io", "-c", "write -q 0 100k", kept)
    qemu("qemu-img", "snapshot", "-c", "x", kept)
    (directory / "text").write_bytes(b"text" * 100000)
    qemu("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", directory / "text", packed)
    return [path.read_bytes() for path in (*made, kept, packed)]


def damage(chance: random.Random, image: bytes) -> bytes:
    raw = bytearray(image)
    size = 1 << int.from_bytes(raw[20:24], "big")
    for _ in range(chance.choice((1, 1, 2, 4))):
        table = min(len(raw) - 8, chance.randrange(1, 8) * size + chance.randrange(min(size, 256)))
        at = chance.randrange(112) if chance.random() < 0.4 else table
        kind = chance.random()
        if kind < 0.4:
            raw[at] ^= 1 << chance.randrange(8)
        elif kind < 0.7:
            raw[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        else:
            place = chance.randrange(16) * size
            entry = chance.choice((place, place | 1 << 63, chance.getrandbits(64), 1 << 62 | chance.getrandbits(62)))
            raw[at & ~7 : (at & ~7) + 8] = entry.to_bytes(8, "big")
    return bytes(raw[: chance.randrange(len(raw))] if chance.random() < 0.1 else raw)


def use(chance: random.Random, image: Image, writes: bool) -> int:
    """Do what a guest would; return how many errors it got."""
    errors = 0
    for _ in range(12):
        first = chance.randrange(min(2048, image.sectors) or 1)
        count = min(chance.choice((1, 8, 64)), image.sectors - first)
        what = chance.random() if writes else 0
        try:
            if count <= 0:
                break
            if what < 0.3:
                assert len(image.read(first, count)) == count * SECTOR_SIZE
            elif what < 0.75:
                image.write(first, b"q" * SECTOR_SIZE * count)
            elif what < 0.9:
                image.discard(first, count)
            else:
                image.flush()
        except OSError:
            errors += 1
    return errors


def test_damaged_images(tmp_path: Path) -> None:
    images, path = originals(tmp_path), tmp_path / "it"
    seed = random.randrange(1 << 32) if "PVHV_FUZZ_S" in os.environ else 12
    chance, tried, refused, errors = random.Random(seed), 0, 0, 0
    began = time.monotonic()
    while time.monotonic() - began < SECONDS or tried < 100:
        tried += 1
        path.write_bytes(damage(chance, chance.choice(images)))
        then = time.monotonic()
        try:
            facts.facts(str(path))
        except BadImage:
            refused += 1
        for writable in (False, True):
            before = path.read_bytes()[:112]
            try:
                image = open_image(str(path), "qcow2", writable)
            except BadImage:
                continue
            try:
                errors += use(chance, image, writable)
            finally:
                try:
                    image.close()
                except OSError:
                    errors += 1
            assert os.stat(path).st_size < MOST_BYTES, (seed, tried)
            now = path.read_bytes()[:112]
            changed = {at for at, (old, new) in enumerate(zip(before, now, strict=True)) if old != new}
            assert changed <= (CHANGED_BY_US if writable else set()), (seed, tried, sorted(changed))
        _check_and_repair(path)
        assert time.monotonic() - then < SLOW_S, (seed, tried)
    assert refused > tried // 10 and errors > tried // 10


def _check_and_repair(path: Path) -> None:
    file = File(open_file(path, True))
    try:
        found = check(file, header.read(file, "it"), ALL)
        if not found.corruptions and not found.errors:
            with opened(path) as image:  # which may fail where packed data is damaged, and no check looks
                image.write(0, bytes(SECTOR_SIZE))
    except (BadImage, OSError):
        pass
    finally:
        file.close()


def test_what_we_find_qemu_finds(tmp_path: Path) -> None:
    """Where both can read the tables, the verdict is the same: right, leaks, or corrupt."""
    images, path = originals(tmp_path), tmp_path / "it"
    chance, compared = random.Random(77), 0
    for _ in range(80):
        path.write_bytes(damage(chance, chance.choice(images)))
        said = qemu_says(path)
        try:
            found = look(path)
        except (BadImage, OSError):
            continue
        if said is not None and not found.errors:
            assert found.status == said, found.messages
            compared += 1
    assert compared > 40


def qemu_says(path: Path) -> int | None:
    """The exit status of qemu-img check; None if it could not check."""
    done = subprocess.run(["qemu-img", "check", "-f", "qcow2", str(path)], capture_output=True)
    return done.returncode if done.returncode in (0, 2, 3) else None


def test_a_table_that_would_be_huge_is_refused(tmp_path: Path) -> None:
    """A small file can say that its tables are large. We take no memory for what is not there."""
    for at, data in ((36, b"\xff\xff\xff\xff"), (56, b"\xff\xff\xff\xff"), (60, b"\xff\xff\xff\xff"), (24, b"\x7f")):
        path = make_image(tmp_path / f"{at}", MIB)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(data)
            file.truncate(1 << 42)
        with pytest.raises(BadImage, match=r"is the most|too small|more than any disk"):
            open_image(str(path), "qcow2", False)
