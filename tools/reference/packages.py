# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages of a real Xen, from Debian's archive: hypervisor, toolstack, dom0's kernel, and a QEMU to run it.

They are fetched with all that they need (tools/linux/suites.py). Xen, its toolstack and the kernel are bookworm's,
whose Xen is the one we are compared with; QEMU is the next release's, as bookworm's 7.2 crashes a PV dom0 under TCG.

Invariant: all of it lies under one directory, fetched anew only when the archive has something newer.

This module does not know what is done with the packages (parts.py does).
"""

from __future__ import annotations

from pathlib import Path

from tools.linux.deb import BadPackage

XEN_RELEASE, QEMU_RELEASE = "bookworm", "trixie"
HYPERVISOR = "xen-hypervisor-4.17-amd64"
TOOLSTACK = ("xen-utils-4.17", "xenstore-utils", "busybox-static", "bash", "util-linux", "mount")
DOM0_KERNEL = "linux-image-amd64"
QEMU = "qemu-system-x86"


def version(package: Path) -> str:
    """A package's name, version and architecture, from its file's name. Raises BadPackage."""
    name, number, _architecture = package.stem.replace("%3a", ":").split("_")
    if not number:
        raise BadPackage(f"{package.name} is no package's name")
    return f"{name} {number}"
