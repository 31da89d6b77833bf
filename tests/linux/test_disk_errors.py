# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that fail under a stock Linux: no room on the host, a medium that cannot be read, an image that was cut short.

The guest sees an error of that disk, at the request that failed; its other disks work, and so does it.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pvhv.images.raw import RawImage
from pvhv.testing import Machine
from tests.linux.conftest import Linux, host_tool

pytestmark = pytest.mark.linux

MIB = 1 << 20
LENGTH, ROOM = 16 * MIB, 6 * MIB
UNREADABLE = 64  # sectors, from which on the medium is bad
# The kernel tells of ten errors, and then of no more for a while. So the disk with many comes last.
SCRIPT = """\
dmesg -n 1
mount /dev/xvda /mnt && echo mounted
dd if=/dev/xvdb of=/dev/null bs=4k count=4; echo whole=$?
dd if=/dev/xvdb of=/dev/null bs=4k count=4 skip=256; echo cut=$?
dd if=/dev/xvdc of=/dev/null bs=4k count=2 iflag=direct; echo good=$?
dd if=/dev/xvdc of=/dev/null bs=4k skip=8 count=2 iflag=direct; echo bad=$?
echo still >/dev/xvdd; sync; head -c 5 /dev/xvdd; echo
dd if=/dev/zero of=/mnt/large bs=64k count=160 conv=fsync; echo full=$?
dmesg | grep -c 'I/O error, dev xvda.*op 0x1:(WRITE)'
dmesg | grep -c 'I/O error, dev xvdb.*op 0x0:(READ)'
dmesg | grep -c 'I/O error, dev xvdc, sector 64 op 0x0:(READ)'
poweroff -f
"""


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process grows beyond ROOM: the host refuses to write there, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_each_error_reaches_the_guest(linux: Linux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = full, cut, bad, well = [tmp_path / name for name in ("full", "cut", "bad", "well")]
    for image in images:
        with image.open("wb") as file:
            file.truncate(LENGTH)
    subprocess.run([host_tool("mke2fs"), "-q", "-t", "ext4", full], check=True)
    read, read_now, medium = RawImage.read, RawImage.read_now, bad.stat().st_ino

    def read_worn(image: RawImage, sector: int, *more: int) -> bytes:
        if image.identity[1] == medium and sector >= UNREADABLE:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(image, sector, *more)

    def read_now_worn(image: RawImage, sector: int, count: int, parts: Sequence[memoryview]) -> bool:
        return not (image.identity[1] == medium and sector >= UNREADABLE) and read_now(image, sector, count, parts)

    monkeypatch.setattr(RawImage, "read", read_worn)
    monkeypatch.setattr(RawImage, "read_now", read_now_worn)
    disks = [f"{image},raw,xvd{letter},rw" for image, letter in zip(images, "abcd", strict=True)]
    with Machine() as machine:
        guest = machine.create(
            linux.kernel, ramdisk=linux.ramdisk, cmdline="console=hvc0 quiet", memory=128, clock="wall", stdin=SCRIPT,
            disks=disks, paused=True,
        )  # fmt: skip
        # Once a second a disk looks how long its image is. This is what happens before.
        monkeypatch.setattr(RawImage, "refresh", lambda _image: None)
        os.truncate(cut, MIB)  # behind the back of everybody
        with no_room():
            guest.start()
            assert machine.run(guest, timeout=180), machine.result(guest).output
        result = machine.result(guest)
    assert "mounted" in result.lines
    assert [result.values[name] for name in ("full", "whole", "cut", "good", "bad")] == ["1", "0", "1", "0", "1"]
    assert result.output.count("Input/output error") >= 3 and "still" in result.lines
    *_, of_full, of_cut, of_bad = [line for line in result.lines if line.isdecimal()]
    assert int(of_full) > 0 and int(of_cut) > 0 and int(of_bad) > 0
    assert result.exit_status == 0 and well.read_bytes().startswith(b"still")
