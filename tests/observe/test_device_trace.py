# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces of a disk's requests: what was asked, how it ended, and how long it took."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pvhv.abi.io.blkif import BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_RSP_OKAY
from pvhv.cli.trace_lines import line
from pvhv.core.sched.asked import Counts
from pvhv.hvm.names import VIRTIO
from pvhv.hvm.platform.asked import Asked, Requests
from pvhv.observe import device_probes
from pvhv.observe.decode import plain
from pvhv.observe.perfetto import Picture
from pvhv.observe.record import Record
from pvhv.observe.syscall_names import table_of
from pvhv.observe.tally import Tally
from pvhv.observe.trace import Recorder
from pvhv.observe.wanted import EVERYTHING, USUAL
from pvhv.testing import Machine
from pvhv.toolstack.full_guest import FullGuest
from pvhv.toolstack.tracing import disks_of
from tests.devices.blkfront import FIRST, SECTORS, Gate, connected, image_at


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return image_at(tmp_path / "image")


def test_requests_are_decoded_with_their_round_trips(path: Path) -> None:
    with Machine() as machine:
        gate = Gate()
        front = connected(machine, path, gate, queues=2)
        recorder, records, tally = Recorder(machine.hypervisor), list[Record](), Tally()
        assert "device" not in USUAL
        wanted = replace(EVERYTHING, kinds=frozenset({"device"}))
        disks = [("xvda", front.disk)]
        sinks = (records.append, tally.take)
        for sink in sinks:
            recorder.start(front.guest.domain, sink, wanted, disks)
        usual = list[Record]()
        recorder.start(front.guest.domain, usual.append, EVERYTHING, disks)
        front.put(BLKIF_OP_READ, 3, [(FIRST, 0, 7), (FIRST + 1, 2, 3)], id_=12, queue=1)
        front.disk.pump()
        front.put(BLKIF_OP_WRITE, SECTORS, [(FIRST, 0, 0)], id_=13)
        front.disk.pump()
        timeline = front.guest.domain.timeline
        began = timeline.now()
        while timeline.now() < began + 2_000_000:
            pass
        gate.open()
        front.settle()
        assert "device" not in {record.kind for record in usual}
        refused, read = (plain(record) for record in records)
        assert refused["status"] == -1 and (refused["id"], refused["bytes"], refused["ring"]) == (13, 0, 0)
        told = {"disk": "xvda", "ring": 1, "name": "read", "sector": 3, "segments": 2, "bytes": 5120, "status": 0}
        assert {key: read[key] for key in told} == told and read["vcpu"] is None
        assert 2_000_000 <= read["spent"] <= timeline.now() - began + 1_000_000_000
        said = line(read)
        assert " device     xvda ring 1 #12: read sector 3, 5120 bytes in 2 segments, " in said
        assert "write sector 64, 0 bytes in 1 segment = error" in line(refused)
        rows = {row["name"]: row for row in tally.plain(table_of(front.guest.kernel.guest_os))["rows"]}
        assert (rows["xvda read"]["count"], rows["xvda read"]["errors"], rows["xvda write"]["errors"]) == (1, 0, 1)
        begin, end = Picture("it", 1).add(read)
        assert (begin["ph"], end["ph"], end["ts"] - begin["ts"]) == ("b", "e", read["spent"])

        for sink in sinks:
            recorder.stop(front.guest.domain, sink)
        for watch in recorder.watches[front.guest.domain]:
            assert watch.devices is None
        assert not vars(front.disk).get("_wrapped")  # as if nobody had looked
        front.put(BLKIF_OP_READ)
        front.disk.pump()
        gate.open()
        front.settle()
        assert len(records) == 2


def test_requests_of_rings_that_went_are_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are never answered."""
    monkeypatch.setattr(device_probes, "MOST_KEPT", 8)
    with Machine() as machine:
        front = connected(machine, path, Gate())
        records = list[Record]()
        probes = device_probes.DeviceProbes(front.guest.domain, [("xvda", front.disk)], records.append)
        (around,) = vars(front.disk)["_wrapped"]["take", None].arounds
        began = around.args[0]
        for number in range(20):
            front.put(BLKIF_OP_READ, id_=number)
        front.disk.pump()
        assert len(began) <= 8 and not records
        front.disk.detach()
        probes.remove()
        probes.remove()


@pytest.mark.parametrize(("disk", "parts"), [("hda", {"blocks": 8}), ("vda", {"ring": 0, "segments": 16})])
def test_requests_of_a_pcs_disk(tmp_path: Path, disk: str, parts: dict[str, int]) -> None:
    """A whole domain, whose disk is a device of a PC; on the virtual clock, so that a round trip is a number."""
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    typed = [f"dd if=/dev/{disk} of=/x bs=64k skip=2 count=1 iflag=direct", f"dd if=/x of=/dev/{disk} conv=fsync"]
    runs = []
    for _ in range(2):
        with Machine(32) as machine:
            guest = machine.create(
                "guest-native", stdin="\n".join([*typed, "exit\n"]), memory=16, technique="hw-nested",
                disks=[f"{image},raw,{disk},rw"], paused=True,
            )  # fmt: skip
            recorder, records, exits = Recorder(machine.hypervisor), list[Record](), list[Record]()
            wanted = replace(EVERYTHING, kinds=frozenset({"device"}))
            recorder.start(guest.domain, records.append, wanted, disks_of(guest))
            assert isinstance(guest, FullGuest)
            assert guest.hvm.counts.listener is None  # exits are not even recorded
            recorder.start(guest.domain, exits.append)
            assert guest.hvm.counts.listener is not None
            guest.start()
            machine.run(guest, timeout=60)
            found = [plain(record) for record in records]
            runs.append(found)
            assert exits and {record.kind for record in exits} == {"exit"}
            (asked,) = guest.pc_requests.values()
            counts = asked.counts
        assert {record["kind"] for record in found} == {"device"} and {record["status"] for record in found} == {0}
        by_name = {name: [each for each in found if each["name"] == name] for name in ("read", "write", "flush")}
        assert counts == Counts(
            rd_req=len(by_name["read"]), wr_req=len(by_name["write"]), f_req=len(by_name["flush"]),
            rd_sect=sum(each["bytes"] for each in by_name["read"]) // 512,
            wr_sect=sum(each["bytes"] for each in by_name["write"]) // 512,
        )  # fmt: skip
        assert counts.wr_sect == 128 and by_name["flush"]
        read = next(each for each in by_name["read"] if each["sector"] == 256)
        assert {**parts, "disk": disk, "bytes": 65536}.items() <= read.items() and read["vcpu"] is None
        assert ("ring" in read) == ("ring" in parts)
        assert 100_000 <= read["spent"] < 100_000_000  # the disk's latency, and what the guest does between blocks
        of = "blocks" if "blocks" in parts else "segments"
        assert f": read sector 256, 65536 bytes in {parts[of]} {of}, " in line(read)
    assert runs[0] == runs[1]


def test_a_pcs_disk_afterwards_is_as_if_nobody_had_looked() -> None:
    asked = Requests(VIRTIO)
    with Machine() as machine:
        guest = machine.create("test-hello", paused=True)
        records = list[Record]()
        probes = device_probes.DeviceProbes(guest.domain, [("vda", asked)], records.append)
        request = Asked(BLKIF_OP_READ, 8, 1, 1, 3)
        asked.begin(request)
        asked.end(request, BLKIF_RSP_OKAY)
        assert [record.data for record in records] == [("vda", 0, 0, 0, 8, 1, 1, 3, "virtio")]
        probes.remove()
        assert not vars(asked).get("_wrapped")
        asked.begin(Asked(BLKIF_OP_READ, 8, 1, 1, 3))
        assert len(records) == 1 and asked.counts.rd_req == 2
