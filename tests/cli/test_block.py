# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of running domains, by the commands. What a driver does is in tests/toolstack/test_plugging.py."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Pvhv
from tests.toolstack.recipes import IDLE

SIZE = 1 << 16


def test_disks_come_and_go(shared: Pvhv) -> None:
    for name in "ab":
        (shared.directory / f"{name}.img").write_bytes(bytes(SIZE))
    shared.ok("create", shared.domain("it", IDLE, "disk = ['a.img,raw,xvda,rw']"))
    domid = shared.list()["it"]["domid"]
    assert shared.ok("block-attach", "it", "vdev=xvdb", "access=ro", "target=b.img") == ""
    heading, *lines = shared.ok("block-list", "it").splitlines()
    assert heading.split() == ["Vdev", "BE", "handle", "state", "evt-ch", "ring-ref", "BE-path", "Model"]
    assert [line.split() for line in lines] == [
        [str(devid), "0", str(domid), "1", "-1", "-1", f"/local/domain/0/backend/vbd/{domid}/{devid}", "vbd"]
        for devid in (51712, 51728)
    ]
    (_first, row) = json.loads(shared.ok("block-list", "--json", str(domid)))
    assert (row["vdev"], row["access"], row["devid"]) == ("xvdb", "ro", 51728)
    assert Path(row["target"]) == (shared.directory / "b.img").resolve()
    config = json.loads(shared.ok("list", "-l", "it"))[0]["config"]
    assert [disk["vdev"] for disk in config["disks"]] == ["xvda", "xvdb"]

    shared.ok("block-detach", "--force", "it", "51712")
    config = json.loads(shared.ok("list", "-l", "it"))[0]["config"]
    assert [disk["vdev"] for disk in config["disks"]] == ["xvdb"]
    shared.ok("block-attach", "it", "a.img,,hda")
    done = shared.run("block-list", "nobody", "it")
    assert done.returncode == 1 and "there is no domain nobody" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["51728", "768"]
    shared.ask("destroy", domain="it")


def test_bad_input(shared: Pvhv) -> None:
    (shared.directory / "a.img").write_bytes(bytes(SIZE))
    shared.ok("create", shared.domain("it", IDLE, "disk = ['a.img,raw,xvda,rw']"))
    assert "there is no domain nobody" in shared.fails("block-attach", "nobody", "a.img,,xvdb")
    assert "is a disk of domain it already" in shared.fails("block-attach", "it", "a.img,,xvdb")
    assert "it has no vdev" in shared.fails("block-attach", "it", "a.img")
    assert "has no disk vda" in shared.fails("block-attach", "it", "a.img,,vda")
    assert "'script': no scripts run here" in shared.fails("block-attach", "it", "a.img,,xvdb", "script=x")
    assert "'backend': domain 0 has all backends" in shared.fails("block-attach", "it", "a.img,,xvdb", "backend=3")
    assert "has no disk xvdb" in shared.fails("block-detach", "it", "xvdb")
    assert "a word of 100000 bytes is too long" in shared.fails("block-detach", "it", "x" * 100_000)
    assert "Missing argument" in shared.fails("block-list", status=2)
    shared.ask("destroy", domain="it")


def test_a_medium_is_changed(shared: Pvhv) -> None:
    for name in ("a", "b", "c,d"):
        (shared.directory / f"{name}.iso").write_bytes(bytes(SIZE))
    shared.ok("create", shared.domain("it", IDLE, "disk = ['a.iso,raw,xvda,ro', ',,hdc,,cdrom']"))
    domid = shared.list()["it"]["domid"]
    node = f"/local/domain/0/backend/vbd/{domid}/5632/params"

    def target() -> str:
        return str(json.loads(shared.ok("block-list", "--json", "it"))[1]["target"]).rpartition("/")[2]

    assert target() == ""
    shared.ok("cd-insert", "it", "hdc", "b.iso")
    assert target() == "b.iso" and shared.ok("xenstore-read", node).strip().endswith("/b.iso")
    shared.ok("cd-insert", "it", "hdc", "c,d.iso")  # a name, as under xl, since there is such a file
    assert target() == "c,d.iso"
    shared.ok("cd-eject", "it", "hdc")
    assert target() == "" and shared.ok("xenstore-read", node).strip() == ""
    assert "xvda of domain it is no CD-ROM drive" in shared.fails("cd-eject", "it", "xvda")
    assert "'hdc,x' is not the name of a disk" in shared.fails("cd-eject", "it", "hdc,x")
    assert "has no disk hdd" in shared.fails("cd-insert", "it", "hdd", "b.iso")
    assert "none.iso" in shared.fails("cd-insert", "it", "hdc", "none.iso")
    shared.ask("destroy", domain="it")


def test_a_medium_has_the_format_that_is_said(shared: Pvhv) -> None:
    """A qcow2 image is not taken for a raw one unawares, neither as a medium nor as a disk."""
    shared.ok("image", "create", "-f", "qcow2", "a.qcow2", "1M")
    shared.ok("create", shared.domain("it", IDLE, "disk = [',,hdc,,cdrom']"))

    def medium() -> tuple[str, str]:
        (disk,) = json.loads(shared.ok("list", "-l", "it"))[0]["config"]["disks"]
        return disk["pdev_path"].rpartition("/")[2], disk["format"]

    for verb in (("cd-insert", "it", "hdc", "a.qcow2"), ("block-attach", "it", "a.qcow2,,xvdb")):
        refused = shared.fails(*verb)
        assert "looks like a qcow2 image, but without a format it is a raw one" in refused and "FILE,qcow2" in refused
    assert medium() == ("", "empty")
    for spec in ("a.qcow2,qcow2", "qcow2:a.qcow2", "format=qcow2,target=a.qcow2", "format=qcow2,a.qcow2"):
        shared.ok("cd-insert", "it", "hdc", spec)
        assert medium() == ("a.qcow2", "qcow2"), spec
        shared.ok("cd-eject", "it", "hdc")
    shared.ok("cd-insert", "it", "hdc", "a.qcow2,raw")
    assert medium() == ("a.qcow2", "raw")
    for spec, words in {
        "a.qcow2,qcow": "the format qcow is not here yet", "a.qcow2,iso": "'iso' is not a format",
        "a.qcow2,qcow2,hdd": "'hdd' is not an access mode", "none.iso": "there is no file",
        "none.iso,raw": "there is no file",
    }.items():  # fmt: skip
        assert words in shared.fails("cd-insert", "it", "hdc", spec)
    (shared.directory / "raw.iso").write_bytes(bytes(SIZE))
    assert "not a qcow2 image" in shared.fails("cd-insert", "it", "hdc", "raw.iso,qcow2")
    shared.ask("destroy", domain="it")
