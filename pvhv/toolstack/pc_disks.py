# SPDX-License-Identifier: GPL-2.0-or-later
"""The disks of a fully virtualized domain: by its name, each is one device of the PC.

    hda, hdb, hdc, hdd   IDE, as xl has QEMU emulate them: two channels with a master and a slave each
    vda to vdp           virtio on the PCI bus; not xl's, whose guests find their disks by xenbus instead

A fully virtualized domain has no xenbus here. So a name of a disk that only a split driver would find (xvda), and which
xl does not emulate either, is refused.

Read beside it: libxl__build_device_model_args_new in tools/libs/light/libxl_dm.c; pvhv/hvm/platform/platform.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pvhv.hvm.platform.asked import Requests
from pvhv.hvm.platform.platform import Platform
from pvhv.hvm.platform.storage import Backing, Memory
from pvhv.toolstack.disk_spec import IDE, SECTOR_SIZES, VIRTIO, DiskConfig


class Place(NamedTuple):
    """A device: which one of its kind."""

    virtio: bool
    number: int


def place_of(vdev: str) -> Place | None:
    """The device that a disk of this name is; None if it is none of a PC's."""
    for virtio, names in ((False, IDE), (True, VIRTIO)):
        if match := names.fullmatch(vdev):
            return Place(virtio, ord(match[1]) - ord("a"))
    return None


def why_not(disks: Sequence[DiskConfig]) -> tuple[str, str] | None:
    """Why a fully virtualized domain cannot have these, and a hint; None if it can."""
    for disk in disks:
        place = place_of(disk.vdev)
        if place is None:
            return (
                f"a fully virtualized domain has no disk {disk.vdev} here, for it has no xenbus",
                "hda to hdd are IDE disks, vda to vdp virtio disks",
            )
        if disk.cdrom:
            return f"a fully virtualized domain has no CD-ROM drive ({disk.vdev}) here", "access=ro has vda read-only"
        if disk.sector_size != SECTOR_SIZES[0]:
            return f"the disks of a fully virtualized domain ({disk.vdev}) have sectors of 512 bytes", ""
        if disk.readonly and not place.virtio:
            return f"an IDE disk ({disk.vdev}) cannot be read-only", "let it be a virtio disk: vda"
    return None


def plug(platform: Platform, vdev: str, backing: Backing, memory: Memory) -> Requests:
    """Give a machine a disk, whose name is one that `why_not` has accepted. Returns what it will be asked."""
    place = place_of(vdev)
    assert place is not None
    if place.virtio:
        return platform.plug_virtio(place.number, backing, memory)
    return platform.plug_ide(place.number, backing)
