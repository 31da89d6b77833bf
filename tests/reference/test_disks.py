# SPDX-License-Identifier: GPL-2.0-or-later
"""The record of what a real Xen does with disks, as far as no driver is needed. What it says of a Linux that has them
is followed in tests/linux/test_hotplug.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvhv.testing import Machine
from pvhv.toolstack import plugging
from pvhv.toolstack.guest import Guest
from tests.toolstack.store_nodes import of_disk
from tools.reference import disks

RECORD = disks.load()
XVDA, XVDD = 51712, 51760


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    image = tmp_path / "a.img"
    image.write_bytes(bytes(1 << 20))
    with Machine() as machine:
        yield machine.create("test-hello", disks=[f"{image},raw,xvda,w", f"{image}d,raw,xvdd,w"], paused=True)


@pytest.fixture(autouse=True)
def another(tmp_path: Path) -> None:
    (tmp_path / "a.imgd").write_bytes(bytes(1 << 20))


def test_the_nodes_of_a_disk_before_its_driver_looks(guest: Guest) -> None:
    found = disks.differences(disks.nodes(RECORD["made"]), of_disk(guest.store, guest.domid, XVDA))
    assert not disks.unexplained("made", found)
    assert {row.node for row in disks.excuses() if row.covers("made", found)} == {row.node for row in disks.excuses()}


def test_the_nodes_of_a_disk_that_nobody_releases(guest: Guest) -> None:
    part = "a disk that no driver found"
    plugging.detach(guest, "xvdd")
    assert not disks.unexplained(
        part, disks.differences(disks.nodes(RECORD[part]), of_disk(guest.store, guest.domid, XVDD))
    )
    plugging.take_away(plugging.detach(guest, "xvdd"))
    assert of_disk(guest.store, guest.domid, XVDD) == {}


def test_a_difference_is_found() -> None:
    there = disks.nodes(RECORD["connected"])
    back = "/local/domain/0/backend/vbd/1/51712"
    assert len(there) > 50 and there[f"{back}/sectors"] == ("2048", "n0,r1")
    for changed in (
        {**there, f"{back}/sectors": ("2048", "n0")}, {**there, f"{back}/sectors": ("1", "n0,r1")},
        {**there, f"{back}/more": ("", "n0,r1")}, {key: there[key] for key in there if not key.endswith("/sectors")},
    ):  # fmt: skip
        assert len(disks.unexplained("connected", disks.differences(there, changed))) == 1
    assert not disks.differences(there, {**there, f"{back}/params": ("/elsewhere", "n0,r1")})


def test_what_it_was_recorded_on_is_known() -> None:
    head = disks.RECORD.read_text().partition("##")[0]
    assert all(name in head for name in ("xen-hypervisor-4.17", "qemu-system-x86", "linux-image-6.1"))
