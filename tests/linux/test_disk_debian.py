# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian on a disk: the smallest one, made in a guest as fetch_linux.py --disk makes one, and booted.

The large one (systemd, its own kernel and initramfs) is made in the same way, in ten minutes, by a person.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pvhv.testing import Machine
from pvhv.toolstack import fetched
from pvhv.toolstack.kernel_files import find_kernel
from tests.linux.conftest import Linux, host_tool
from tools.linux import installer
from tools.linux.deb import BadPackage

pytestmark = pytest.mark.linux

SCRIPT = "mount | grep ' / '; dpkg -l | grep -c ^ii; cat /etc/debian_version; echo kept >/root/note; poweroff\n"


@pytest.fixture
def place(linux: Linux, tmp_path: Path) -> Path:
    """The directory of what was fetched, but for a disk that may be there."""
    cache = fetched.directory()
    assert cache is not None
    (cache / "packages").mkdir(exist_ok=True)
    made = tmp_path / "linux"
    made.mkdir()
    for name in ("debian-vmlinuz", "debian-initramfs", "debian-modules", "packages"):
        (made / name).symlink_to(cache / name)
    return made


def test_a_disk_is_made_and_booted(linux: Linux, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        disk = installer.make(place, "debian", 160 << 20, installer.SMALL)
    except (BadPackage, OSError) as error:
        if "apt-get" in str(error):
            pytest.skip(f"the packages cannot be fetched: {error}")
        raise
    assert "in the guest: configuring" in capsys.readouterr().err
    assert sorted(path.name for path in place.iterdir() if not path.is_symlink()) == ["debian-disk"]
    assert installer.make(place, "debian", 160 << 20, installer.SMALL) == disk  # it is not made anew
    assert "is there" in capsys.readouterr().err
    with Machine() as machine:
        guest = machine.create(
            linux.kernel, ramdisk=linux.ramdisk, memory=128, clock="wall", cmdline="console=hvc0 quiet root=/dev/xvda",
            disks=[f"{disk},raw,xvda,rw"], stdin=SCRIPT,
        )  # fmt: skip
        assert machine.run(guest, timeout=120), guest.console.output()
        result = machine.result(guest)
    assert result.exit_status == 0 and "/dev/xvda on / type ext4 (rw" in result.output
    assert any(line.isdecimal() and int(line) > 15 for line in result.lines)  # packages, all configured
    checked = subprocess.run([host_tool("e2fsck"), "-fn", disk], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    note = subprocess.run([host_tool("debugfs"), "-R", "cat /root/note", disk], capture_output=True, check=True)
    assert note.stdout == b"kept\n"


def test_a_guest_that_fails_leaves_nothing(place: Path) -> None:
    """What it said is in the message. Here it is no Linux at all, says hello and ends."""
    (place / "debian-vmlinuz").unlink()
    (place / "debian-vmlinuz").symlink_to(find_kernel("test-hello", Path.cwd(), "test"))
    there = sorted(place.iterdir())
    with pytest.raises(BadPackage, match=r"(?s)did not come to its end; it said:.*PASS hello"):
        installer.make(place, "debian", 160 << 20, installer.Contents(("e2fsprogs",)))
    assert sorted(place.iterdir()) == there
