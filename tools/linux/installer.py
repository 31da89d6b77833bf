# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk with Debian on it, made without root and on any host: a guest makes the file system and unpacks the packages.

    packages, and what they need      by apt, as if nothing were installed (suites.py), or without apt (plain.py)
    one tar of them                   as dpkg has them before they are configured (rootfs.py)
    first boot of a guest             mke2fs, tar, `dpkg --configure` (disk/first-boot.sh, disk/configure.sh)
    the disk                          an image, raw or qcow2; and beside it kernel and initramfs, which that boot made

The guest is the Linux that was fetched, and runs in this process. It has mke2fs from the packages themselves. So the
host needs nothing but pvhv.

Invariant: the disk appears when it is whole, and one that is there is not touched: somebody's work is on it. Packages
that were fetched stay, so after an interruption the next run begins with the tar.

Not modelled: partitions, other file systems, a network in the guest.

Read beside it: debootstrap(8), multistrap(1).
"""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pvhv.build.cache import write_whole
from tools.linux import deb, debian, initramfs, mirror, rootfs
from tools.linux.cpio import Archive
from tools.linux.cpio import read as read_cpio
from tools.linux.deb import BadPackage
from tools.linux.debian import RELEASE
from tools.linux.pieces import say
from tools.linux.plain import Plain
from tools.linux.suites import Suites

BOOK = Path(__file__).parent / "disk"
MKE2FS = ("sbin/mke2fs", "etc/mke2fs.conf")
LIBRARIES = ("libext2fs.so", "libcom_err.so", "libblkid.so", "libuuid.so", "libe2p.so", "libc.so", "ld-linux-x86-64.so")
BACK_MIB, MEMORY_MIB = 256, 512
MOST_S = 3 * 3600.0  # on a slow host
BEAT_S = 5.0
ROOM = 1.15  # of a file system, beside the files: its own tables and journal
JOURNAL = 40 << 20


class Contents(NamedTuple):
    """What is on a disk."""

    packages: tuple[str, ...]
    only_to_make: tuple[str, ...] = ()  # packages that the making needs, and the disk does not have


SYSTEM = Contents((
    "?priority(required)", "usr-is-merged", "apt", "systemd-sysv", "udev", "linux-image-amd64", "initramfs-tools",
    "e2fsprogs",
))  # fmt: skip
SMALL = Contents(
    ("base-files", "base-passwd", "busybox", "dash", "dpkg", "libc-bin", "mawk", "usr-is-merged"), ("e2fsprogs",)
)


FORMATS = {"raw": "-disk", "qcow2": "-qcow2-disk"}  # what follows the name of a disk: domain files find what ends so


def make(
    place: Path, name: str, size: int, contents: Contents, *, format_: str = "raw", from_mirror: str = "",
) -> Path:
    """Make the disk `NAME-disk` of `size` bytes in `place`, where the Linux of that name is; in the format qcow2 it is
    `NAME-qcow2-disk`. The packages come by apt, or from a mirror (mirror.chosen). Returns its path. Raises BadPackage,
    OSError."""
    disk = place / f"{name}{FORMATS[format_]}"
    if disk.exists():
        say(f"{disk} is there; to make another, remove it or say another --name")
        return disk
    suites = _suites(place / "packages", mirror.chosen(from_mirror, debian.is_here()))
    suites.update()
    packages = suites.with_all_they_need(*contents.packages)
    helpers = suites.with_all_they_need(*contents.only_to_make) if contents.only_to_make else []
    scratch = place / f".fetch-disk-{os.getpid()}"
    scratch.mkdir()
    try:
        _tar(packages, scratch / "packages", size)
        ramdisk = _ramdisk(place, name, scratch, [*packages, *helpers])
        for file, kind, length in (("disk", format_, size), ("back", "raw", BACK_MIB << 20)):
            _image(scratch / file, kind, length)
        _first_boot(place / f"{name}-vmlinuz", ramdisk, scratch, format_, len(packages))
        _take_back(scratch / "back", disk)
        (scratch / "disk").rename(disk)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    say(f"{disk}")
    return disk


def _image(path: Path, format_: str, size: int) -> None:
    """A new image without anything on it. Raises BadPackage."""
    from pvhv.images.image import BadImage  # not where packages are only fetched: that needs nothing installed
    from pvhv.images.making import create

    try:
        create(str(path), format_, size, {})
    except BadImage as error:
        raise BadPackage(str(error)) from None


def _suites(place: Path, address: str) -> Suites | Plain:
    """Where packages come from: a mirror's address, or apt if there is none."""
    return Plain(place / RELEASE, address, RELEASE, say) if address else Suites(place, RELEASE, say)


def _tar(packages: Sequence[Path], made: Path, size: int) -> None:
    """Write the tar of the packages. Raises BadPackage if it is larger than a disk of `size` bytes has room for."""
    scripts = {"root/configure.sh": (BOOK / "configure.sh").read_bytes()}
    told = time.monotonic()
    done = 0

    def progress(package: Path) -> None:
        nonlocal told, done
        done += 1
        if time.monotonic() - told >= BEAT_S:
            told = time.monotonic()
            say(f"unpacking {package.name}: {done} of {len(packages)}")

    with made.open("wb") as out:
        rootfs.write(packages, scripts, out, progress)
    needed = int(made.stat().st_size * ROOM) + JOURNAL
    if needed > size:
        raise BadPackage(
            f"the packages have {made.stat().st_size >> 20} MiB, so a disk of {size >> 20} MiB is too small for them: "
            f"say at least {-(-needed >> 20)}M"
        )
    if shutil.disk_usage(made.parent).free < needed:
        what = f"no room for a disk with {needed >> 20} MiB on it (PVHV_CACHE_DIR may name another place)"
        raise OSError(errno.ENOSPC, what, str(made.parent.parent))


def _ramdisk(place: Path, name: str, scratch: Path, packages: Sequence[Path]) -> Path:
    """The ramdisk of the first boot: the fetched one's busybox and modules, our script, and mke2fs."""
    entries = dict(read_cpio((place / f"{name}-initramfs").read_bytes()))
    modules = (place / f"{name}-modules").read_bytes()
    if not modules:
        raise BadPackage(f"{name}-vmlinuz came without modules, so it has no driver for the disk that it should make")
    archive = Archive()
    libraries = LIBRARIES
    for package in packages:
        if package.name.startswith(("e2fsprogs_", "libext2fs2", "libcom-err2", "libblkid1", "libuuid1", "libc6_")):
            for member in deb.members(package, lambda path: path in MKE2FS or path.endswith("/mke2fs") or any(
                    library in path for library in libraries)):  # fmt: skip
                if member.link:
                    archive.link(member.name, member.link)
                else:
                    archive.file(member.name, member.data, member.mode)
    if not any(entry.endswith("/mke2fs") for entry in archive.entries):
        raise BadPackage("the packages have no mke2fs")
    script = f"{initramfs.MOUNTS}{(BOOK / 'first-boot.sh').read_text()}".encode()
    made = scratch / "initramfs"
    made.write_bytes(initramfs.build(entries["bin/busybox"], {"first-boot": script}, modules + archive.to_bytes()))
    return made


def _first_boot(kernel: Path, ramdisk: Path, scratch: Path, format_: str, packages: int) -> None:
    """Run the guest that makes the disk, to its end. Raises BadPackage."""
    from pvhv.testing import Machine  # as above
    from pvhv.toolstack.errors import ToolstackError

    files = (("disk", f"{format_},xvda,rw"), ("packages", "raw,xvdb,ro"), ("back", "raw,xvdc,rw"))
    disks = [f"{scratch / name},{how}" for name, how in files]
    began = time.monotonic()
    try:
        with Machine(MEMORY_MIB) as machine:
            guest = machine.create(
                kernel, ramdisk=ramdisk, memory=MEMORY_MIB, clock="wall", disks=disks,
                cmdline="console=hvc0 quiet rdinit=/root/first-boot label=debian",
            )  # fmt: skip
            teller = _Teller(packages)
            reader = guest.console.follow(lambda: teller.hear(reader.take()))
            machine.run(guest, timeout=MOST_S)
            said = machine.result(guest).output
    except ToolstackError as error:
        raise BadPackage(f"the guest that makes the disk does not start: {error}") from None
    if "== done" not in teller.steps:
        last = "\n".join(said.splitlines()[-15:])
        raise BadPackage(f"the guest that makes the disk did not come to its end; it said:\n{last}")
    say(f"that took {time.monotonic() - began:.0f} s")


class _Teller:
    """Says how far the guest is, by what it says."""

    def __init__(self, packages: int) -> None:
        self.packages = packages
        self.steps: list[str] = []
        self._configured = 0
        self._line = ""
        self._told = time.monotonic()

    def hear(self, data: bytes) -> None:
        *lines, self._line = (self._line + data.decode("utf-8", "replace")).split("\n")
        for line in map(str.strip, lines):
            if line.startswith("== "):
                self.steps.append(line)
                say(f"in the guest: {line[3:]}")
            self._configured += line.startswith("Setting up ")
        if time.monotonic() - self._told >= BEAT_S and self._configured:
            self._told = time.monotonic()
            say(f"in the guest: {self._configured} of {self.packages} packages are configured")


def _take_back(back: Path, disk: Path) -> None:
    """Put kernel and initramfs that the guest made, if it made some, beside the disk."""
    with tarfile.open(back) as tar:
        for member, suffix in (("./vmlinuz", "vmlinuz"), ("./initrd.img", "initramfs")):
            if member in tar.getnames() and (file := tar.extractfile(member)) is not None:
                write_whole(disk.with_name(f"{disk.name}-{suffix}"), file.read())


def parse_size(text: str) -> int:
    """Bytes, from 64M or 2G. Raises ValueError."""
    unit = {"M": 20, "G": 30, "T": 40}.get(text[-1:].upper())
    if unit is None or not text[:-1].isdecimal() or not int(text[:-1]):
        raise ValueError(text)
    return int(text[:-1]) << unit
