# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of domains' disks: how they are opened, and who may have one that another has."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from pvhv.devices.block.disk import Disk
from pvhv.testing import Machine
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.disk_spec import DiskConfig
from pvhv.toolstack.disks import open_all
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import Guest


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as made:
        yield made


@pytest.fixture
def image(tmp_path: Path) -> Path:
    made = tmp_path / "image"
    made.write_bytes(bytes(4096))
    return made


def guest(machine: Machine, name: str, image: Path, access: str = "rw") -> Guest:
    return machine.create("test-hello", name=name, disks=[f"{image},raw,xvda,{access}"], paused=True)


def why(*disks: DiskConfig) -> str:
    with pytest.raises(ToolstackError) as caught:
        open_all(disks)
    return caught.value.message


def test_files_that_are_no_disk(tmp_path: Path, image: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(511))
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    good = DiskConfig(str(image), "xvda", "rw")
    assert "is shorter than a sector" in why(good, DiskConfig(str(tmp_path / "short"), "xvdb", "rw"))
    assert "a pipe, not a plain file" in why(good, DiskConfig(str(tmp_path / "pipe"), "xvdb", "ro"))
    assert "No such file" in why(good, DiskConfig(str(tmp_path / "none"), "xvdb", "ro"))
    assert "directory" in why(good, DiskConfig(str(tmp_path), "xvdb", "rw")).lower()
    assert "is a disk of this domain already" in why(good, DiskConfig(str(image), "xvdb", "ro"))
    assert not (tmp_path / "none").exists()
    open_all([good])[0].thread.do(lambda: None).result(10)
    assert before in (0, len(os.listdir("/proc/self/fd")))  # those that were open are not any more


def test_two_may_share_what_neither_writes(machine: Machine, image: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(image)
    first = guest(machine, "first", image, "ro")
    guest(machine, "second", tmp_path / "other", "ro")
    with pytest.raises(ToolstackError, match="other is a disk of domain first already, and one of the"):
        guest(machine, "third", tmp_path / "other")
    for each in list(machine.host.guests.values()):
        machine.host.destroy(each)
    assert machine.hypervisor.run_until(lambda: not machine.host.guests, 10)
    assert first.files[0].image.readonly
    guest(machine, "third", image)
    with pytest.raises(ToolstackError, match="is a disk of domain third already"):
        guest(machine, "fourth", image, "ro")


def test_a_file_has_one_thread(image: Path, tmp_path: Path) -> None:
    """What one life began to write is written before the next one reads."""
    os.link(image, tmp_path / "same")
    (first,) = open_all([DiskConfig(str(image), "xvda", "rw")])
    (second,) = open_all([DiskConfig(str(tmp_path / "same"), "xvdb", "ro")])
    assert first.thread is second.thread
    begin: Future[None] = Future()
    first.thread.do(begin.result)
    first.thread.do(lambda: first.image.write(0, b"late".ljust(512)))
    first.thread.do(first.image.close)
    read = second.thread.do(lambda: second.image.read(0, 1))
    begin.set_result(None)
    assert read.result(10)[:4] == b"late"


def test_a_disk_goes_with_its_domain(machine: Machine, image: Path) -> None:
    made = guest(machine, "it", image)
    back = made.backends[0].back
    machine.host.store.write(f"{made.backends[0].errors}/error", "2 something")
    assert back.endswith("/backend/vbd/1/51712") and machine.host.store.read(f"{back}/dev") == b"xvda"
    machine.host.destroy(made)
    assert machine.hypervisor.run_until(lambda: not machine.host.guests, 10)
    assert machine.host.store.children("/local/domain/0") == ("domid", "name")
    made.files[0].thread.do(lambda: None).result(10)
    with pytest.raises(ValueError, match="closed file"):
        made.files[0].image.read(0, 1)


def test_what_its_file_says_of_a_disk(machine: Machine, image: Path) -> None:
    """All of it reaches the backend, also that a drive is empty."""
    kernel = guest(machine, "other", image, "ro").config.kernel
    disk = DiskConfig(str(image), "xvda", "ro", "raw", "disk", "yes", "4096")
    wanted = [disk, DiskConfig("", "hdc", "ro", "empty", "cdrom")]
    config = DomainConfig("it", kernel, disks=wanted, disk_latency=7, clock="virtual")
    first, second = (backend.data for backend in machine.host.create(machine.prepare(config), paused=True).backends)
    assert isinstance(first, Disk) and isinstance(second, Disk)
    assert (first.sector_size, first.discards, first.cdrom, first.worker.latency_ns) == (4096, True, False, 7000)
    assert (second.cdrom, second.sectors, second.readonly) == (True, 0, True)


def test_what_was_opened_for_a_domain_that_is_not_made_is_closed(machine: Machine, image: Path) -> None:
    guest(machine, "it", image)
    kernel = machine.host.guests[1].config.kernel
    config = DomainConfig("it", kernel, disks=[DiskConfig(str(image), "xvda", "ro")], memory=16, maxmem=16)
    prepared = machine.prepare(config)
    file = weakref.ref(prepared.disks[0].image._file)
    with pytest.raises(ToolstackError, match="there is a domain it already"):
        machine.host.create(prepared)
    del prepared
    assert file() is None  # nobody has it any more


def test_one_that_has_stopped_writes_no_more(machine: Machine, image: Path) -> None:
    """A domain that is kept to be looked at keeps nobody from its disk: neither its successor nor that one's."""
    made = machine.create("test-hello", disks=[f"{image},,xvda"])
    assert machine.run(made) and made.stays
    guest(machine, "next", image)
