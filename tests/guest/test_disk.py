# SPDX-License-Identifier: GPL-2.0-or-later
"""The teaching kernel's disks: raw bytes through its block front end.

An image is made here, and read here again after the guest has gone: what the guest says of it is compared with what
is really there."""

from __future__ import annotations

import errno
import os
import random
import time
from pathlib import Path

import pytest

from pvhv.abi.io.blkif import BLKIF_OP_FLUSH_DISKCACHE, BLKIF_RSP_OKAY
from pvhv.devices.block.ring import Ring
from pvhv.images.file import File
from pvhv.images.raw import RawImage
from pvhv.testing import Result, boot
from tests.guest.machines import Outcome, script
from tests.images.lab import contents, make_image

MIB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Four MiB and three sectors: its last page is not whole."""
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(12).randbytes(4 * MIB + 3 * 512))
    return path


def run(*commands: str, disks: list[str], memory: int = 64, clock: str = "virtual") -> Result:
    result = boot("guest-pv", stdin=script(commands), disks=disks, memory=memory, clock=clock, timeout=60)
    assert result.ending == "poweroff", result.output
    return result


def answers(*commands: str, disks: list[str], memory: int = 64, clock: str = "virtual") -> dict[str, list[str]]:
    result = run(*commands, disks=disks, memory=memory, clock=clock)
    return Outcome(result.output, result.ending).answers


def writable(path: Path, name: str = "xvda") -> list[str]:
    return [f"{path},raw,{name},rw"]


@pytest.mark.parametrize(("block", "memory"), [("1000", 64), ("4k", 8), ("1M", 8), ("1M", 64)])
def test_all_of_a_disk_is_read_and_written(image: Path, tmp_path: Path, block: str, memory: int) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(bytes(image.stat().st_size))
    said = run(
        f"dd if=/dev/xvda of=/dev/xvdb bs={block} conv=fsync",
        disks=writable(image) + writable(other, "xvdb"), memory=memory,
    )  # fmt: skip
    assert f"{image.stat().st_size} bytes," in said.output
    assert other.read_bytes() == image.read_bytes()


def test_sync_ends_when_all_is_on_the_host_s_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All the way down: a program's sync, the guest's flush request, the tables of a qcow2 image, its file's fsync."""
    image = make_image(tmp_path / "disk.qcow2", 4 * MIB)
    events: list[str] = []
    write, sync, answer = File.write, File.sync, Ring.answer

    def slow_sync(file: File) -> None:
        time.sleep(0.02)  # whoever does not wait for it is before it
        sync(file)
        events.append("synced")

    def noted_write(file: File, offset: int, *pieces: bytes) -> None:
        events.append("write")
        write(file, offset, *pieces)

    def noted_answer(ring: Ring, id_: int, operation: int, status: int) -> None:
        if operation == BLKIF_OP_FLUSH_DISKCACHE:
            events.append("flushed" if status == BLKIF_RSP_OKAY else "failed")
        answer(ring, id_, operation, status)

    monkeypatch.setattr(File, "sync", slow_sync)
    monkeypatch.setattr(File, "write", noted_write)
    monkeypatch.setattr(Ring, "answer", noted_answer)
    write_and_sync = [(f"echo {number} | dd of=/dev/xvda bs=4096 seek={number}", "sync") for number in range(3)]
    run(*[command for pair in write_and_sync for command in pair], disks=[f"{image},qcow2,xvda,rw"])
    assert events.count("flushed") >= 3 and "failed" not in events
    for at, event in enumerate(events):
        if event == "flushed":
            before = [each for each in events[:at] if each != "flushed"]
            assert before[-1] == "synced", events
    contents_now = contents(image)
    assert [contents_now[4096 * number : 4096 * number + 2] for number in range(3)] == [b"0\n", b"1\n", b"2\n"]


def test_what_is_written_late_is_on_the_disk_after_sync(image: Path) -> None:
    was = image.read_bytes()
    result = boot(
        "guest-pv", disks=writable(image), timeout=60,
        stdin=script(["echo one line | dd of=/dev/xvda seek=9", "echo end | dd of=/dev/xvda bs=1 seek=4195000", "sync",
                      "echo lost | dd of=/dev/xvda", "crash"]),
    )  # fmt: skip
    assert result.ending == "crash"
    want = bytearray(was)
    want[9 * 512 : 9 * 512 + 9] = b"one line\n"
    want[4195000:4195004] = b"end\n"
    assert image.read_bytes() == bytes(want)


def test_many_requests_are_under_way_at_once(image: Path) -> None:
    """All of 1 MiB is asked for at once, and by itself a page at a time: the times tell, since each request takes as
    long as any other."""
    said = answers(
        "dd if=/dev/xvda of=/dev/null bs=1M count=1", "dd if=/dev/xvda of=/dev/null bs=4k count=256 iflag=direct",
        disks=writable(image),
    )  # fmt: skip
    fast, slow = (int(lines[1].split()[4]) for lines in list(said.values())[:2])  # KiB/s
    assert fast > 10 * slow > 0


def test_many_disks(tmp_path: Path) -> None:
    """More than there is room for are left out. Of those there are, many work at once: their grants are not enough for
    all, so requests have to wait."""
    images = []
    for number in range(17):
        images.append(tmp_path / f"{number}.img")
        images[-1].write_bytes(bytes([number]) * MIB)
    names = [f"xvd{letter}" for letter in "abcdefghijklmnop"]
    said = run(
        *(f"dd if=/dev/{name} of=/tmp/{name} bs=1M &" for name in names[:6]), "sleep 1", "ls /dev | grep xvd | wc",
        "dd if=/dev/xvdp of=/dev/xvda", "sync",
        *(f"dd if=/tmp/{name} of=/dev/xvdo bs=1M conv=fsync" for name in names[1:6]),
        disks=[f"{path},raw,{name},rw" for path, name in zip(images, [*names, "xvdq"], strict=True)],
    ).output  # fmt: skip
    assert "No room for disk " in said and "16 16 80" in said
    assert images[0].read_bytes() == images[15].read_bytes() == bytes([15]) * MIB
    assert images[14].read_bytes() == bytes([5]) * MIB  # the last one of them


def test_sectors_of_4096_bytes_and_a_drive_without_a_disc(image: Path) -> None:
    with image.open("r+b") as file:
        file.truncate(4 * MIB)
    was = image.read_bytes()
    said = answers(
        "dd if=/dev/xvda of=/dev/xvda bs=512 seek=9 count=3", "dd if=/dev/xvdb", "dd if=/etc/motd of=/dev/xvdb",
        disks=[f"sector-size=4096,vdev=xvda,access=rw,target={image}", "devtype=cdrom,vdev=xvdb,access=ro,target="],
    )  # fmt: skip
    assert image.read_bytes() == was[: 9 * 512] + was[: 3 * 512] + was[12 * 512 :]
    assert said["dd if=/dev/xvdb"][0] == "0+0 records"
    assert said["dd if=/etc/motd of=/dev/xvdb"] == ["dd: /dev/xvdb: read-only"]


def test_errors_reach_the_program(image: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.img"
    short.write_bytes(bytes(MIB))
    said = answers(
        "dd if=/dev/xvda bs=4k count=1 seek=9 of=/dev/xvdb", "dd if=/dev/zero of=/dev/xvda bs=64k count=17",
        "dd if=/dev/xvdc", "dd if=/dev/xvda skip=5000", "dd of=/dev/xvda seek=5000 if=/etc/motd",
        disks=[f"{short},raw,xvda,rw", f"{image},raw,xvdb,ro"],
    )  # fmt: skip
    read_only, full, missing, behind, beyond, _exit = said.values()
    assert read_only == ["dd: /dev/xvdb: read-only"]
    assert full[0] == "16+0 records" and full[2] == "dd: writing: no space left"
    assert missing == ["dd: /dev/xvdc: no such file"]
    assert behind[0] == "0+0 records"
    assert beyond[-1] == "dd: writing: no space left"


@pytest.mark.parametrize(
    ("what", "number", "said"),
    [
        ("flush", errno.EIO, ["sync: input/output error"]),
        ("flush", errno.EOPNOTSUPP, []),  # there is nothing to flush then: what is written is written
        ("write", errno.ENOSPC, ["sync: input/output error"]),  # of the host's disk
    ],
)
def test_sync_says_what_became_of_what_was_written(
    image: Path, monkeypatch: pytest.MonkeyPatch, what: str, number: int, said: list[str]
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(RawImage, what, fails)
    got = answers("echo x | dd of=/dev/xvda", "sync", "dd if=/dev/xvda of=/dev/null count=1", disks=writable(image))
    assert got["sync"] == said and got["dd if=/dev/xvda of=/dev/null count=1"][0] == "1+0 records"


def test_two_runs_are_the_same(image: Path) -> None:
    was = image.read_bytes()
    runs = []
    for _ in range(2):
        image.write_bytes(was)
        runs.append(run("dd if=/dev/xvda of=/dev/xvda bs=64k seek=32 count=30", "sync", disks=writable(image)))
    assert runs[0].output == runs[1].output and runs[0].counters == runs[1].counters
