# SPDX-License-Identifier: GPL-2.0-or-later
"""The native kernel's disks: IDE and virtio, under every technique, and on QEMU's devices, which none of us wrote.

A script copies a part of the disk into a file, and the file to another part. Then the image on the host has to be what
that makes of it, which is so only if both reads and writes were right."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from pvhv.hvm.techniques.registry import TECHNIQUES
from pvhv.testing import Machine
from pvhv.toolstack.full_guest import FullGuest
from tests.guest.machines import ENDINGS, Outcome, QemuMachine, script
from tests.guest.test_ext2 import NUMBERS, host_tool
from tests.guest.test_ext2 import made as with_file_system

SECTOR = 512
SIZE = 4 << 20
FROM, TO, COUNT = 3, 40, 9  # blocks of 24 KiB: they end amid a block of READ MULTIPLE
BLOCK = 24 << 10
ALONE = 4001  # a sector


def commands(disk: str) -> tuple[str, ...]:
    return (
        f"dd if=/dev/{disk} of=/copy bs={BLOCK} skip={FROM} count={COUNT}",
        f"dd if=/copy of=/dev/{disk} bs={BLOCK} seek={TO} oflag=direct",
        f"dd if=/dev/{disk} of=/sector bs={SECTOR} skip=1 count=1 iflag=direct",
        f"dd if=/sector of=/dev/{disk} bs={SECTOR} seek={ALONE} conv=fsync",
        f"dd if=/dev/{disk} of=/last bs={SECTOR} skip={SIZE // SECTOR - 1}",
        "sync",
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    made = tmp_path / "image"
    made.write_bytes(random.Random(5).randbytes(SIZE))
    return made


def wanted(image: Path) -> bytes:
    data = bytearray(image.read_bytes())
    data[TO * BLOCK : (TO + COUNT) * BLOCK] = data[FROM * BLOCK : (FROM + COUNT) * BLOCK]
    data[ALONE * SECTOR : (ALONE + 1) * SECTOR] = data[SECTOR : 2 * SECTOR]
    return bytes(data)


def ends_well(outcome: Outcome, disk: str) -> None:
    assert outcome.ending == "poweroff", outcome.output
    said = [line for answer in outcome.answers.values() for line in answer if " records" in line]
    assert said == [f"{n}+0 records" for n in (COUNT, COUNT, 1, 1, 1)], outcome.output


def ours(technique: str, image: Path, disk: str, access: str = "rw", *asked: str) -> tuple[Outcome, FullGuest]:
    with Machine(64) as machine:
        guest = machine.create(
            "guest-native",
            stdin=script(asked or commands(disk)),
            technique=technique,
            cmdline="debug-exit",
            disks=[f"{image},raw,{disk},{access}"],
        )
        machine.run(guest, timeout=60)
        assert isinstance(guest, FullGuest)
        output, code = machine.result(guest).output, guest.hvm.exit_code
        return Outcome(output, "" if code is None else ENDINGS[code]), guest


@pytest.mark.parametrize("disk", ["hda", "vda"])
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_under_a_technique(technique: str, image: Path, disk: str) -> None:
    should = wanted(image)
    ends_well(ours(technique, image, disk)[0], disk)
    assert image.read_bytes() == should


QEMU = {
    "hda": ("-drive", "file={},format=raw,if=ide"),
    "vda": ("-drive", "file={},format=raw,if=none,id=it", "-device", "virtio-blk-pci,drive=it,disable-modern=on"),
}


@pytest.mark.parametrize("disk", QEMU)
def test_on_qemu(image: Path, disk: str) -> None:
    should = wanted(image)
    with QemuMachine("pc").start(*(option.format(image) for option in QEMU[disk])) as terminal:
        terminal.type(script(commands(disk)))
        ends_well(terminal.end(), disk)
    assert image.read_bytes() == should


@pytest.mark.parametrize("disk", QEMU)
def test_a_file_system_on_qemu(tmp_path: Path, disk: str) -> None:
    """tests/guest/test_ext2.py has it mounted under every technique."""
    made = with_file_system(tmp_path / "disk.img")
    asked = (f"mount /dev/{disk} /mnt", "cat /mnt/motd", "cp /mnt/sub/numbers /mnt/copy", "umount /mnt")
    with QemuMachine("pc").start(*(option.format(made) for option in QEMU[disk])) as terminal:
        terminal.type(script(asked))
        outcome = terminal.end()
    assert outcome.ending == "poweroff" and outcome.answers["cat /mnt/motd"] == ["hello from ext2"], outcome.output
    checked = subprocess.run([host_tool("e2fsck"), "-fn", str(made)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    read = subprocess.run([host_tool("debugfs"), "-R", "cat /copy", str(made)], capture_output=True, text=True)
    assert read.stdout == NUMBERS


def test_the_same_twice(image: Path) -> None:
    """The host's disk takes its time; the guest does not notice. The second run finds what the first one wrote."""
    runs = [ours("hw-nested", image, "vda") for _ in range(2)]
    assert runs[0][0] == runs[1][0]
    assert runs[0][1].hvm.counts.snapshot() == runs[1][1].hvm.counts.snapshot()


@pytest.mark.parametrize("disk", ["hdb", "hdc", "hdd", "vdc"])
def test_other_places(image: Path, disk: str) -> None:
    name = "vda" if disk == "vdc" else disk  # virtio disks are counted as they are found
    should = wanted(image)
    outcome, _ = ours("hw-nested", image, disk, "rw", *commands(name))
    ends_well(outcome, name)
    assert image.read_bytes() == should


def test_a_read_only_disk(image: Path) -> None:
    before = image.read_bytes()
    outcome, _ = ours("hw-nested", image, "vda", "ro", "dd if=/dev/vda of=/x count=1", "dd if=/x of=/dev/vda count=1")
    assert outcome.ending == "poweroff" and outcome.output.count("1+0 records") == 1
    assert "read-only" in outcome.output.lower() and image.read_bytes() == before


def test_a_truncated_image_is_an_error_of_the_guests(image: Path) -> None:
    with Machine(64) as machine:
        guest = machine.create(
            "guest-native",
            stdin=script(["dd if=/dev/hda of=/x bs=64k count=1 iflag=direct", "echo it runs"]),
            technique="hw-nested",
            disks=[f"{image},raw,hda,rw"],
            paused=True,
        )
        image.write_bytes(b"")
        guest.start()
        machine.run(guest, timeout=30)
        result = machine.result(guest)
    assert result.ending == "poweroff" and "it runs" in result.lines and "1+0 records" not in result.lines
    assert any("error" in line.lower() for line in result.lines), result.output


@pytest.mark.parametrize("disk", ["hda", "vda"])
def test_a_domain_that_is_destroyed_in_the_middle(image: Path, disk: str) -> None:
    """What is under way is done by the host, and nobody is told."""
    with Machine(64) as machine:
        guest = machine.create(
            "guest-native",
            stdin=script([f"dd if=/dev/{disk} of=/dev/null bs=64k iflag=direct"] * 50),
            clock="wall",
            technique="hw-nested",
            disks=[f"{image},raw,{disk},rw"],
        )
        assert machine.hypervisor.run_until(lambda: b"records" in guest.console.output(), 30)
        machine.host.destroy(guest)
        assert machine.hypervisor.run_until(lambda: not machine.host.guests, 30)
        assert machine.hypervisor.bugs == []
