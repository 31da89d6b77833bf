# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks of running domains: attached and detached, by a driver that does as it should and by others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pvhv.abi.grant_table import GRANT_ENTRY_V1_CODEC, GTF_permit_access
from pvhv.abi.io.blkif import BLKIF_OP_WRITE
from pvhv.abi.io.xenbus import (
    XenbusStateClosed,
    XenbusStateClosing,
    XenbusStateConnected,
    XenbusStateInitialised,
)
from pvhv.cli import top
from pvhv.core.debugger import Debugger
from pvhv.core.mm.frames import WRITABLE
from pvhv.devices.block.disk import Disk
from pvhv.devices.xenstore import tree
from pvhv.devices.xenstore.permissions import Caller
from pvhv.testing import Machine
from pvhv.toolstack import block_access, plugging
from pvhv.toolstack.block_access import BlockAccess
from pvhv.toolstack.disk_spec import DiskConfig, parse_parts
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.full_guest import pc_requests
from pvhv.toolstack.guest import Guest
from tests.core import accounting

RING = 100  # the reference of the ring's page


class Driver:
    """A guest's end of its disks, which only says that it connects and closes."""

    def __init__(self, machine: Machine, guest: Guest) -> None:
        self.guest = guest
        hv = machine.hypervisor
        own = [mfn for mfn in hv.frames.owned_by(guest.domid) if mfn not in guest.domain.hypervisor_frames]
        self.mfns = [mfn for mfn in own if hv.frames.types[mfn] & 7 in (0, WRITABLE)][-16:]
        for at, mfn in enumerate(self.mfns):
            entry = GRANT_ENTRY_V1_CODEC.pack(GTF_permit_access, 0, mfn)
            hv.ram.words[guest.domain.grants.entries.slot(RING + at)] = int.from_bytes(entry, "little")
            hv.ram.frame(mfn)[:] = bytes(4096)

    def write(self, devid: int, node: str, value: object) -> None:
        path = f"/local/domain/{self.guest.domid}/device/vbd/{devid}/{node}"
        tree.write(self.guest.store.tree, Caller(self.guest.domid), path, str(value).encode())
        self.guest.store.settle()

    def connect(self, devid: int, which: int = 0) -> None:
        port = self.guest.domain.events.alloc_unbound(0)
        for node, value in (("ring-ref", RING + which), ("event-channel", port), ("protocol", "x86_64-abi")):
            self.write(devid, node, value)
        self.write(devid, "state", XenbusStateInitialised)
        self.write(devid, "state", XenbusStateConnected)

    def close(self, devid: int) -> None:
        self.write(devid, "state", XenbusStateClosing)
        self.write(devid, "state", XenbusStateClosed)


class Asking:
    """Asks for verbs as the host process does: on a loop of its own, while the hypervisor runs."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.access = BlockAccess(machine.host)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def begin(self, verb: str, domain: str, **arguments: Any) -> Any:
        call: Any = None
        coroutine: Any = self.access.handlers[verb](call, domain, **arguments)
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        future.add_done_callback(lambda _done: self.machine.hypervisor.post(lambda: None))  # which sleeps meanwhile
        return future

    def ask(self, verb: str, domain: str, **arguments: Any) -> Any:
        future = self.begin(verb, domain, **arguments)
        assert self.machine.hypervisor.run_until(future.done, 20)
        return future.result()

    def attach(self, domain: str, *parts: str) -> Any:
        return self.ask("block_attach", domain, disk=list(parse_parts(parts, Path.cwd())))

    def why(self, verb: str, domain: str, **arguments: Any) -> str:
        with pytest.raises(ToolstackError) as caught:
            self.ask(verb, domain, **arguments)
        return f"{caught.value.message} / {caught.value.hint}"


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as made:
        yield made
        assert not made.hypervisor.bugs


@pytest.fixture
def asking(machine: Machine) -> Iterator[Asking]:
    made = Asking(machine)
    yield made
    made.close()


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    for name in "abcd":
        (tmp_path / f"{name}.img").write_bytes(bytes(1 << 16))
    return [f"{name}.img" for name in "abcd"]


def idle(machine: Machine, name: str = "it", *disks: str) -> Guest:
    return machine.create("test-hello", name=name, clock="wall", disks=disks, paused=True)


def test_a_disk_is_attached_listed_and_detached(machine: Machine, asking: Asking, images: list[str]) -> None:
    guest = idle(machine, "it", "a.img,raw,xvda,rw")
    driver = Driver(machine, guest)
    made = asking.attach("it", "b.img", "vdev=xvdb", "access=ro")
    assert made == {"devid": 51728, "backend": f"/local/domain/0/backend/vbd/{guest.domid}/51728"}
    assert [disk.vdev for disk in guest.config.disks] == ["xvda", "xvdb"]
    row = {
        "name": "it", "domid": guest.domid, "vdev": "xvdb", "devid": 51728, "backend_id": 0, "handle": guest.domid,
        "state": 1, "evtch": -1, "rref": -1, "backend_state": 2, "access": "ro",
    }  # fmt: skip
    found = asking.ask("block_list", "it")[1]
    assert {key: found[key] for key in row} == row and found["target"] == str(Path("b.img").resolve())
    driver.connect(51728)
    found = asking.ask("block_list", "it")[1]
    assert (found["state"], found["backend_state"], found["rref"]) == (4, 4, RING) and found["evtch"] > 0

    image = guest.files[1].image
    detaching = asking.begin("block_detach", "it", disk="51728")
    back = f"{made['backend']}/state"
    assert machine.hypervisor.run_until(lambda: guest.store.read(back) == b"5", 10)
    assert not detaching.done()
    driver.close(51728)
    assert machine.hypervisor.run_until(detaching.done, 10) and detaching.result() is None
    assert [disk.vdev for disk in guest.config.disks] == ["xvda"] and len(guest.files) == len(guest.backends) == 1
    assert guest.store.children(f"/local/domain/{guest.domid}/device/vbd") == ("51712",)
    assert guest.store.children(f"/local/domain/0/backend/vbd/{guest.domid}") == ("51712",)
    machine.host.beside.do(lambda: None).result(10)
    guest.files[0].thread.do(lambda: None).result(10)
    with pytest.raises((ValueError, OSError)):
        image.read(0, 1)
    assert not accounting.problems(machine.hypervisor)
    asking.attach("it", "b.img,,xvdb")  # both may be had again


@pytest.mark.parametrize("never", [True, False])
def test_a_driver_that_keeps_a_disk(
    machine: Machine, asking: Asking, images: list[str], monkeypatch: pytest.MonkeyPatch, never: bool
) -> None:
    """It never connected, or does not close."""
    monkeypatch.setattr(block_access, "DESTROY_TIMEOUT_S", 0.2)
    guest, other = idle(machine), idle(machine, "other", "d.img,,xvda")
    asking.attach("it", "a.img,,xvda")
    driver = Driver(machine, guest)
    if not never:
        driver.connect(51712)
    said = asking.why("block_detach", "it", disk="xvda")
    assert "it did not release xvda within 0.2 s: the domain is paused / pvhv block-detach --force it xvda" in said
    guest.start()  # it might do something
    debugger = Debugger(guest.domain, lambda stop: None)
    assert plugging.why_kept(guest, guest.backends[0]) == "its debugger has stopped the domain"
    debugger.detach()
    said = plugging.why_kept(guest, guest.backends[0])
    assert said == (
        "no driver of the domain has found it" if never
        else "the domain's driver keeps it (Connected), perhaps because something there has it open"
    )  # fmt: skip
    assert len(guest.config.disks) == 1 and asking.ask("block_list", "it")[0]["backend_state"] == 5
    asking.ask("block_detach", "it", disk="xvda", force=True)
    assert not (guest.config.disks or guest.files or guest.backends)
    assert guest.store.children(f"/local/domain/{guest.domid}/device/vbd") == ()
    assert not accounting.problems(machine.hypervisor)
    assert len(other.backends) == 1
    asking.attach("other", "a.img,,xvdb")


def test_a_file_of_the_hosts_that_does_not_answer(
    machine: Machine, asking: Asking, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is asked for, then taken away when its requests are answered, and then taken away all the same."""
    monkeypatch.setattr(block_access, "ASKED_FIRST_S", 0.1)
    monkeypatch.setattr(block_access, "DESTROY_TIMEOUT_S", 0.3)
    guest = idle(machine, "it", "a.img,,xvda")
    Driver(machine, guest).connect(51712)
    (backend,) = guest.backends
    monkeypatch.setattr(backend.data, "drain", lambda drained: None)
    asking.ask("block_detach", "it", disk="xvda", force=True)
    assert backend.gone and not (guest.config.disks or guest.files or guest.backends)


def test_a_late_driver_gives_it_up_after_all(
    machine: Machine, asking: Asking, images: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_access, "DESTROY_TIMEOUT_S", 0.1)
    guest = idle(machine, "it", "a.img,,xvda")
    driver = Driver(machine, guest)
    driver.connect(51712)
    asking.why("block_detach", "it", disk="xvda")
    driver.close(51712)
    assert not (guest.config.disks or guest.files or guest.backends)


def test_what_cannot_be_attached(machine: Machine, asking: Asking, images: list[str]) -> None:
    guest = idle(machine, "it", "a.img,raw,xvda,rw")
    idle(machine, "reader", "b.img,,xvda,ro")

    def why(*parts: str) -> str:
        with pytest.raises(ToolstackError) as caught:
            asking.attach("it", *parts)
        return caught.value.message

    assert why("b.img,,51712") == "domain it has a disk 51712 already"
    assert "none.img" in why("none.img,,xvdb")
    assert "is a disk of domain it already" in why("a.img,,xvdb,ro")
    assert "is a disk of domain reader already" in why("b.img,,xvdb,rw")
    assert "two values for vdev" in why("b.img,,xvdb", "vdev=xvdc")
    assert "no domain nobody" in asking.why("block_list", "nobody")
    assert "domain it has no disk xvdq / pvhv block-list it shows them" in asking.why("block_detach", "it", disk="xvdq")
    assert "has no disk x\\x1b" in asking.why("block_detach", "it", disk="x\x1b" + "y" * 100)
    nonsense = DiskConfig("b.img", "xvdb", "all")
    assert "none that a domain file comes to" in asking.why("block_attach", "it", disk=nonsense)
    assert len(guest.files) == len(guest.backends) == len(guest.config.disks) == 1
    asking.attach("it", "b.img,,xvdb,ro")
    guest.config.disks += [guest.config.disks[0]._replace(vdev=f"xvd{letter}") for letter in "cdefghijklmnop"]
    assert why("c.img,,xvdz") == "domain it cannot be given xvdz: a domain has 16 disks at most"
    machine.host.destroy(guest)
    assert why("c.img,,xvdz") in ("domain it is dying: it cannot be given a disk", "there is no domain it")


def test_a_fully_virtualized_domain_has_no_driver(machine: Machine, asking: Asking, images: list[str]) -> None:
    machine.create("guest-native", name="full", technique="bare", paused=True)
    with pytest.raises(ToolstackError, match="full is fully virtualized"):
        asking.attach("full", "a.img,,xvdb")


def test_a_domain_that_goes_while_its_disk_is_detached(machine: Machine, asking: Asking, images: list[str]) -> None:
    guest = idle(machine, "it", "a.img,,xvda")
    Driver(machine, guest).connect(51712)
    detaching = asking.begin("block_detach", "it", disk="xvda")
    assert machine.hypervisor.run_until(lambda: guest.backends[0].state == 5, 10)
    machine.host.destroy(guest)
    assert machine.hypervisor.run_until(detaching.done, 10)
    assert machine.hypervisor.run_until(lambda: not machine.host.guests, 10)
    assert [disk.vdev for disk in guest.config.disks] == ["xvda"]  # of a life that follows


def test_a_domain_that_reboots_while_its_disk_is_detached(
    machine: Machine, asking: Asking, images: list[str]
) -> None:
    """The disk goes with this life, and comes with the next: it was not detached."""
    guest = idle(machine, "it", "a.img,,xvda")
    guest.config.on_poweroff = "restart"
    Driver(machine, guest).connect(51712)
    detaching = asking.begin("block_detach", "it", disk="xvda")
    assert machine.hypervisor.run_until(lambda: guest.backends[0].state == 5, 10)
    guest.start()
    assert machine.hypervisor.run_until(lambda: any(each is not guest for each in machine.host.guests.values()), 20)
    next_life = next(each for each in machine.host.guests.values() if each is not guest)
    next_life.config.on_poweroff = "preserve"  # it is there when the verb looks, however soon it ends
    assert machine.hypervisor.run_until(detaching.done, 10)
    with pytest.raises(ToolstackError, match="it began another life before it released xvda, and has it again"):
        detaching.result()


def test_disks_survive_a_reboot(machine: Machine, asking: Asking, images: list[str]) -> None:
    guest = idle(machine, "it", "a.img,,xvda")
    guest.config.on_poweroff = "restart"
    asking.attach("it", "b.img,,xvdb,ro")
    asking.ask("block_detach", "it", disk="xvda", force=True)
    host = machine.host
    guest.start()
    assert machine.hypervisor.run_until(lambda: any(each is not guest for each in host.guests.values()), 20)
    next_life = next(each for each in host.guests.values() if each is not guest)
    assert [(file.target.rpartition("/")[2], file.image.readonly) for file in next_life.files] == [("b.img", True)]
    next_life.config.on_poweroff = "destroy"


def test_what_was_asked_of_disks_is_counted_and_shown(machine: Machine, images: list[str]) -> None:
    """As by `pvhv top`, which asks twice."""
    guest = idle(machine, "it", "a.img,,xvda", "b.img,,xvdb")
    bare = {"vbds": 0, "rd_req": 0, "wr_req": 0, "f_req": 0, "ds_req": 0, "rd_sect": 0, "wr_sect": 0}
    assert plugging.counts(idle(machine, "bare")) == bare
    row = {"name": "it", "domid": 1, "state": "r", "time": 0.0, "memory": 8, "vcpus": 1, "hypercalls": {}, "exits": {}}
    before = {**row, "disks": plugging.counts(guest)}
    for backend in guest.backends:
        disk = backend.data
        assert isinstance(disk, Disk)
        disk.counts.rd_req, disk.counts.rd_sect, disk.counts.f_req = 10, 400, 3
    now = {**row, "disks": plugging.counts(guest)}
    assert now["disks"] == {**bare, "vbds": 2, "rd_req": 20, "rd_sect": 800, "f_req": 6}
    shown = top._rates(now, before, 2.0)
    assert shown["disks"]["rd_req_per_s"] == 10 and shown["disks"]["rd_sect_per_s"] == 400
    cells = dict(zip(top.COLUMNS, top._cells(shown), strict=True))
    assert (cells["VBD/s"], cells["VBD_KiB/s"]) == ("13", "200")
    assert top._rates(before, now, 2.0)["disks"]["rd_req_per_s"] == 0  # one was detached
    nothing = {**row, "disks": bare}
    assert top._cells(top._rates(nothing, nothing, 1.0))[top.COLUMNS.index("VBD/s")] == "-"


@pytest.mark.parametrize("vdev", ["hdc", "vda"])
def test_disks_of_a_pc_are_listed_counted_and_stay(
    machine: Machine, asking: Asking, images: list[str], vdev: str
) -> None:
    guest = machine.create(
        "guest-native", name="it", disks=[f"a.img,raw,{vdev},rw"], technique="hw-nested", memory=16, paused=True
    )
    model, number = ("ide", 5632) if vdev == "hdc" else ("virtio", -1)
    (row,) = asking.ask("block_list", "it")
    assert row == {
        "name": "it", "domid": guest.domid, "vdev": vdev, "devid": number, "backend_id": 0, "handle": guest.domid,
        "state": -1, "evtch": -1, "rref": -1, "backend": "", "backend_state": -1, "access": "rw",
        "target": str(Path("a.img").resolve()), "model": model,
    }  # fmt: skip
    (requests,) = pc_requests(guest).values()
    requests.counts.add(BLKIF_OP_WRITE, 9)
    assert plugging.counts(guest) == {**dict.fromkeys(plugging.counts(guest), 0), "vbds": 1, "wr_req": 1, "wr_sect": 9}
    for verb, more in (("block_detach", {"disk": vdev}), ("block_detach", {"disk": vdev, "force": True})):
        assert "it is fully virtualized: its disks are devices of a PC" in asking.why(verb, "it", **more)
