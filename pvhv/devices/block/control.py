# SPDX-License-Identifier: GPL-2.0-or-later
"""The control half of a block device: its nodes in the store.

The guest's kernel makes the name of the device of its number: 51712 is xvda. A front end may write the layout of its
ring (`protocol`). Guests are x86-64 here, so there is only one.

Read beside it: connect and xen_blkbk_probe in Linux's drivers/block/xen-blkback/xenbus.c; device_disk_add in
tools/libs/light/libxl_disk.c.
"""

from __future__ import annotations

from typing import ClassVar

from pvhv.abi.io.blkif import VDISK_READONLY
from pvhv.abi.io.protocols import XEN_IO_PROTO_ABI_X86_64
from pvhv.devices.backend import Backend, Refused
from pvhv.devices.block.disk import Disk
from pvhv.devices.block.names import name_of
from pvhv.images.image import SECTOR_SIZE

SHOWN = 40  # characters of an unknown layout


class BlockBackend(Backend):
    """Disk `number` of a domain; its data half is a pvhv.devices.block.disk.Disk."""

    kind: ClassVar[str] = "vbd"
    data: Disk

    def offers(self) -> dict[str, str]:
        """The nodes that libxl and blkback write."""
        image = self.data.image
        return {
            "bootable": "1",
            "removable": "0",
            "dev": name_of(self.number),
            "type": "phy",
            "mode": "r" if image.readonly else "w",
            "device-type": "disk",
            "feature-flush-cache": "1",
            "feature-barrier": "1",
            "sectors": str(image.sectors),
            "info": str(VDISK_READONLY if image.readonly else 0),
            "sector-size": str(SECTOR_SIZE),
            "physical-sector-size": str(SECTOR_SIZE),
        }

    def tells(self) -> dict[str, str]:
        """The number of the device, and its type."""
        return {"virtual-device": str(self.number), "device-type": "disk"}

    def check_front_end(self) -> None:
        """Raises Refused if the ring has the layout of another processor."""
        protocol = self.store.read(f"{self.front}/protocol")
        if protocol not in (None, XEN_IO_PROTO_ABI_X86_64):
            raise Refused(f"-1 unknown fe protocol {ascii(protocol[:SHOWN])[2:-1]}")
