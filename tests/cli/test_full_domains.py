# SPDX-License-Identifier: GPL-2.0-or-later
"""Fully virtualized domains by the command: the same verbs as for any other."""

import json
import re
from pathlib import Path

import pytest

from pvhv.hvm.techniques.registry import TECHNIQUES
from pvhv.toolstack.kernel_files import find_kernel
from tests.cli.conftest import Pvhv


@pytest.fixture(autouse=True)
def nothing_left(shared: Pvhv) -> object:
    yield
    for name in shared.list():
        shared.ok("destroy", name)


def native(shared: Pvhv, name: str, technique: str = "hw-nested", text: str = "") -> str:
    kernel = find_kernel("guest-native", Path.cwd(), "a test")
    file = shared.directory / f"{name}.cfg"
    file.write_text(f'kernel = "{kernel}"\ntype = "hvm"\ntechnique = "{technique}"\nmemory = 16\n{text}\n')
    return file.name


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_session_at_the_console(shared: Pvhv, technique: str) -> None:
    """Its exit status is that of how the guest ended."""
    file = native(shared, "one", technique)
    said = shared.ok("create", "-c", file, stdin="echo $((1 + 1)) or so\nexit\n")
    assert "or so" in said and "guest_kernel (native)" in said
    assert shared.run("create", "-c", file, stdin="reboot\n").returncode == 10
    shared.until(lambda: shared.list() == {})


def test_its_life(shared: Pvhv) -> None:
    shared.ok("create", native(shared, "one"))
    shared.until(lambda: shared.list()["one"]["state"] == "-b----")
    shared.ok("pause", "one")
    assert shared.list()["one"]["state"] == "-bp---"
    shared.ok("unpause", "one")
    assert "has no xenstore: it cannot be asked to poweroff" in shared.fails("shutdown", "one")
    exits = json.loads(shared.ok("top", "--json", "-d", "0.05"))
    assert [row["name"] for row in exits] == ["one"]
    shared.ok("destroy", "one")
    assert shared.list() == {}


def test_its_trace_is_of_exits(shared: Pvhv) -> None:
    shared.ok("create", "-p", native(shared, "one", text='clock = "virtual"'))
    process = shared.start("trace", "--json", "-n", "20", "one")
    assert process.stderr is not None and b"tracing one" in process.stderr.readline()
    shared.ok("unpause", "one")
    output, _ = process.communicate(timeout=60)
    records = [json.loads(line) for line in output.decode().splitlines()]
    assert [record["kind"] for record in records] == ["exit"] * 20
    assert records[0]["reason"] == "NPF" and records[0]["mode"] == "kernel"
    assert {"NPF", "CPUID"} <= {record["reason"] for record in records} <= {"NPF", "CPUID", "MSR", "IOIO"}


def test_its_disks(shared: Pvhv) -> None:
    """Listed, counted and traced as any other domain's."""
    for name in ("a.img", "b.img"):
        (shared.directory / name).write_bytes(bytes(1 << 20))
    text = "on_poweroff = 'preserve'\ndisk = ['a.img,raw,hda,rw', 'b.img,raw,vda,ro']"
    shared.ok("create", "-p", native(shared, "one", text=text))
    domid = str(shared.list()["one"]["domid"])
    _heading, *lines = shared.ok("block-list", "one").splitlines()
    assert [line.split() for line in lines] == [
        ["768", "0", domid, "-", "-", "-", "-", "ide"], ["vda", "0", domid, "-", "-", "-", "-", "virtio"],
    ]  # fmt: skip
    rows = json.loads(shared.ok("block-list", "--json", "one"))
    assert [(row["vdev"], row["model"], row["access"], row["devid"]) for row in rows] == [
        ("hda", "ide", "rw", 768), ("vda", "virtio", "ro", -1),
    ]  # fmt: skip
    assert [Path(row["target"]).name for row in rows] == ["a.img", "b.img"]
    for verb, *more in (("block-detach", "hda"), ("cd-eject", "vda")):
        assert "its disks are devices of a PC, and stay as they are" in shared.fails(verb, "one", *more)

    process = shared.start("trace", "--kind", "device", "one")
    assert process.stderr is not None and b"tracing one" in process.stderr.readline()
    before = counted(shared)
    assert before["vbds"] == 2 and not before["rd_req"]
    shared.ok("unpause", "one")
    typed = [f"dd if=/dev/{disk} of=/dev/null bs=64k skip=1 count=4 iflag=direct" for disk in ("hda", "vda")]
    said = shared.ok("console", "one", stdin="\n".join([*typed, "exit\n"]))
    told, _ = process.communicate(timeout=60)
    after = counted(shared)
    assert after["rd_req"] >= 8 and after["rd_sect"] >= 2 * 512 and not after["wr_req"], said
    for sector in range(128, 640, 128):
        for disk, parts in (("hda", "8 blocks"), ("vda ring 0", "16 segments")):
            line = rf"device     {disk} #\d+: read sector {sector}, 65536 bytes in {parts}, [\d.]+ (us|ms|s)$"
            assert re.search(line, told.decode(), re.MULTILINE), told.decode()


def counted(shared: Pvhv) -> dict[str, int]:
    (row,) = shared.ask("counters")
    disks: dict[str, int] = row["disks"]
    return disks


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ('technique="hw-nestd"', "did you mean hw-nested?"),
        ("vcpus=2", "a fully virtualized domain has one vCPU here"),
        ("maxmem=32", "a fully virtualized domain cannot grow"),
        ('timeline="lab"', "has a timeline to itself"),
        ('type="pv"', "'technique' is for fully virtualized domains"),
        ("memory=2", "is too little"),
    ],
)
def test_what_such_a_domain_cannot_have(shared: Pvhv, setting: str, told: str) -> None:
    status = 2 if "hw-nestd" in setting else 1
    assert told in shared.fails("create", native(shared, "one"), setting, status=status)
    assert shared.list() == {}
