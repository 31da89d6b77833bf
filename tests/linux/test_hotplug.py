# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that come and go while a stock Linux runs: its own xen-blkfront finds them and gives them up.

The record of a real Xen (tests/reference/disks.txt) is followed: its commands are given here, in its order and to the
same driver. They end the same, and leave the same nodes in xenstore.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pvhv.abi.io.xenbus import XenbusStateConnected
from pvhv.devices.block.disk import Disk
from pvhv.devices.xenbus import state_of
from pvhv.testing import Machine
from pvhv.toolstack import block_access
from pvhv.toolstack.disk_spec import parse_parts
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import Guest
from tests.linux.conftest import Linux
from tests.toolstack.store_nodes import of_disk
from tests.toolstack.test_plugging import Asking
from tools.linux import initramfs
from tools.reference import disks

pytestmark = pytest.mark.linux

XVDA, XVDB, XVDC, XVDD = 51712, 51728, 51744, 51760
PATIENCE = 60.0
RECORD = disks.load()
STEP = re.compile(r"\$ xl (block-\w+) (?:(--force) )?1 ?(.*)")
MODPROBE = re.compile("modprobe: .*\n")
STATUS = re.compile("status ([0-9]+)")


class Session:
    """A Linux with a shell, of which things are asked at its console and by the verbs for disks."""

    def __init__(self, machine: Machine, guest: Guest) -> None:
        self.machine, self.guest, self.asking = machine, guest, Asking(machine)
        self.said = 0

    def until(self, done: Callable[[], bool]) -> None:
        assert self.machine.hypervisor.run_until(done, PATIENCE), self.text[-2000:]

    def sh(self, script: str) -> str:
        """What a script prints."""
        self.said += 1
        line = f"echo; echo BEGIN$(({self.said})); {script}; echo; echo END$(({self.said}))\n"
        self.guest.console.type_ahead(line.encode())
        self.guest.console.pump()
        pattern = re.compile(rf"\nBEGIN{self.said}\n(.*?)\n+END{self.said}\n", re.DOTALL)
        self.until(lambda: pattern.search(self.text) is not None)
        return pattern.findall(self.text)[0]

    @property
    def text(self) -> str:
        """What is on its console, without what modprobe says at any time while it boots: it has no modules."""
        return MODPROBE.sub("", self.guest.console.output().decode().replace("\r", ""))

    def begin(self) -> None:
        """Boot, and load the driver."""
        self.guest.start()
        self.sh("echo >/proc/sys/kernel/modprobe; insmod /root/xen-blkfront.ko")  # there are no other modules
        self.sh("until [ -b /dev/xvda ]; do sleep 0.1; done")
        self.connected(XVDA)

    def connected(self, devid: int) -> None:
        """Wait until both ends are."""
        ends = (f"/local/domain/{self.guest.domid}/device/vbd/{devid}", f"/local/domain/0/backend/vbd/1/{devid}")
        store = self.guest.store
        self.until(lambda: all(state_of(store.read(f"{end}/state")) == XenbusStateConnected for end in ends))

    def follow(self, part: str) -> None:
        """Give the commands of a part of the record, and compare how they end."""
        steps = iter(RECORD[part])
        for line in steps:
            if (step := STEP.fullmatch(line)) is None:
                continue
            status = next(int(match[1]) for each in steps if (match := STATUS.fullmatch(each)))
            try:
                self._do(step[1], bool(step[2]), step[3].split())
                ended = 0
            except ToolstackError:
                ended = 1
            assert ended == status, line

    def _do(self, verb: str, force: bool, words: list[str]) -> None:
        domain = self.guest.name
        match verb:
            case "block-attach":
                parts = [word.replace("/tmp/", "") for word in words]
                self.asking.ask("block_attach", domain, disk=list(parse_parts(parts, Path.cwd())))
            case "block-detach":
                self.asking.ask("block_detach", domain, disk=words[0], force=force)
            case _:
                self.asking.ask("block_list", domain)

    def compare(self, part: str, devid: int) -> None:
        """Compare the nodes of a disk with those of a part of the record."""
        there = disks.nodes(RECORD[part])
        here = of_disk(self.guest.store, self.guest.domid, devid)
        assert not disks.unexplained(part, disks.differences(there, here))


@pytest.fixture
def session(
    linux: Linux, blkfront: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Session]:
    """A Linux that has not begun, with xvda."""
    monkeypatch.chdir(tmp_path)
    for name in "abcd":
        Path(f"{name}.img").write_bytes(f"this is {name}".encode().ljust(1 << 20, b"."))
    ramdisk = tmp_path / "initramfs"
    ramdisk.write_bytes(initramfs.build(linux.busybox(), {"xen-blkfront.ko": blkfront}))
    with Machine() as machine:
        guest = machine.create(
            str(linux.kernel), ramdisk=str(ramdisk), cmdline="console=hvc0 quiet", memory=128, clock="wall",
            disks=["a.img,raw,xvda,w"], paused=True,
        )  # fmt: skip
        made = Session(machine, guest)
        yield made
        made.asking.close()
        assert not machine.hypervisor.bugs


def test_the_record_of_a_real_xen_is_followed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    guest, host = session.guest, session.machine.host
    with monkeypatch.context() as hurried:
        hurried.setattr(block_access, "DESTROY_TIMEOUT_S", 0.2)
        session.follow("a disk that no driver found")
    session.begin()
    session.compare("connected", XVDA)

    session.follow("attached")
    session.connected(XVDB)
    session.connected(XVDC)
    session.compare("attached", XVDC)
    assert session.sh("head -c 9 /dev/xvdb; cat /sys/block/xvdc/ro; head -c 9 /dev/xvdc") == "this is b1\nthis is c"
    listed = session.asking.ask("block_list", guest.name)
    theirs = [line.split() for line in RECORD["listed"] if line.startswith("5")]
    ours = [[str(row[name]) for name in ("devid", "backend_id", "handle", "state", "backend")] for row in listed]
    assert [[*row[:4], row[6]] for row in theirs] == ours

    session.follow("refused")
    session.follow("detached")
    assert session.sh("until [ ! -b /dev/xvdc ]; do sleep 0.1; done; echo /dev/xvd*") == "/dev/xvda /dev/xvdb"
    # Linux gives up a disk that somebody has open, and whoever has it gets errors.
    session.sh("exec 5<>/dev/xvdb; head -c 4 <&5")
    session.follow("open in the guest")
    assert of_disk(guest.store, guest.domid, XVDB) == {}
    assert session.sh("echo more 2>/dev/null >&5; echo ended $?") == "ended 1"

    host.pause(guest)
    with monkeypatch.context() as hurried:
        hurried.setattr(block_access, "DESTROY_TIMEOUT_S", 0.2)
        why = session.asking.why("block_detach", guest.name, disk="xvda")
    assert "did not release xvda within 0.2 s: the domain is paused / pvhv block-detach --force guest xvda" in why
    session.compare("paused", XVDA)
    session.asking.ask("block_detach", guest.name, disk="xvda", force=True)
    assert of_disk(guest.store, guest.domid, XVDA) == {} and not guest.config.disks
    host.unpause(guest)
    assert session.sh("until [ ! -b /dev/xvda ]; do sleep 0.1; done; echo all gone") == "all gone"


def test_a_disk_that_goes_in_the_middle_of_io(session: Session) -> None:
    """Asked for or taken away: programs get errors, the domain goes on, another disk works, and the same one can be had
    again."""
    session.begin()
    for force in (False, True):
        session.asking.attach("guest", "b.img,,xvdb")
        session.connected(XVDB)
        session.sh("until head -c 9 /dev/xvdb; do sleep 0.1; done; rm -f /tmp/end")
        reading = "while dd if=/dev/xvdb of=/dev/null bs=64k iflag=direct 2>/tmp/why; do :; done; echo over >/tmp/end"
        session.sh(f"({reading}) & true")
        disk = next(each for each in session.guest.backends if each.number == XVDB).data
        assert isinstance(disk, Disk)
        begun = disk.counts.rd_req
        session.until(lambda disk=disk, begun=begun: disk.counts.rd_req > begun + 50)
        session.asking.ask("block_detach", "guest", disk="xvdb", force=force)
        said = session.sh("until [ -e /tmp/end ]; do sleep 0.1; done; cat /tmp/why /tmp/end; head -c 9 /dev/xvda")
        assert said.endswith("over\nthis is a"), said
        session.sh("until [ ! -b /dev/xvdb ]; do sleep 0.1; done")
    assert Path("b.img").read_bytes()[:9] == b"this is b"
