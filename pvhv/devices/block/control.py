# SPDX-License-Identifier: GPL-2.0-or-later
"""The control half of a block device: its nodes in the store, and where a front end says that its rings are.

The guest's kernel makes the name of the device of its number: 51712 is xvda. What is told comes in two parts, as with
blkback: what a front end needs to make its rings is there from the beginning, and what the disk is, is written when the
rings were found.

A front end has one ring of one page (`ring-ref`), or says how many pages (`ring-page-order`) and rings
(`multi-queue-num-queues`) it has:

    ring-ref0 ... ring-ref15, event-channel               one ring of many pages
    queue-0/ring-ref, queue-0/event-channel, queue-1/...  many rings, each with its own port

It may also write the layout of its rings (`protocol`). Guests are x86-64 here, so there is only one.

Read beside it: connect, connect_ring and read_per_ring_refs in Linux's drivers/block/xen-blkback/xenbus.c;
device_disk_add in tools/libs/light/libxl_disk.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pvhv.abi.io.blkif import VDISK_CDROM, VDISK_READONLY
from pvhv.abi.io.protocols import XEN_IO_PROTO_ABI_X86_64
from pvhv.core.domain import Domain
from pvhv.devices.backend import Backend, Nodes, Refused, Where
from pvhv.devices.block.disk import Disk
from pvhv.devices.block.names import name_of
from pvhv.devices.block.request import MAX_INDIRECT_SEGMENTS
from pvhv.devices.link import Link
from pvhv.devices.xenstore.store import Store
from pvhv.machine.ram import PAGE_SIZE

MAX_RING_PAGE_ORDER = 4  # XENBUS_MAX_RING_GRANT_ORDER
MAX_QUEUES = 4  # blkback offers as many as domain 0 has processors; this is a domain 0 of four
SHOWN = 40  # characters of an unknown layout


class BlockBackend(Backend):
    """Disk `number` of a domain; its data half is a pvhv.devices.block.disk.Disk."""

    kind: ClassVar[str] = "vbd"
    data: Disk

    def __init__(
        self, store: Store, dom0: Domain, domid: int, number: int, data: Disk, told: Nodes | None = None
    ) -> None:
        super().__init__(store, dom0, domid, number, data, told)
        data.on_resize = lambda: self.tell({"sectors": str(data.sectors)})

    def made_of(self) -> Nodes:
        """The nodes that libxl writes."""
        return {
            "bootable": "1",
            "removable": str(int(self.data.cdrom)),
            "dev": name_of(self.number),
            "type": "phy",
            "mode": "r" if self.data.readonly else "w",
            "device-type": self._device_type,
            "discard-enable": str(int(self._discards)),
            "specification": "xen",
        }

    def offers(self) -> dict[str, str]:
        """The nodes that blkback writes when it begins, and the one of the script that finds its disk."""
        return {
            "hotplug-status": "connected",
            "feature-max-indirect-segments": str(MAX_INDIRECT_SEGMENTS),
            "multi-queue-max-queues": str(MAX_QUEUES),
            "max-ring-page-order": str(MAX_RING_PAGE_ORDER),
        }

    def tells(self) -> dict[str, str]:
        """The number of the device, its type, and the layout of rings here."""
        return {
            "virtual-device": str(self.number),
            "device-type": self._device_type,
            "trusted": "1",
            "protocol": XEN_IO_PROTO_ABI_X86_64.decode(),
        }

    def describes(self) -> dict[str, str]:
        """The nodes that blkback writes when it connects."""
        disk = self.data
        discard = {
            "discard-granularity": str(max(PAGE_SIZE, disk.sector_size)),
            "discard-alignment": "0",
            "discard-secure": "0",
            "feature-discard": "1",
        }
        flushes = str(int(not disk.readonly))  # the loop device below blkback has no cache then
        return {
            "feature-flush-cache": flushes,
            **(discard if self._discards else {}),
            "feature-barrier": flushes,
            "feature-persistent": "1",
            "sectors": str(disk.sectors),
            "info": str((VDISK_READONLY if disk.readonly else 0) | (VDISK_CDROM if disk.cdrom else 0)),
            "sector-size": str(disk.sector_size),
            "physical-sector-size": str(disk.sector_size),
        }

    @property
    def _device_type(self) -> str:
        return "cdrom" if self.data.cdrom else "disk"

    @property
    def _discards(self) -> bool:
        return self.data.discards and not self.data.readonly

    # -- the rings ---------------------------------------------------------------------------------------------
    def rings(self) -> list[Where]:
        """Read where the front end has its rings. Raises Refused, with blkback's words."""
        protocol = self.store.read(f"{self.front}/protocol")
        if protocol not in (None, XEN_IO_PROTO_ABI_X86_64):
            raise Refused(f"-1 unknown fe protocol {ascii(protocol[:SHOWN])[2:-1]}")
        queues = self.number_or("multi-queue-num-queues", 1)
        if not 0 < queues <= MAX_QUEUES:
            raise Refused(f"-1 guest requested {queues} queues, exceeding the maximum of {MAX_QUEUES}.")
        order = self.number_or("ring-page-order", None)
        if order is not None and order > MAX_RING_PAGE_ORDER:
            raise Refused(f"22 requested ring page order {order} exceed max:{MAX_RING_PAGE_ORDER}")
        nodes = ["ring-ref"] if order is None else [f"ring-ref{page}" for page in range(1 << order)]
        directories = [""] if queues == 1 else [f"queue-{queue}/" for queue in range(queues)]
        return [self._ring(directory, nodes) for directory in directories]

    def _ring(self, directory: str, nodes: list[str]) -> Where:
        port = self.number_at(f"{directory}event-channel")
        return Where([self.number_at(f"{directory}{node}") for node in nodes], port)

    def drain(self, drained: Callable[[], None]) -> None:
        """Answer the requests that were taken from the rings, take no more, and then call `drained()`."""
        self.data.drain(drained)

    def attach(self, links: list[Link]) -> None:
        """Give the disk its rings."""
        persistent = bool(self.number_or("feature-persistent", 0))
        for link in links:
            self.data.add_queue(link.pages, link.notify, persistent)
            link.on_signal(self.data.pump, self.data.heard)
        self.data.pump()
