# SPDX-License-Identifier: GPL-2.0-or-later
"""Console logs: every byte, bounded in size, and a disk that takes nothing is said once and stops nobody."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvhv.testing import Machine
from pvhv.toolstack import console_log
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.console_log import ConsoleLogs, Log, Settings
from pvhv.toolstack.guest import prepare
from tests.toolstack.flood import flood, said
from tests.toolstack.recipes import Recipe


@pytest.fixture
def warnings() -> list[str]:
    return []


def test_bytes_as_they_come_behind_those_that_are_there(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "new" / "guest-one.log"
    for data in (b"first\r\n\0\xff", b"second"):
        log = Log(path, False, warnings.append)
        log.write(data)
        log.close()
    assert path.read_bytes() == b"first\r\n\0\xffsecond"
    assert warnings == []


def test_it_does_not_grow_for_ever(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "guest-one.log"
    log = Log(path, False, warnings.append, largest=1000)
    for number in range(25):
        log.write(bytes([number]) * 100)
    assert sorted(os.listdir(tmp_path)) == ["guest-one.log", "guest-one.log.1"]
    kept = (tmp_path / "guest-one.log.1").read_bytes() + path.read_bytes()
    assert kept == b"".join(bytes([number]) * 100 for number in range(10, 25))


def test_time_stamps(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "guest-one.log"
    log = Log(path, True, warnings.append)
    for piece in (b"one\r\ntw", b"o\n\rthree", b"\n", b"\rfour\n"):
        log.write(piece)
    lines = path.read_bytes().split(b"\n")
    stamp = rb"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] "
    for line, text in zip(lines, (rb"one\r", rb"two", rb"three", rb"\rfour"), strict=False):
        assert re.fullmatch(stamp + text, line)
    assert lines[4:] == [b""]


def test_a_full_disk_is_said_once_and_what_is_missing_where_it_would_stand(
    tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    room, write = 5, os.write

    def full(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(descriptor, data[:room])
        room -= taken
        return taken

    monkeypatch.setattr(console_log.os, "write", full)
    path = tmp_path / "guest-one.log"
    log = Log(path, False, warnings.append)
    log.write(b"0123456789")
    log.write(b"abc")
    assert len(warnings) == 1 and "No space left on device; the console goes on without it" in warnings[0]
    room = 1000
    log.write(b"again")
    assert path.read_bytes() == b"01234\r\n[pvhv: 8 bytes of console output left out]\r\nagain"
    assert len(warnings) == 2 and "can be written again; it lacks 8 bytes" in warnings[1]


def test_a_directory_that_cannot_be_is_said_once(tmp_path: Path, warnings: list[str]) -> None:
    (tmp_path / "file").write_text("")
    log = Log(tmp_path / "file" / "guest-one.log", False, warnings.append)
    for _time in range(3):
        log.write(b"x")
    assert len(warnings) == 1 and "cannot write the console log" in warnings[0]


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as made:
        yield made


def run_one(machine: Machine, tmp_path: Path, words: int) -> None:
    """A guest that says much without being asked, to its end and beyond."""
    kernel = tmp_path / "flood.elf"
    kernel.write_bytes(Recipe(code=flood(words, waits=False)).build())
    config = DomainConfig(name="flood", kernel=kernel, memory=8, on_poweroff="destroy")
    guest = machine.host.create(prepare(config))
    assert machine.run(guest, timeout=120)
    assert machine.hypervisor.run_until(lambda: not machine.host.guests, 60)


def test_every_byte_of_a_flood(machine: Machine, tmp_path: Path, warnings: list[str]) -> None:
    logs = ConsoleLogs(machine.host, tmp_path, warnings.append)
    run_one(machine, tmp_path, 700_000)
    logs.stop()
    assert (tmp_path / "console" / "guest-flood.log").read_bytes() == said(700_000)
    assert warnings == [] and not logs._followed


def test_a_disk_that_hangs_keeps_the_guest_only_so_long(
    machine: Machine, tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on, write = threading.Event(), threading.Event(), os.write

    def hung(descriptor: int, data: bytes) -> int:
        hangs.set()
        goes_on.wait()
        return write(descriptor, data)

    monkeypatch.setattr(console_log, "PATIENCE_S", 0.2)
    monkeypatch.setattr(console_log.os, "write", hung)
    logs = ConsoleLogs(machine.host, tmp_path, warnings.append)
    run_one(machine, tmp_path, 700_000)
    assert hangs.is_set()
    goes_on.set()
    logs.stop()
    written = (tmp_path / "console" / "guest-flood.log").read_bytes()
    assert b"bytes of console output left out" in written and written.endswith(said(700_000)[-1000:])


def test_settings_are_kept_and_nothing_is_logged_where_nothing_shall_be(
    machine: Machine, tmp_path: Path, warnings: list[str]
) -> None:
    logs = ConsoleLogs(machine.host, tmp_path, warnings.append)
    assert logs.settings == Settings("guest", False, "")
    logs.change(Settings("none", True, str(tmp_path / "else")))
    run_one(machine, tmp_path, 100)
    logs.stop()
    again = ConsoleLogs(machine.host, tmp_path, warnings.append)
    assert again.settings == Settings("none", True, str(tmp_path / "else"))
    again.change(Settings("guest", False, str(tmp_path / "else")))
    run_one(machine, tmp_path, 100)
    again.stop()
    assert (tmp_path / "else" / "guest-flood.log").read_bytes() == said(100)
    assert not (tmp_path / "console").exists()
    (tmp_path / "console-log.json").write_text("[]")
    spoilt = ConsoleLogs(machine.host, tmp_path, warnings.append)
    assert spoilt.settings == Settings()
    spoilt.stop()
