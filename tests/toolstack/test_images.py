# SPDX-License-Identifier: GPL-2.0-or-later
"""Domains with qcow2 images: what they write is in the file, two do not write to one, and what is wrong is told."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from pvhv.images import shared
from pvhv.images.facts import facts_of_chain
from pvhv.images.image import BadImage
from pvhv.testing import Machine, boot
from pvhv.toolstack.disk_spec import DiskConfig
from pvhv.toolstack.disks import OpenDisk, finish, open_all
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


def why(path: Path, **more: str) -> str:
    with pytest.raises(ToolstackError) as caught:
        open_all([DiskConfig(str(path), "xvda", "rw", "qcow2", **more)])
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
    assert f"put it back, or name another one: qemu-img rebase -u -b NEW -F FORMAT {orphan}" in why(orphan)
    with pytest.raises(BadImage, match=f"the backing file of {orphan} cannot be used"):
        facts_of_chain(str(orphan))
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


def test_what_an_ephemeral_domain_writes_goes_with_it(image: Path, tmp_path: Path) -> None:
    """The image may be read by others meanwhile, and is what it was; nothing stays in the directory of overlays."""
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(MIB))
    with opened(image) as written:
        written.write(0, b"base" * 128)
    before, base = sorted(tmp_path.iterdir()), image.read_bytes()
    result = boot(
        "guest-pv", disks=[disk(image), f"{raw},raw,xvdb,rw"], ephemeral=True, timeout=60,
        stdin=script(["echo new | dd of=/dev/xvda conv=fsync", "dd if=/dev/xvda of=/dev/xvdb count=1 conv=fsync",
                      "dd if=/dev/xvdb count=1"]),
    )  # fmt: skip
    assert result.ending == "poweroff" and "\nnew\nbasebase" in result.output, result.output
    assert image.read_bytes() == base and raw.read_bytes() == bytes(MIB)
    assert sorted(tmp_path.iterdir()) == before


def test_an_overlay_lives_as_long_as_its_domain(image: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    overlays = tmp_path / "overlays"
    overlays.mkdir()
    monkeypatch.setenv("TMPDIR", str(overlays))
    (wanted,) = [DiskConfig(str(image), "xvda", "rw", "qcow2", ephemeral="yes")]
    first, other = open_all([wanted]), open_all([wanted])
    first[0].image.write(0, b"mine" * 128)
    other[0].image.write(0, b"hers" * 128)
    second = open_all([wanted], first)  # the next life, before the last one has closed its image
    close(first)
    assert second[0].image.read(0, 1) == b"mine" * 128
    close(second)
    third = open_all([wanted], second)  # and after that
    assert third[0].image.read(0, 1) == b"mine" * 128
    assert other[0].image.read(0, 1) == b"hers" * 128
    assert not list(overlays.iterdir()) and contents(image) == bytes(4 * MIB)
    with pytest.raises(ToolstackError, match=f"^{image} is a disk of this domain already, which writes to it"):
        open_all([wanted._replace(ephemeral=""), wanted])
    with pytest.raises(ToolstackError, match=f"^{image} is a disk of this domain already, which is ephemeral"):
        open_all([wanted, wanted._replace(ephemeral="")])
    close([*third, *other])
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    assert "no throw-away overlay can be made in" in why(image, ephemeral="yes")


def test_a_reboot_keeps_an_overlay(machine: Machine, image: Path) -> None:
    """A domain that reboots finds what it wrote; one that is created anew does not."""
    guest = machine.create(
        "guest-pv", disks=[disk(image)], ephemeral=True,
        stdin=script(["echo kept | dd of=/dev/xvda seek=3 conv=fsync", "reboot"]),
    )  # fmt: skip
    guest.config.on_reboot = "restart"
    guests = machine.host.guests
    assert machine.hypervisor.run_until(lambda: guests and guest not in guests.values(), 60)
    (again,) = guests.values()
    assert again.lineage is guest.lineage
    assert again.files[0].image.read(3, 1)[:5] == b"kept\n"
    assert contents(image) == bytes(4 * MIB)


def test_what_a_domain_wrote_that_is_kept_is_in_the_file(machine: Machine, image: Path) -> None:
    """Whether it flushed or not: somebody may look at the file, or kill us."""
    guest = machine.create("test-hello", disks=[disk(image)], paused=True)
    (file,) = guest.files
    file.thread.do(lambda: file.image.write(0, b"last" * 128)).result(10)
    guest.start()
    assert machine.run(guest) and guest.stays
    file.thread.do(lambda: None).result(10)
    copy = image.with_name("copy")
    copy.write_bytes(image.read_bytes())
    assert contents(copy)[:512] == b"last" * 128


def test_an_end_waits_for_what_is_to_be_written(image: Path) -> None:
    begin: Future[None] = Future()
    files = open_all([DiskConfig(str(image), "xvda", "rw", "qcow2")])
    files[0].thread.do(begin.result)
    files[0].thread.do(lambda: files[0].image.write(0, b"late" * 128))
    finish(files, 0.05)  # it does not wait for ever
    assert shared._open
    threading.Timer(0.05, begin.set_result, [None]).start()
    finish(files, 10)
    assert not shared._open and contents(image)[:512] == b"late" * 128 and look(image).is_clean
