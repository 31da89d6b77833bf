# SPDX-License-Identifier: GPL-2.0-or-later
"""Kill pvhvd again and again while a guest writes, and look whether anything is lost that the guest was told is safe.

    python tools/kill_test.py                   fifty kills, of a disk that is raw
    python tools/kill_test.py --format qcow2    ... that is qcow2
    python tools/kill_test.py --seed 7          the same moments again, as far as a host's time allows

A stock Linux appends records to a file on ext4, flushes each, and acknowledges it on its console
(tests/linux/programs/durable.c). At a random moment its pvhvd gets SIGKILL. Then:

- e2fsck finds a copy of the file system whole, once it has replayed the journal;
- qemu-img, if the image is qcow2, finds no corruption in it;
- the next boot finds each record that was acknowledged. It goes on from there, and is killed in its turn.

The process is killed, not the machine: what pvhvd wrote is in the host's page cache, and survives. So this shows that
nothing that a guest was told is safe is still in pvhvd. That it also reaches the host's disk is what fsync is for:
tests/linux/test_durability.py lets the power fail as well, once with an fsync that lies, which these checks notice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pvhv.toolstack import fetched  # noqa: E402
from pvhv.toolstack.paths import Paths  # noqa: E402
from tools.benchmark.cli import Pvhv, Session  # noqa: E402
from tools.benchmark.guests import Failed  # noqa: E402
from tools.linux import cpio, initramfs, programs  # noqa: E402

SOURCE = ROOT / "tests/linux/programs/durable.c"
KILLS = 50
DISK_MIB, MEMORY_MIB = 64, 128
MOST_RECORDS, MOST_S = 60, 0.05  # a kill comes after a record at least, so many at most; then within so many seconds
CORRECTED = 1  # e2fsck's status: it corrected errors, all of them; to replay a journal is none
QCOW2 = "qcow2"
CMDLINE = "console=hvc0 quiet rdinit=/root/init"
INIT = """\
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox --install -s
export PATH=/sbin:/usr/sbin:/bin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
exec </dev/console >/dev/console 2>&1
modprobe xen-blkfront
mount -t ext4 /dev/xvda /mnt
/root/durable /mnt
poweroff -f
"""
ACKNOWLEDGED = re.compile(rb"^(acknowledged|renamed) (\d+)\r?$", re.MULTILINE)
FOUND = re.compile(rb"^(records|name) (\d+)\r?$", re.MULTILINE)


class Lost(Exception):
    """Something is not there that should be; the text says what."""


class Life(NamedTuple):
    """What a guest said: the last record of each kind that it acknowledged (-1: none), and what it had found."""

    acknowledged: int
    renamed: int
    found: int
    name: int


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS, metavar="N", help=f"how many ({KILLS})")
    parser.add_argument("--format", choices=("raw", QCOW2), default="raw", help="of the disk (raw)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="of the moments")
    given = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    with tempfile.TemporaryDirectory(prefix="pvhv-kill-") as directory:
        try:
            run(Path(directory), given.kills, seed, given.format)
        except (Lost, Failed) as error:
            print(f"kill_test: {error}", file=sys.stderr)
            return 1
    return 0


def run(directory: Path, kills: int, seed: int, format_: str = "raw") -> list[Life]:
    """Kill so many times. Raises Lost if something is lost, Failed if a guest does not do its work."""
    print(f"{kills} kills, {format_}, seed {seed}", flush=True)
    dice = random.Random(seed)
    image = make_image(directory, format_)
    domain = domain_file(directory, image, format_)
    lives: list[Life] = []
    safe = named = -1
    for number in range(kills + 1):
        life = live(directory, domain, dice)
        check_found(life, safe, named)
        safe, named = max(life.found - 1, life.acknowledged), max(life.name if life.renamed < 0 else -1, life.renamed)
        lives.append(life)
        check_image(directory, image, format_)
        if number < kills:
            print(f"kill {number + 1}: {life.found} records found, {life.acknowledged + 1} acknowledged", flush=True)
    return lives


def check_found(life: Life, safe: int, named: int) -> None:
    """Raises Lost if a guest did not find what its forerunner was told is safe."""
    if life.found <= safe:
        raise Lost(f"record {safe} was acknowledged, and of {safe + 1} records {life.found} are there")
    if life.name < named:
        raise Lost(f"the file was renamed to {named}, and says {life.name}")


def live(directory: Path, domain: Path, dice: random.Random) -> Life:
    """Boot, let the guest write for a while, and kill its pvhvd. Returns what it said."""
    pvhv = Pvhv()
    try:
        session = Session(pvhv, "create", "-c", str(domain), quiet=True)
        session.until(b"records ")
        said = kill(pvhv, session, dice)
    finally:
        shutil.rmtree(pvhv.directory, ignore_errors=True)
    return told(said)


def told(said: bytes) -> Life:
    """What a guest said on its console. Raises Failed if it did not say what it found."""
    last = {kind: int(number) for kind, number in ACKNOWLEDGED.findall(said)}
    found = {kind: int(number) for kind, number in FOUND.findall(said)}
    if len(found) != 2:
        raise Failed(f"the guest did not say what it found: {said[-500:]!r}")
    return Life(last.get(b"acknowledged", -1), last.get(b"renamed", -1), found[b"records"], found[b"name"])


def kill(pvhv: Pvhv, session: Session, dice: random.Random) -> bytes:
    """Let a guest acknowledge some records, and kill its pvhvd. Returns all that the guest said. Raises Failed."""
    pid = host_process(pvhv)
    for _ in range(dice.randint(1, MOST_RECORDS)):
        session.until(b"\nacknowledged ")
    time.sleep(dice.random() * MOST_S)
    os.kill(pid, signal.SIGKILL)
    return session.all()


def host_process(pvhv: Pvhv) -> int:
    """The process id of the pvhvd that listens in a runtime directory. A command that asks for it would take half a
    second, in which the guest would write on."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(Paths(Path(pvhv.directory)).socket))
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def make_image(directory: Path, format_: str) -> Path:
    """An image with an empty ext4. Raises Failed."""
    image, raw = directory / f"disk.{format_}", directory / "disk.raw"
    command(tool("mke2fs"), "-q", "-t", "ext4", str(raw), f"{DISK_MIB}M")
    if format_ == QCOW2:
        command(tool("qemu-img"), "convert", "-O", QCOW2, str(raw), str(image))
        raw.unlink()
    return image


def check_image(directory: Path, image: Path, format_: str) -> None:
    """Raises Lost if a checker of the image's, or of the file system's on it, finds something wrong."""
    copy = directory / "copy"
    if format_ == QCOW2:
        checked = subprocess.run(
            [tool("qemu-img"), "check", "--output=json", str(image)], capture_output=True, text=True, check=False
        )
        found = json.loads(checked.stdout or "{}")
        if found.get("corruptions", 0) or found.get("check-errors", 1):
            raise Lost(f"qemu-img check finds the image corrupt:\n{checked.stdout}{checked.stderr}")
        command(tool("qemu-img"), "convert", "-O", "raw", str(image), str(copy))
    else:
        shutil.copyfile(image, copy)
    check_file_system(copy)


def check_file_system(image: Path) -> None:
    """Have e2fsck repair the file system, and look at it again. Raises Lost if it finds more than a crash leaves."""
    for option in ("-p", "-n"):
        done = subprocess.run([tool("e2fsck"), "-f", option, str(image)], capture_output=True, text=True, check=False)
        if done.returncode > (CORRECTED if option == "-p" else 0):
            raise Lost(f"e2fsck {option} finds the file system damaged:\n{done.stdout}{done.stderr}")


def domain_file(directory: Path, image: Path, format_: str) -> Path:
    """The domain file of the guest. Raises Failed."""
    paths = [fetched.find(f"debian-{name}") for name in ("vmlinuz", "initramfs", "modules")]
    kernel, example, modules = paths
    if kernel is None or example is None or modules is None:
        raise Failed("there is no Linux to boot: python3 tools/fetch_linux.py fetches one")
    busybox = dict(cpio.read(example.read_bytes()))["bin/busybox"]
    extra = {"durable": programs.build(SOURCE), "init": INIT.encode()}
    (directory / "initramfs").write_bytes(initramfs.build(busybox, extra, modules.read_bytes()))
    lines = {
        "name": "durable", "kernel": str(kernel), "ramdisk": "initramfs", "memory": MEMORY_MIB, "cmdline": CMDLINE,
        "disk": [f"{image},{format_},xvda,rw"],
    }  # fmt: skip
    made = directory / "durable.cfg"
    made.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items()))
    return made


def command(*words: str) -> None:
    """Run a tool of the host's. Raises Failed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")


def tool(name: str) -> str:
    """A program of the host's; those for file systems are often not on a user's path. Raises Failed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise Failed(f"there is no {name}: apt-get install {'qemu-utils' if name == 'qemu-img' else 'e2fsprogs'}")
    return found


if __name__ == "__main__":
    sys.exit(main())
