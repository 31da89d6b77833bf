# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv image`, as people use it: beside qemu-img, and without a host process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pvhv.images.qcow2 import header
from tests.cli.conftest import Pvhv
from tests.images.lab import MIB, contents, make_image, opened, qemu, qemu_counts, qemu_finds_it_clean
from tests.toolstack.recipes import IDLE

SAME = ("virtual-size", "format", "cluster-size", "format-specific", "backing-filename", "backing-filename-format",
        "full-backing-filename", "dirty-flag", "actual-size")  # fmt: skip


def same_as_qemu(pvhv: Pvhv, name: str, *more: str) -> None:
    """`info` says what qemu-img's says, under the same names."""
    ours: Any = json.loads(pvhv.ok("image", "info", "--json", *more, name))
    theirs: Any = json.loads(qemu("qemu-img", "info", "--output=json", *more, pvhv.directory / name))
    for mine, other in zip(*(each if isinstance(each, list) else [each] for each in (ours, theirs)), strict=True):
        assert {key: mine.get(key) for key in SAME} == {key: other.get(key) for key in SAME}


def test_from_the_first_to_the_last(pvhv: Pvhv) -> None:
    def path(name: str) -> Path:
        return pvhv.directory / name

    told = pvhv.ok("image", "create", "-f", "qcow2", "base.qcow2", "10G")
    assert told == "base.qcow2 is there: qcow2, a disk of 10 GiB\n"
    pvhv.ok("image", "create", "-q", "-f", "qcow2", "-b", str(path("base.qcow2")), "-F", "qcow2", "above.qcow2")
    pvhv.ok("image", "create", "-f", "qcow2", "-o", "compat=0.10,cluster_size=4k", "old.qcow2", "1.5M")
    pvhv.ok("image", "create", "plain.img", "1000")
    assert path("plain.img").stat().st_size == 1024
    for name in ("base.qcow2", "old.qcow2", "plain.img"):
        same_as_qemu(pvhv, name)
    same_as_qemu(pvhv, "above.qcow2", "--backing-chain")
    with opened(path("above.qcow2")) as image:
        image.write(0, b"w" * MIB)
        assert "in use: another program writes to it\n      -U shows" in pvhv.run("image", "info", "above.qcow2").stderr
        assert "in use" in pvhv.run("image", "check", "above.qcow2").stderr
        assert f"backing file: {path('base.qcow2')}\n" in pvhv.ok("image", "info", "-U", "above.qcow2")
    told = pvhv.ok("image", "check", "above.qcow2")
    assert told == "no errors were found\n16 of 163840 clusters are allocated (0.01%), 0 compressed\n"
    refused = pvhv.fails("image", "convert", "above.qcow2", "whole.img")
    assert "a guest can make a raw image look so\n      -f qcow2 or -f raw says" in refused
    pvhv.ok("image", "convert", "-f", "qcow2", "-O", "qcow2", "-c", "above.qcow2", "whole.qcow2")
    qemu_finds_it_clean(path("whole.qcow2"))
    with opened(path("whole.qcow2"), False) as image:
        assert image.read(0, 4096) == b"w" * MIB + bytes(MIB)
    assert "a disk of 11 GiB now" in pvhv.ok("image", "resize", "whole.qcow2", "+1G")
    assert "a disk of 1.5 MiB now" in pvhv.ok("image", "resize", "plain.img", "1.5M")
    qemu_finds_it_clean(path("whole.qcow2"))
    same_as_qemu(pvhv, "whole.qcow2")
    refused = pvhv.fails("image", "resize", "whole.qcow2", "1G")
    assert "whole.qcow2 is a disk of 11811160064 bytes, and an image cannot become shorter" in refused
    assert "\n      +1G is how to say" in refused


def test_a_large_one_gets_a_longer_table(pvhv: Pvhv) -> None:
    path = make_image(pvhv.directory / "it", MIB, cluster_size=512)
    with opened(path) as image:
        image.write(0, b"x" * MIB)
    pvhv.ok("image", "resize", "it", "1G")
    qemu_finds_it_clean(path)
    assert contents(path)[: 2 * MIB] == b"x" * MIB + bytes(MIB)


def test_checking_and_repairing(pvhv: Pvhv) -> None:
    """The same findings as qemu-img's, the same exit status, and nothing left after a repair."""
    for number, damage in enumerate((leak, lose_a_count, two_owners, flag_without_reason, lose_all_counts)):
        path = make_image(pvhv.directory / f"{number}", 4 * MIB)
        with opened(path) as image:
            image.write(0, b"data" * 100_000)
        before = contents(path)
        damage(path)
        theirs = qemu_counts(path)
        done = pvhv.run("image", "check", "--json", path.name)
        ours = json.loads(done.stdout)
        names = ("corruptions", "leaks", "check-errors")
        assert [ours.get(name) for name in names] == [theirs.get(name) for name in names], damage
        assert done.returncode == theirs["status"] == (3 if damage is leak else 2), damage
        if damage is leak:
            assert "repaired: 0 corruptions, 1 leaks" in pvhv.ok("image", "check", "-r", "leaks", path.name)
        else:
            assert "errors were found: data may be corrupt" in pvhv.run("image", "check", path.name).stdout
            assert "repaired" in pvhv.ok("image", "check", "-r", "all", path.name)
        assert qemu_counts(path)["status"] == 0
        assert contents(path) == before or damage is two_owners


BLOCK, L2 = 2 * 65536, 4 * 65536  # where these are in a new image


def poke(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def leak(path: Path) -> None:
    """A cluster at the end that is counted, and used nowhere."""
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        file.truncate((end // 65536 + 2) * 65536)
    poke(path, BLOCK + 2 * (end // 65536 + 1), b"\0\1")


def lose_a_count(path: Path) -> None:
    poke(path, BLOCK + 2 * 6, b"\0\0")


def two_owners(path: Path) -> None:
    poke(path, L2 + 8, path.read_bytes()[L2 : L2 + 8])


def flag_without_reason(path: Path) -> None:
    poke(path, L2, bytes([path.read_bytes()[L2] & 0x7F]))


def lose_all_counts(path: Path) -> None:
    poke(path, 65536, bytes(8))


def test_what_is_wrong_is_told(pvhv: Pvhv) -> None:
    make_image(pvhv.directory / "it", MIB)
    (pvhv.directory / "raw").write_bytes(bytes(4096))
    assert "it is there already\n      remove it first" in pvhv.fails("image", "create", "it", "1M")
    assert "'5X' is not a size" in pvhv.fails("image", "create", "new", "5X")
    assert "how large is the disk" in pvhv.fails("image", "create", "new")
    assert "the format 'vmdk' is not here" in pvhv.fails("image", "create", "-f", "vmdk", "new", "1M")
    assert "a raw image has no backing file" in pvhv.fails("image", "create", "-b", "it", "-F", "qcow2", "new")
    assert "the backing file's format is not said" in pvhv.fails("image", "create", "-f", "qcow2", "-b", "it", "new")
    assert "no option 'size=3'" in pvhv.fails("image", "create", "-f", "qcow2", "-o", "size=3", "new", "1M")
    assert "power of two" in pvhv.fails("image", "create", "-f", "qcow2", "-o", "cluster_size=3", "new", "1M")
    assert "too large for clusters of 512" in pvhv.fails(
        "image", "create", "-f", "qcow2", "-o", "cluster_size=512", "new", "1T"
    )
    assert "there is no -b" in pvhv.fails("image", "create", "-F", "raw", "new", "1M", status=2)
    assert "No such file" in pvhv.fails("image", "info", "none")
    assert "Is a directory" in pvhv.fails("image", "info", ".")
    assert "raw: it is not a qcow2 image" in pvhv.fails("image", "check", "raw")
    assert "has nothing to check" in pvhv.fails("image", "check", "-f", "raw", "raw", status=63)
    assert sorted(each.name for each in pvhv.directory.iterdir()) == ["it", "raw"]
    make_image(pvhv.directory / "bits", MIB)
    poke(pvhv.directory / "bits", header.INCOMPATIBLE_AT + 7, b"\x14")
    assert "an external data file, which is not here" in pvhv.fails("image", "info", "bits")


VERBS = {
    "create": ["create", "-f", "qcow2", "{}", "1M"], "create raw": ["create", "{}", "1M"],
    "create -b": ["create", "-f", "qcow2", "-b", "{}", "-F", "qcow2", "new"],
    "info": ["info", "-f", "qcow2", "{}"], "chain": ["info", "--backing-chain", "-f", "qcow2", "--json", "{}"],
    "convert": ["convert", "-f", "qcow2", "{}", "new"], "convert to": ["convert", "-f", "qcow2", "it", "{}"],
    "check": ["check", "{}"], "check --json": ["check", "--json", "{}"], "repair": ["check", "--repair", "all", "{}"],
    "resize": ["resize", "-f", "qcow2", "{}", "2M"],
}  # fmt: skip
CUT = (1, 50, 104, 1000, 65536, 131072)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_with_each_bad_file(pvhv: Pvhv, verb: str) -> None:
    """One message, and nothing else: no image is left half made, and nothing is changed."""
    whole = make_image(pvhv.directory / "it", MIB).read_bytes()
    (pvhv.directory / "directory").mkdir()
    os.mkfifo(pvhv.directory / "pipe")
    (pvhv.directory / "loop").symlink_to("loop")
    files = {"empty": b"", **{f"cut at {length}": whole[:length] for length in CUT}}
    for name, at, new in (("unknown", 72, b"\1"), ("external", 79, b"\4"), ("version", 7, b"\x09")):
        files[name] = whole[:at] + new + whole[at + 1 :]
    for name, data in files.items():
        (pvhv.directory / name).write_bytes(data)
    there = sorted(pvhv.directory.iterdir())
    makes = verb in ("create", "create raw", "convert to")
    missing = ["", "none/none", "it/it", "x" * 300] if makes else ["none", *([] if verb == "create -b" else [""])]
    for name in (*files, "directory", "pipe", "loop", *missing):
        told = pvhv.fails("image", *[word.replace("{}", name) for word in VERBS[verb]])
        assert told.startswith("pvhv: ") and told.count("pvhv: ") == 1 and told.count("\n") <= 2, (name, told)
    assert sorted(pvhv.directory.iterdir()) == there
    assert all((pvhv.directory / name).read_bytes() == data for name, data in {**files, "it": whole}.items())


def test_an_ephemeral_domain(shared: Pvhv) -> None:
    make_image(shared.directory / "it", MIB)
    (shared.directory / "raw").write_bytes(bytes(MIB))
    file = shared.domain("it", IDLE, "disk = ['it,qcow2,xvda,rw', 'raw,raw,xvdb,ro']")
    shown = json.loads(shared.ok("create", "-n", "--ephemeral", file))
    assert [disk.get("ephemeral") for disk in shown["disks"]] == ["True", None]
    shared.ok("create", "--ephemeral", file)
    assert "of domain it already, which is ephemeral and reads it" in shared.fails("create", file, "name=second")
    shared.ok("create", "--ephemeral", file, "name=third")
    assert "in use: another program reads it" in shared.fails("image", "resize", "it", "2M")
