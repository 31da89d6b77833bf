# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that come and go while the teaching kernel runs: it gives up one that nobody uses, and keeps the others."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvhv.abi.io.xenbus import XenbusStateClosing, XenbusStateConnected
from pvhv.devices.xenbus import state_of
from pvhv.testing import Machine
from pvhv.toolstack import block_access
from pvhv.toolstack.guest import Guest
from tests.core import accounting
from tests.guest.test_ext2 import host_tool
from tests.toolstack.test_plugging import Asking

XVDA = 51712
PATIENCE_S = 20.0
FIRST_OF_DRIVERS = 8  # the grant references below are the toolstack's


class Session:
    """A teaching kernel with a shell, and the verbs for its disks."""

    def __init__(self, machine: Machine, *disks: str) -> None:
        self.machine, self.asking = machine, Asking(machine)
        self.guest: Guest = machine.create("guest-pv", name="it", clock="wall", memory=32, disks=disks)
        self.count = 0

    def sh(self, line: str) -> str:
        """What a command prints."""
        self.count += 1
        begin, end = f"echo @{self.count}[", f"echo @{self.count}]"
        self.guest.console.type_ahead(f"{begin}\n{line}\n{end}\n".encode())
        self.guest.console.pump()
        said = re.compile(rf"^@{self.count}\[\n(.*)^@{self.count}\]$", re.DOTALL | re.MULTILINE)
        assert self.machine.hypervisor.run_until(lambda: said.search(self.text) is not None, PATIENCE_S), self.text
        lines = said.findall(self.text)[0].splitlines(keepends=True)
        return "".join(each for each in lines if not each.rstrip().endswith((f"$ {line}", end)))

    @property
    def text(self) -> str:
        return self.guest.console.output().decode().replace("\r", "")

    @property
    def back_end(self) -> int:
        return state_of(self.guest.store.read(f"/local/domain/0/backend/vbd/{self.guest.domid}/{XVDA}/state"))

    @property
    def held(self) -> tuple[int, int]:
        """How many ports the guest has, and how many pages it grants to others."""
        domain = self.guest.domain
        words, slot = self.machine.hypervisor.ram.words, domain.grants.entries.slot
        return domain.events.active, sum(bool(words[slot(ref)] & 0xFFFF) for ref in range(FIRST_OF_DRIVERS, 512))

    def comes_to_hold(self, what: tuple[int, int]) -> bool:
        """Whether it holds that, or will soon: it lets go of a ring when it hears that the other end has."""
        return self.machine.hypervisor.run_until(lambda: self.held == what, PATIENCE_S)

    def attach(self, image: str, vdev: str = "xvda") -> None:
        self.asking.attach("it", f"{image},raw,{vdev},rw")


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A guest whose xvda is `a`; there is `b` as well, and in the file system of each a file that says which it is."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        files = tmp_path / f"files-{name}"
        files.mkdir()
        (files / "name").write_text(f"this is {name}\n")
        subprocess.run([host_tool("mke2fs"), "-q", "-t", "ext2", "-d", str(files), name, "2M"], check=True)
    with Machine() as machine:
        made = Session(machine, "a,raw,xvda,rw")
        yield made
        made.asking.close()
        assert not machine.hypervisor.bugs and not accounting.problems(machine.hypervisor)


def test_a_disk_that_nobody_uses_is_given_up_and_comes_back(session: Session) -> None:
    assert session.sh("echo ready") == "ready\n"
    before = session.held
    for image in "aba":
        assert session.sh("mount /dev/xvda /mnt") == "" and session.sh("cat /mnt/name") == f"this is {image}\n"
        assert session.back_end == XenbusStateConnected and session.held == (before[0] + 1, before[1] + 1)
        session.sh("cp /mnt/name /mnt/copy")
        session.sh("umount /mnt")
        assert session.back_end == XenbusStateConnected  # it is kept for the next to open it
        session.asking.ask("block_detach", "it", disk="xvda")
        assert session.comes_to_hold(before)
        assert not session.guest.store.read(f"/local/domain/1/device/vbd/{XVDA}/state")
        assert "no such disk" in session.sh("mount /dev/xvda /mnt")
        session.attach("b" if image == "a" else "a")
    assert session.sh("mount /dev/xvda /mnt") == "" and session.sh("cat /mnt/copy") == "this is b\n"
    for image in "ab":
        done = subprocess.run([host_tool("e2fsck"), "-fp", image], capture_output=True, text=True)
        assert image == "b" or done.returncode == 0, done.stdout


def test_what_was_to_be_written_later_is_written_before(session: Session) -> None:
    session.sh("echo precious | dd of=/dev/xvda")
    assert not Path("a").read_bytes().startswith(b"precious")
    session.asking.ask("block_detach", "it", disk="xvda")
    assert Path("a").read_bytes().startswith(b"precious")


def test_a_disk_that_is_mounted_stays_until_it_is_not(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_access, "DESTROY_TIMEOUT_S", 0.5)
    session.sh("mount /dev/xvda /mnt")
    why = session.asking.why("block_detach", "it", disk="xvda")
    assert "the domain's driver keeps it (Connected), perhaps because something there has it open" in why
    assert session.back_end == XenbusStateClosing
    assert session.sh("cp /mnt/name /mnt/copy; cat /mnt/copy") == "this is a\n"  # it works as before
    session.sh("umount /mnt")
    assert session.machine.hypervisor.run_until(lambda: session.asking.machine.host.find("it").config.disks == [], 5)


def test_a_disk_that_is_taken_away(session: Session) -> None:
    """Programs get I/O errors. It can be unmounted, and one that comes then is as good as new."""
    before = session.held if session.sh("echo ready") else (0, 0)
    session.sh("mount /dev/xvda /mnt")
    session.asking.ask("block_detach", "it", disk="xvda", force=True)
    assert "input/output error" in session.sh("cat /mnt/name") and "input/output error" in session.sh("sync")
    assert "xvda: it was taken away" in session.text
    session.attach("b")
    assert "input/output error" in session.sh("cat /mnt/name")  # it is not the disk that is mounted
    session.sh("umount /mnt")
    assert session.comes_to_hold(before)
    assert session.sh("mount /dev/xvda /mnt") == "" and session.sh("cat /mnt/name") == "this is b\n"


def test_a_disk_that_was_not_there_at_boot(session: Session) -> None:
    assert session.sh("echo ready") == "ready\n"
    session.attach("b", "xvdc")
    assert session.sh("mount /dev/xvdc /mnt") == "" and session.sh("cat /mnt/name") == "this is b\n"
