# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest nobody here wrote and that is no Linux: GRUB's image for paravirtual domains, as Debian packages it.

Its drivers are its own: of the console, of the store, and of disks.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pvhv.testing import Machine
from pvhv.toolstack.guest import Guest
from pvhv.toolstack.kernel_files import find_kernel
from tests.linux.conftest import host_tool
from tools import fetch_linux
from tools.linux.deb import BadPackage

pytestmark = pytest.mark.linux

PROMPT = b"grub> "


@pytest.fixture(scope="module")
def grub() -> Path:
    try:
        return fetch_linux.fetch_grub()
    except (BadPackage, OSError) as error:
        pytest.skip(f"no GRUB to boot: {error}")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk with a file system made by the program that makes every Linux's, and the teaching kernel on it."""
    root, made = tmp_path / "root", tmp_path / "disk.img"
    (root / "boot").mkdir(parents=True)
    (root / "boot/guest-pv").write_bytes(find_kernel("guest-pv", Path.cwd(), "test").read_bytes())
    (root / "words").write_text("these are on the disk\n")
    subprocess.run([host_tool("mke2fs"), "-q", "-t", "ext4", "-d", root, made, "8M"], check=True)
    return made


class Typist:
    """Somebody at the console."""

    def __init__(self, machine: Machine, guest: Guest) -> None:
        self.machine, self.guest = machine, guest
        self._seen = 0

    def until(self, words: bytes) -> bytes:
        """Wait for `words`. Returns what was said since the last time."""
        said = self.guest.console.output

        def heard() -> bool:
            return words in said()[self._seen :] or self.guest.ended is not None

        assert self.machine.hypervisor.run_until(heard, 60) and words in said()[self._seen :], said()[self._seen :]
        new, self._seen = said()[self._seen :], len(said())
        return new

    def type(self, line: bytes) -> None:
        self.guest.console.typed += line
        self.guest.console.pump()


def test_grub_reaches_its_prompt_and_takes_commands(grub: Path) -> None:
    with Machine(64) as machine:
        guest = machine.create(grub, memory=64, clock="wall")
        typist = Typist(machine, guest)
        typist.until(PROMPT)
        typist.type(b"echo it-is-$grub_platform\rhalt\r")
        assert machine.run(guest, timeout=30)
        done = machine.result(guest)
    assert "it-is-xen" in done.output and done.exit_status == 0


def test_grub_reads_a_disk_and_boots_from_it(grub: Path, image: Path) -> None:
    """The kernel that it loads is another domain's, as far as it knows: it builds its page tables, and jumps."""
    before = image.read_bytes()
    with Machine(128) as machine:
        guest = machine.create(grub, memory=128, clock="wall", disks=(f"{image},raw,xvda,ro",))
        typist = Typist(machine, guest)
        typist.until(PROMPT)
        typist.type(b"ls (xen/xvda)/\r")
        assert b"boot/" in typist.until(PROMPT)
        typist.type(b"cat (xen/xvda)/words\r")
        assert b"these are on the disk" in typist.until(PROMPT)
        typist.type(b"linux (xen/xvda)/boot/guest-pv\rboot\r")
        typist.until(b"$ ")
        typist.type(b"exit\n")
        assert machine.run(guest, timeout=30), guest.console.output()
        assert machine.result(guest).exit_status == 0
    assert image.read_bytes() == before
