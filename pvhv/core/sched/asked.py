# SPDX-License-Identifier: GPL-2.0-or-later
"""What was asked of a disk of any kind, counted by blkback's names.

Read beside it: worker.py, which does what is asked; struct xen_blkif in Linux's drivers/block/xen-blkback/common.h.
"""

from __future__ import annotations

from dataclasses import dataclass

from pvhv.abi.io.blkif import BLKIF_OP_DISCARD, BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_READ, BLKIF_OP_WRITE_BARRIER

FLUSHING = (BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER)


@dataclass
class Counts:
    """How many requests a disk has begun, by kind, and sectors of 512 bytes."""

    rd_req: int = 0
    wr_req: int = 0
    f_req: int = 0
    ds_req: int = 0
    rd_sect: int = 0
    wr_sect: int = 0

    def add(self, operation: int, sectors: int) -> None:
        """Count a request that is carried out: one of Xen's operations (BLKIF_OP_READ ...)."""
        if operation == BLKIF_OP_READ:
            self.rd_req += 1
            self.rd_sect += sectors
        elif operation == BLKIF_OP_DISCARD:
            self.ds_req += 1
        else:
            self.wr_sect += sectors
            if operation in FLUSHING:
                self.f_req += 1
            else:
                self.wr_req += 1
