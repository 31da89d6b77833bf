# SPDX-License-Identifier: GPL-2.0-or-later
"""Domains with qcow2 images: what they write is in the file, two do not write to one, and what is wrong is told."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvhv.images import shared
from pvhv.testing import Machine, boot
from pvhv.toolstack.disk_spec import DiskConfig
from pvhv.toolstack.disks import OpenDisk, open_all
from pvhv.toolstack.errors import ToolstackError
from tests.guest.machines import script
from tests.images.lab import MIB, contents, look, make_image, opened, qemu, qemu_reads


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as made:
        yield made


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_image(tmp_path / "image.qcow2", 4 * MIB)


def disk(path: Path, name: str = "xvda", access: str = "rw", format_: str = "qcow2") -> str:
    return f"{path},{format_},{name},{access}"


def why(path: Path, access: str = "rw", format_: str = "qcow2") -> str:
    with pytest.raises(ToolstackError) as caught:
        open_all([DiskConfig(str(path), "xvda", access, format_)])
    return str(caught.value)


def test_a_guest_copies_one_image_to_another(tmp_path: Path, image: Path) -> None:
    data = random.Random(1).randbytes(4 * MIB)
    with opened(image) as written:
        written.write(0, data)
    other = make_image(tmp_path / "other.qcow2", 4 * MIB, backing_file="image.qcow2", backing_format="qcow2")
    target = make_image(tmp_path / "target.qcow2", 4 * MIB)
    result = boot(
        "guest-pv", disks=[disk(other), disk(target, "xvdb")], timeout=60,
        stdin=script(["dd if=/dev/xvda of=/dev/xvdb bs=64k conv=fsync",
                      "echo mine | dd of=/dev/xvda seek=77 conv=fsync"]),
    )  # fmt: skip
    assert result.ending == "poweroff", result.output
    assert look(target).is_clean and look(other).is_clean
    qemu_reads(target, data)
    assert contents(image) == data
    assert contents(other)[77 * 512 : 77 * 512 + 5] == b"mine\n"


def close(files: list[OpenDisk]) -> None:
    for file in files:
        file.close()
        file.thread.do(lambda: None).result(10)


def test_the_next_life_reads_what_the_last_one_wrote(image: Path) -> None:
    """Also if the last one has not closed the image yet: not all of its tables are in the file."""
    wanted = [DiskConfig(str(image), "xvda", "rw", "qcow2")]
    first = open_all(wanted)
    first[0].image.write(8, b"late" * 128)
    second = open_all(wanted)
    assert second[0].image.read(8, 1) == b"late" * 128
    reader = open_all([wanted[0]._replace(access="ro")])
    close(first)
    assert reader[0].image.read(8, 1) == b"late" * 128
    with pytest.raises(OSError, match=r"[Rr]ead-only"):
        reader[0].image.write(0, bytes(512))
    with pytest.raises(ValueError, match="closed"):
        first[0].image.read(8, 1)
    above = make_image(image.with_name("above"), 4 * MIB, backing_file=str(image), backing_format="qcow2")
    third = open_all([DiskConfig(str(above), "xvdb", "rw", "qcow2")])
    assert third[0].image.read(8, 1) == b"late" * 128  # its writer has been asked for its tables
    close([*second, *reader, *third])
    assert not shared._open


def test_an_image_below_another_is_not_written_to(machine: Machine, image: Path, tmp_path: Path) -> None:
    overlays = [
        make_image(tmp_path / name, 4 * MIB, backing_file="image.qcow2", backing_format="qcow2") for name in "ab"
    ]
    for overlay in overlays:
        machine.create("test-hello", name=overlay.name, disks=[disk(overlay)], paused=True)
    machine.create("test-hello", name="reader", disks=[disk(image, access="ro")], paused=True)
    with pytest.raises(ToolstackError, match=r"is a backing file of .*/a, a disk of domain a already"):
        machine.create("test-hello", name="writer", disks=[disk(image)], paused=True)
    for guest in list(machine.host.guests.values()):
        machine.host.destroy(guest)
    assert machine.hypervisor.run_until(lambda: not machine.host.guests, 10)
    machine.create("test-hello", name="writer", disks=[disk(image)], paused=True)
    with pytest.raises(ToolstackError, match=r"image.qcow2, a backing file of .*, is a disk of domain writer already,"):
        machine.create("test-hello", name="a", disks=[disk(overlays[0])], paused=True)
    with pytest.raises(ToolstackError, match="is a disk of domain writer already"):
        machine.create("test-hello", name="other", disks=[disk(image)], paused=True)


def test_images_that_cannot_be(tmp_path: Path, image: Path) -> None:
    assert "cannot open" in why(tmp_path / "none") and "No such file" in why(tmp_path / "none")
    (tmp_path / "text").write_text("hello\n" * 1000)
    assert "text: it is not a qcow2 image\nis it a raw one?" in why(tmp_path / "text")
    orphan = make_image(tmp_path / "orphan", MIB, backing_file="gone", backing_format="raw")
    assert f"the backing file of {orphan} cannot be used: cannot open" in why(orphan)
    itself = make_image(tmp_path / "itself", MIB, backing_file="itself", backing_format="qcow2")
    assert "is its own backing file" in why(itself)
    make_image(tmp_path / "one", MIB, backing_file="two", backing_format="qcow2")
    make_image(tmp_path / "two", MIB, backing_file="one", backing_format="qcow2")
    assert "is a backing file of its own backing file" in why(tmp_path / "one")
    unsaid = make_image(tmp_path / "unsaid", MIB, backing_file="text")
    assert "does not say which format its backing file text has" in why(unsaid)
    other = make_image(tmp_path / "other", MIB, backing_file="text", backing_format="vmdk")
    assert "has the format vmdk; here are raw and qcow2" in why(other)
    remote = make_image(tmp_path / "remote", MIB, backing_file="nbd:there:10809", backing_format="raw")
    assert "nbd:there:10809, which is not a plain file" in why(remote)
    assert "No such file" in why(make_image(tmp_path / "nul", MIB, backing_file="a" * 200, backing_format="raw"))
    below = image
    for number in range(64):
        below = make_image(tmp_path / f"{number}", MIB, backing_file=str(below), backing_format="qcow2")
    assert "has more than 63 backing files" in why(below)
    assert not shared._open
    empty = make_image(tmp_path / "empty", 0)
    assert f"is shorter than a sector of 512 bytes\npvhv image resize {empty} 64M makes it longer" in why(empty)


def test_an_image_that_qemu_writes_to(image: Path) -> None:
    with opened(image):
        pass
    qemu("qemu-io", "--version")
    with subprocess.Popen(["qemu-io", str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin and other.stdout
        other.stdin.write(b"read 0 512\n")
        other.stdin.flush()
        other.stdout.readline()
        assert "is in use: another program writes to it\nend that program first" in why(image)
        other.stdin.close()


def test_an_image_is_deleted_under_a_guest(machine: Machine, image: Path) -> None:
    """It keeps what it has open; it is the next life that cannot begin."""
    guest = machine.create("guest-pv", disks=[disk(image)], stdin=script(["echo x | dd of=/dev/xvda conv=fsync"]))
    image.unlink()
    assert machine.run(guest, timeout=60)
    assert guest.ended is not None and guest.ended.name == "poweroff"
    assert "No such file" in why(image)
