# SPDX-License-Identifier: GPL-2.0-or-later
"""Stock Linuxes to boot: fetched once, into the user's cache, outside of this tree."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from pvhv.testing import Result, boot
from tools import fetch_linux
from tools.linux import cpio
from tools.linux.deb import BadPackage


class Linux(NamedTuple):
    """The two files of it."""

    kernel: Path
    ramdisk: Path

    def busybox(self) -> bytes:
        """The program in it: to make another ramdisk of."""
        return dict(cpio.read(self.ramdisk.read_bytes()))["bin/busybox"]

    def modules(self) -> bytes:
        """The archive of the modules in it, which drive a disk: to make another ramdisk of."""
        made = self.ramdisk.with_name(self.ramdisk.name.replace("-initramfs", "-modules")).read_bytes()
        assert made, "the kernel came without modules"
        return made


def host_tool(name: str, package: str = "e2fsprogs") -> str:
    """A program of the host's. Those for file systems are often not on a user's path."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"there is no {name}: apt-get install {package}")
    return found


def fetched(**which: str) -> Linux:
    try:
        return Linux(*fetch_linux.fetch(**which))
    except (BadPackage, OSError) as error:
        pytest.skip(f"no Linux to boot, python3 tools/fetch_linux.py fetches one: {error}")


@pytest.fixture(scope="session")
def linux() -> Linux:
    return fetched()


@pytest.fixture(scope="session")
def backports() -> Linux:
    """The newest that Debian builds for its stable release."""
    return fetched(name=fetch_linux.BACKPORTS, suite=fetch_linux.BACKPORTS_SUITE)


@pytest.fixture(scope="session")
def without_root(linux: Linux) -> Result:
    """The end of one that panics, for want of a root file system."""
    return boot(linux.kernel, cmdline="console=hvc0", clock="wall", timeout=90, memory=128)


@pytest.fixture(scope="session")
def blkfront(linux: Linux) -> bytes:
    """The block device's front end of that Linux: Debian has it as a module."""
    return next(data for name, data in cpio.read(linux.modules()) if name.endswith("/xen-blkfront.ko"))
