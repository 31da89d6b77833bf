# SPDX-License-Identifier: GPL-2.0-or-later
"""The requests of one disk of a PC: counted, and told to whoever looks on.

Disks of any kind are asked for the same: to read, to write, to flush. So a request has Xen's number for its operation
here (BLKIF_OP_READ ...), and Xen's status when it ends. A controller calls `begin` when it has understood a request,
and `end` when it has answered it. A trace puts its functions around both (pvhv/observe/device_probes.py).

A request that the guest's reset of the controller forgets is never answered, and has no end.

Not modelled: what a driver asks of the device itself (its identity, its settings) is no request here.

Read beside it: ata.py and virtio_blk.py, which call this; pvhv/devices/block/disk.py, Xen's counterpart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pvhv.core.sched.asked import Counts


@dataclass(frozen=True, eq=False, slots=True)
class Asked:
    """A request. Two of them are never the same one."""

    operation: int
    sector: int  # what the guest said, though there be no such sector
    sectors: int
    parts: int  # of an IDE disk: blocks that go through the data register; of a virtio disk: buffers of the guest's
    id: int  # of an IDE disk: the number of the command, counted from 1; of a virtio disk: the head of the chain


class Requests:
    """What is asked of one disk."""

    WRAPPABLE: ClassVar = frozenset({"begin", "end"})

    def __init__(self, model: str) -> None:
        """`model` is IDE or VIRTIO (pvhv.hvm.names)."""
        self.model = model
        self.counts = Counts()

    def begin(self, asked: Asked, possible: bool = True) -> None:
        """A request came. One that is not `possible` is about to be answered with an error, and is not counted."""
        if possible:
            self.counts.add(asked.operation, asked.sectors)

    def end(self, asked: Asked, status: int) -> None:
        """It is answered: BLKIF_RSP_OKAY or BLKIF_RSP_ERROR."""
