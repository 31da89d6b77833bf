# SPDX-License-Identifier: GPL-2.0-or-later
"""Whoever ends us, whenever: what was flushed is there, and no table names what is not.

The writes of a session are recorded. Then the image is put together as it would be found: after a kill, by the first N
of them; after a power failure, by those up to the last sync before, and any of those that came later."""

from __future__ import annotations

import errno
import os
import random
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

import pytest

from pvhv.images.file import File
from pvhv.images.image import SECTOR_SIZE
from pvhv.images.opening import open_image
from pvhv.images.qcow2 import tables
from tests.images.lab import MIB, Model, contents, look, make_image, opened, qemu_reads

SYNC = -1


class Done(NamedTuple):
    """A write to the file, or a sync."""

    offset: int
    data: bytes = b""


class Session:
    """What was done to an image: writes to its file, and what a guest had asked for and was promised meanwhile."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.before = path.read_bytes()
        self.done: list[Done] = []
        self.promises: list[tuple[int, bytes]] = [(0, contents(path))]
        self.asked: list[tuple[int, int, bytes]] = []  # when, the first sector, what it was to have
        identity, write, sync = (path.stat().st_dev, path.stat().st_ino), File.write, File.sync

        def record_write(file: File, offset: int, *pieces: bytes) -> None:
            if file.identity == identity:
                self.done.append(Done(offset, b"".join(map(bytes, pieces))))
            write(file, offset, *pieces)

        def record_sync(file: File) -> None:
            sync(file)
            if file.identity == identity:
                self.done.append(Done(SYNC))

        monkeypatch.setattr(File, "write", record_write)
        monkeypatch.setattr(File, "sync", record_sync)
        monkeypatch.setattr(File, "punch", lambda *_: False)  # it only touches what nothing names

    def work(self, seed: int) -> None:
        chance = random.Random(seed)
        image = open_image(str(self.path), "qcow2", True)
        model = bytearray(self.promises[0][1])
        for _round in range(6):
            for _ in range(6):
                first, count = chance.randrange(image.sectors - 64), chance.choice((1, 8, 64))
                at = slice(first * SECTOR_SIZE, (first + count) * SECTOR_SIZE)
                when = len(self.done)
                if chance.random() < 0.75:
                    model[at] = data = chance.randbytes(count * SECTOR_SIZE)
                    image.write(first, data)
                else:
                    image.discard(first, count)
                    model[at] = image.read(first, count)
                self.asked.append((when, first, bytes(model[at])))
            image.flush()
            self.promises.append((len(self.done), bytes(model)))
        image.close()

    def find(self, done: list[Done]) -> None:
        """Put the image together by these writes."""
        image = bytearray(self.before)
        for offset, data in done:
            if offset != SYNC:
                image.extend(bytes(max(0, offset - len(image))))
                image[offset : offset + len(data)] = data
        self.path.write_bytes(image)

    def require_right(self, moment: int) -> None:
        """Each sector has what was promised last before this moment, or what was asked for since; and the tables are
        right, but for clusters that are counted for nothing."""
        found = look(self.path)
        assert not found.corruptions and not found.errors, found.messages
        there = contents(self.path)
        begin, promised = self.promises[bisect_right(self.promises, moment, key=lambda each: each[0]) - 1]
        differing = {
            at for at in range(0, len(there), SECTOR_SIZE)
            if there[at : at + SECTOR_SIZE] != promised[at : at + SECTOR_SIZE]
        }  # fmt: skip
        for when, first, data in self.asked:
            if begin <= when <= moment:
                for at in range(0, len(data), SECTOR_SIZE):
                    place = first * SECTOR_SIZE + at
                    if place in differing and there[place : place + SECTOR_SIZE] == data[at : at + SECTOR_SIZE]:
                        differing.discard(place)
        assert not differing


@pytest.fixture(params=[(512, 2), (4096, 3), (65536, 3)], ids=str)
def session(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    cluster_size, version = request.param
    if cluster_size == 512:
        monkeypatch.setattr(tables, "MOST_SLICES", 6)
    path = make_image(tmp_path / "it", MIB // 2, cluster_size=cluster_size, version=version)
    with opened(path) as image:
        image.write(100, b"before" * 256 * 20)
    made = Session(path, monkeypatch)
    made.work(cluster_size)
    return made


def test_killed_at_any_write(session: Session) -> None:
    for moment in range(0, len(session.done), max(1, len(session.done) // 80)):
        session.find(session.done[:moment])
        session.require_right(moment)


def test_the_power_fails_at_any_moment(session: Session) -> None:
    chance = random.Random(3)
    for moment in range(0, len(session.done), max(1, len(session.done) // 80)):
        last = max((at for at, each in enumerate(session.done[:moment]) if each.offset == SYNC), default=0)
        rest = [each for each in session.done[last:moment] if chance.random() < 0.5]
        session.find(session.done[:last] + rest)
        session.require_right(moment)


def test_a_recording_can_show_that_something_is_wrong(session: Session) -> None:
    """Were the syncs not waited for, what the power leaves behind would not do."""
    chance = random.Random(4)
    writes = [each for each in session.done if each.offset != SYNC]
    with pytest.raises(AssertionError):
        for _ in range(200):
            session.find([each for each in writes if chance.random() < 0.5])
            session.require_right(len(session.done))


@pytest.mark.parametrize("cluster_size", [512, 65536])
def test_a_write_that_fails_changes_nothing_else(
    tmp_path: Path, cluster_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fifth write or sync fails, of data and of tables. What the guest was told holds; in the end all is right."""
    path = make_image(tmp_path / "it", 4 * MIB, cluster_size=cluster_size)
    chance, failing = random.Random(9), False
    write, sync = File.write, File.sync

    def sometimes(file: File) -> None:
        if failing and chance.random() < 0.2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def failing_write(file: File, offset: int, *pieces: bytes) -> None:
        sometimes(file)
        write(file, offset, *pieces)

    def failing_sync(file: File) -> None:
        sometimes(file)
        sync(file)

    monkeypatch.setattr(File, "write", failing_write)
    monkeypatch.setattr(File, "sync", failing_sync)
    model, failures = Model(4 * MIB, 6), 0
    with opened(path) as image:
        for step in range(120):
            first, count = model.place()
            at = slice(first * SECTOR_SIZE, (first + count) * SECTOR_SIZE)
            data = chance.randbytes(count * SECTOR_SIZE)
            failing = True
            try:
                what = chance.random()
                if what < 0.8:
                    image.write(first, data)
                elif what < 0.9:
                    image.discard(first, count)
                else:
                    image.flush()
                    continue
            except OSError as error:
                assert error.errno == errno.ENOSPC
                failures += 1
            failing = False
            found = image.read(first, count)
            for sector in range(0, len(data), SECTOR_SIZE):
                part = slice(sector, sector + SECTOR_SIZE)
                assert found[part] in (data[part], model.data[at][part], bytes(SECTOR_SIZE))
            model.data[at] = found
            assert step % 10 or image.read(0, image.sectors) == model.data
        failing = False
        assert image.read(0, image.sectors) == model.data
    assert failures > 20
    assert look(path).is_clean
    qemu_reads(path, model.data)
