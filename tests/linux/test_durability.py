# SPDX-License-Identifier: GPL-2.0-or-later
"""What a stock Linux was told is on its disk is there after its pvhvd was killed, and after the power failed: what the
checks of tools/kill_test.py find, for two kills, and what they notice.

Ten kills are those of the teaching kernel, which boots in a moment: tests/guest/test_durability.py.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from pvhv.images.file import File
from pvhv.testing import Machine
from pvhv.toolstack.guest import Guest
from tests.linux.conftest import Linux, host_tool
from tools import kill_test

pytestmark = pytest.mark.linux

KILLS = 2
PATIENCE_S = 120.0


def test_two_kills_lose_nothing(linux: Linux, tmp_path: Path) -> None:
    host_tool("mke2fs")
    lives = kill_test.run(tmp_path, KILLS, random.SystemRandom().randrange(1 << 32))  # its output has the seed
    assert len(lives) == KILLS + 1 and lives[0].found == 0
    assert lives[-1].found >= KILLS  # a life has a record at least


@pytest.mark.parametrize(
    ("life", "safe", "named", "lost"),
    [
        (kill_test.Life(-1, -1, 5, 0), 4, 0, ""),
        (kill_test.Life(9, 8, 6, 8), 4, 0, ""),  # more was there than was acknowledged
        (kill_test.Life(9, 8, 4, 0), 4, 0, "record 4 was acknowledged"),
        (kill_test.Life(-1, -1, 20, 8), 12, 16, "renamed to 16, and says 8"),
    ],
)
def test_what_is_lost_is_noticed(life: kill_test.Life, safe: int, named: int, lost: str) -> None:
    if not lost:
        kill_test.check_found(life, safe, named)
    else:
        with pytest.raises(kill_test.Lost, match=lost):
            kill_test.check_found(life, safe, named)


class Power:
    """What of an image is on the host's disk: all that was written to its file before the last sync, and nothing else.
    (After a power failure some of the rest may be there as well. tests/images/test_crash.py tries that.)"""

    def __init__(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.image, self.durable, self.lock = image, image.read_bytes(), threading.Lock()
        identity, sync = (image.stat().st_dev, image.stat().st_ino), File.sync

        def kept_sync(file: File) -> None:
            sync(file)
            if file.identity == identity:
                with self.lock:
                    self.durable = image.read_bytes()

        monkeypatch.setattr(File, "sync", kept_sync)

    def fails(self, machine: Machine, guest: Guest) -> kill_test.Life:
        """Now: put the image back to what is on the disk. Returns what the guest had said before."""
        said = guest.console.output()
        with self.lock:
            left = self.durable
        machine.close()
        self.image.write_bytes(left)
        return kill_test.told(said)


def boot(linux: Linux, directory: Path, image: Path) -> tuple[Machine, Guest]:
    """A guest in this process that has looked for its records, and appends more."""
    kill_test.domain_file(directory, image, kill_test.QCOW2)  # and its ramdisk
    machine = Machine()
    guest = machine.create(
        str(linux.kernel), ramdisk=str(directory / "initramfs"), cmdline=kill_test.CMDLINE, clock="wall",
        memory=kill_test.MEMORY_MIB, disks=[f"{image},qcow2,xvda,rw"],
    )  # fmt: skip
    enough = machine.hypervisor.run_until(lambda: guest.console.output().count(b"acknowledged ") >= 20, PATIENCE_S)
    assert enough, guest.console.output()
    return machine, guest


@pytest.mark.parametrize("sync_lies", [False, True])
def test_the_power_fails(linux: Linux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync_lies: bool) -> None:
    """Nothing is lost that was acknowledged. If the host's sync does nothing, it is, and the same checks say so: nobody
    else in the process could tell."""
    image = kill_test.make_image(tmp_path, kill_test.QCOW2)
    if sync_lies:
        monkeypatch.setattr(File, "sync", lambda file: None)
        empty = image.read_bytes()
        machine, guest = boot(linux, tmp_path, image)
        before = kill_test.told(guest.console.output())
        machine.close()
        image.write_bytes(empty)  # nothing was ever synced
    else:
        power = Power(image, monkeypatch)
        before = power.fails(*boot(linux, tmp_path, image))
        kill_test.check_image(tmp_path, image, kill_test.QCOW2)
    assert before.acknowledged >= 19
    machine, guest = boot(linux, tmp_path, image)
    after = kill_test.told(guest.console.output())
    machine.close()
    if sync_lies:
        with pytest.raises(kill_test.Lost, match=f"record {before.acknowledged} was acknowledged"):
            kill_test.check_found(after, before.acknowledged, before.renamed)
    else:
        kill_test.check_found(after, before.acknowledged, before.renamed)


def test_a_damaged_file_system_is_noticed(tmp_path: Path) -> None:
    host_tool("mke2fs")
    image = kill_test.make_image(tmp_path, "raw")
    kill_test.check_image(tmp_path, image, "raw")
    with image.open("r+b") as file:
        file.seek(1024 + 40)  # of the superblock: inodes of a group
        file.write(b"\xff" * 4)
    with pytest.raises(kill_test.Lost, match="e2fsck"):
        kill_test.check_image(tmp_path, image, "raw")
