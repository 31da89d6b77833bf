# SPDX-License-Identifier: GPL-2.0-or-later
"""Our backends by front ends that nobody here wrote: a stock Linux's xen-blkfront, and its hvc_xen."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pvhv.devices.console.console import Console
from pvhv.images.qcow2.disk import Qcow2Image
from pvhv.testing import Machine, Result
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.disk_spec import DiskConfig
from tests.images.lab import contents, look, make_image
from tests.linux.conftest import Linux
from tools.linux import initramfs

pytestmark = pytest.mark.linux

MIB = 1 << 20
COPY = """\
insmod /root/xen-blkfront.ko
cat /sys/block/xvda/size /sys/block/xvda/ro
md5sum /dev/xvda
dd if=/dev/xvda of=/dev/xvda bs=1M count=1 seek=2 conv=notrunc
dd if=/dev/zero of=/dev/xvda bs=512 count=3 seek=2047 conv=notrunc,fsync
sync
poweroff -f
"""


@pytest.fixture(scope="session")
def ramdisk(linux: Linux, blkfront: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("blkfront") / "initramfs"
    made.write_bytes(initramfs.build(linux.busybox(), {"xen-blkfront.ko": blkfront}))
    return made


def run(linux: Linux, ramdisk: Path, script: str, *disks: str, clock: str = "wall") -> Result:
    with Machine() as machine:
        guest = machine.create(
            str(linux.kernel), ramdisk=str(ramdisk), cmdline="console=hvc0 quiet", memory=128, clock=clock,
            stdin=script, disks=disks,
        )  # fmt: skip
        assert machine.run(guest, timeout=180), machine.result(guest).output
        return machine.result(guest)


def slowly(method: Callable[..., Any], dice: random.Random) -> Callable[..., Any]:
    return lambda *given: (time.sleep(dice.random() / 100), method(*given))[1]


def test_it_reads_and_writes(
    linux: Linux, ramdisk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read is what is in the image; what was written is, when it has powered off. On a virtual clock it is the
    same run, be the host's disk fast or slow, and the image raw or qcow2 above a raw one."""
    image, pattern = tmp_path / "image", random.Random(12).randbytes(4 * MIB)
    expected = pattern[: 2 * MIB] + pattern[:MIB] + pattern[3 * MIB :]
    expected = expected[: 2047 * 512] + bytes(3 * 512) + expected[2050 * 512 :]
    results = []
    dice = random.Random(1)
    for format_ in ("raw", "qcow2"):
        image.write_bytes(pattern)
        if format_ == "qcow2":
            image.rename(tmp_path / "below")
            make_image(image, 4 * MIB, backing_file="below", backing_format="raw")
            for name in ("read", "write"):
                monkeypatch.setattr(Qcow2Image, name, slowly(getattr(Qcow2Image, name), dice))
        results.append(run(linux, ramdisk, COPY, f"{image},{format_},xvda,rw", clock="virtual"))
        assert contents(image, format_) == expected
    assert look(image).is_clean and (tmp_path / "below").read_bytes() == pattern
    assert {"8192", "0", f"{hashlib.md5(pattern).hexdigest()}  /dev/xvda"} <= set(results[0].lines)
    assert results[0].raw == results[1].raw
    assert results[0].counters == results[1].counters


USES = """\
insmod /root/xen-blkfront.ko max_ring_page_order=1 max_indirect_segments=16
cd /sys/block; for disk in *; do echo $disk $(cat $disk/size $disk/ro $disk/queue/logical_block_size); done
echo segments=$(cat xvda/queue/max_segments) queues=$(ls xvda/mq | wc -w)
dmesg | grep -o 'xvda: .*indirect descriptors: [a-z]*'
dd if=/dev/xvda of=/dev/xvdb bs=1M iflag=direct oflag=direct conv=notrunc; head -c 7 /dev/xvdc; echo
blkdiscard -o 1048576 -l 1048576 /dev/xvda; echo ready
until [ $(cat xvda/size) -gt 8192 ]; do usleep 99999; done
echo grown=$(cat xvda/size); echo 8192 | dd of=/dev/xvda seek=12287 conv=fsync,notrunc
head -c 7 /dev/xvde; echo; dd if=/dev/zero of=/dev/xvde count=1; dd if=/dev/xvde of=/dev/xvdf count=1 conv=fsync
cat /sys/bus/xen/devices/console-1/state; read line </dev/hvc1; echo it said $line >/dev/hvc1
poweroff -f
"""


def test_what_its_front_ends_use(linux: Linux, ramdisk: Path, tmp_path: Path) -> None:
    """Rings of two pages, a ring for each of two vCPUs, 16 segments, persistent grants, and discarding; sectors of 4096
    bytes, a CD-ROM drive and an empty one, and a disk that is not written to; and it notices that a disk has become
    longer which nobody uses. Beside them a second console, which is found by xenbus: what is typed at it is heard, and
    what is said there comes out."""
    first, second, third, last = (tmp_path / name for name in ("first", "second", "third", "last"))
    fixed = tmp_path / "fixed, with a comma"
    pattern = random.Random(3).randbytes(4 * MIB)
    first.write_bytes(pattern)
    second.write_bytes(bytes(4 * MIB))
    third.write_bytes(b"a disc.".ljust(2048))
    fixed.write_bytes(b"read me".ljust(512, b"."))
    last.write_bytes(bytes(MIB))
    with Machine() as machine:
        guest = machine.create(
            str(linux.kernel), ramdisk=str(ramdisk), cmdline="console=hvc0 quiet", memory=192, clock="wall", vcpus=2,
            stdin=USES, paused=True,
            disks=(
                f"{first},,xvda", f"sector-size=4096,{second},,xvdb", f"{third},,xvdc,,cdrom", "vdev=xvdd,cdrom",
                f"vdev=xvde, access=ro, target={fixed}", f"{last},,xvdf",
            ),
        )  # fmt: skip
        other = Console()
        guest.plug("console", 1, other)
        other.type_ahead(b"over there\n")
        guest.start()
        ready = [False]

        def grown() -> bool:
            if not ready[0] and b"\nready" in guest.console.output():
                ready[0] = True
                os.truncate(first, 6 * MIB)
            return guest in machine.ended

        assert machine.hypervisor.run_until(grown, 180), guest.console.output().decode()
        result = machine.result(guest)
    assert {"xvda 8192 0 512", "xvdb 8192 0 4096", "xvdc 4 1 512", "xvdd 0 1 512", "a disc."} <= set(result.lines)
    assert {"xvde 1 1 512", "read me"} <= set(result.lines) and "/dev/xvde': Operation not permitted" in result.output
    assert fixed.read_bytes() == b"read me".ljust(512, b".") == last.read_bytes()[:512]
    assert "Connected" in result.lines and "it said over there" in other.output().decode()
    assert {"segments=16 queues=2", "grown=12288"} <= set(result.lines)
    assert "persistent grants: enabled; indirect descriptors: enabled" in result.output
    assert first.read_bytes()[:-512] == pattern[:MIB] + bytes(MIB) + pattern[2 * MIB :] + bytes(2 * MIB - 512)
    assert first.read_bytes()[-512:-507] == b"8192\n" and second.read_bytes() == pattern


def test_another_life_has_it_again(linux: Linux, ramdisk: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(MIB))
    life = "insmod /root/xen-blkfront.ko; {}; reboot -f\n"
    lives = [
        life.format("echo one >/dev/xvda"),
        life.format("echo then $(head -c 3 /dev/xvda); echo two >/dev/xvda").replace("reboot", "poweroff"),
    ]
    with Machine() as machine:
        config = DomainConfig(
            "guest", linux.kernel, ramdisk=ramdisk, cmdline="console=hvc0 quiet", memory=128, maxmem=128,
            disks=[DiskConfig(str(image), "xvda", "rw")], on_poweroff="preserve",
        )  # fmt: skip
        guest = machine.host.create(machine.prepare(config), paused=True)
        guest.console.type_ahead(lives[0].encode())
        machine.host.listeners.append(
            lambda new, what: new.console.type_ahead(lives[1].encode()) if what == "restarted" else None
        )
        guest.start()
        assert machine.hypervisor.run_until(lambda: bool(machine.ended), 180), guest.console.output().decode()
        (ended,) = machine.ended
        assert ended is not guest and "then one" in machine.result(ended).lines
        assert guest.ended is not None and guest.ended.status == 10
    assert image.read_bytes()[:4] == b"two\n"
