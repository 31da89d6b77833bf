# SPDX-License-Identifier: GPL-2.0-or-later
"""What a slot asks for, and whether that can be: a request is read out of a copy of its slot, and checked.

All kinds of requests begin alike:

    byte 0      1               2..3          8..15   16..23
    operation   nr_segments     handle        id      sector_number    read, write, write barrier, flush
    operation   flag            handle        id      sector_number    discard; the number of sectors follows
    operation   indirect_op     nr_segments   id      sector_number    indirect; the grants of pages that list segments

Segments have the same layout in a slot and in an indirect page. They are kept as bytes, and checked all at once: a
request may have 256 of them, and a loop over them in Python costs more than their data.

The checks, their order, and what is answered are blkback's. An answer to an indirect request names the operation that
was inside it.

Not modelled: the msleep(1) with which blkback answers a wrong request (here, each is charged to the guest).

Read beside it: dispatch_rw_block_io, xen_blkbk_parse_indirect and xen_vbd_translate in Linux's
drivers/block/xen-blkback/blkback.c.
"""

from __future__ import annotations

from operator import gt
from typing import NamedTuple

from pvhv.abi.io.blkif import (
    BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
    BLKIF_MAX_SEGMENTS_PER_REQUEST,
    BLKIF_OP_DISCARD,
    BLKIF_OP_INDIRECT,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    blkif_request,
    blkif_request_discard,
    blkif_request_indirect,
    blkif_request_segment,
)
from pvhv.abi.layout import codec
from pvhv.core.sched.asked import FLUSHING
from pvhv.images.image import SECTOR_SIZE
from pvhv.machine.ram import PAGE_SIZE

SECTORS_PER_PAGE = PAGE_SIZE // SECTOR_SIZE
MAX_INDIRECT_SEGMENTS = 256  # blkback's
DIRECT = (BLKIF_OP_READ, BLKIF_OP_WRITE, *FLUSHING)
INDIRECT = (BLKIF_OP_READ, BLKIF_OP_WRITE)

HEAD = codec(blkif_request_discard)  # the fields that all kinds have, by the names of this one
SEGMENT_SIZE = blkif_request_segment.size
PER_INDIRECT_PAGE = PAGE_SIZE // SEGMENT_SIZE
FIRST_SEGMENT = next(field.offset for field in blkif_request.fields if field.name == "seg")
FIRST_PAGE = next(field.offset for field in blkif_request_indirect.fields if field.name == "indirect_grefs")
FIRST_SECT, LAST_SECT = (
    next(field.offset for field in blkif_request_segment.fields if field.name == name)
    for name in ("first_sect", "last_sect")
)


class Bad(Exception):
    """The request is wrong."""


class Request(NamedTuple):
    """A slot, not checked yet."""

    operation: int  # of an indirect request, the one inside it
    id: int
    sector: int
    amount: int  # of segments, as it says; of a discard, of sectors
    known: bool  # whether there is such an operation
    segments: bytes = b""  # those of the slot: eleven at most, whatever `count` says
    pages: tuple[int, ...] = ()  # of an indirect request: the grants of the pages that list its segments

    @property
    def indirect(self) -> bool:
        return bool(self.pages)

    @property
    def discards(self) -> bool:
        return self.operation == BLKIF_OP_DISCARD and not self.pages


def read(slot: bytes) -> Request:
    """The request in the bytes of a slot."""
    operation, byte, word, id_, sector, sectors = HEAD.unpack_from(slot)
    if operation in DIRECT:
        end = FIRST_SEGMENT + min(byte, BLKIF_MAX_SEGMENTS_PER_REQUEST) * SEGMENT_SIZE
        return Request(operation, id_, sector, byte, True, slot[FIRST_SEGMENT:end])
    if operation == BLKIF_OP_DISCARD:
        return Request(operation, id_, sector, sectors, True)
    if operation == BLKIF_OP_INDIRECT:
        grefs = memoryview(slot)[FIRST_PAGE : FIRST_PAGE + 4 * BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST].cast("I")
        return Request(byte, id_, sector, word, True, b"", tuple(grefs))
    return Request(operation, id_, sector, 0, False)


def pages_of(request: Request) -> list[int]:
    """Check what an indirect request says before its pages are looked at, and return the grants of those that it
    uses. Raises Bad."""
    if request.operation not in INDIRECT or not 0 < request.amount <= MAX_INDIRECT_SEGMENTS:
        raise Bad
    return list(request.pages[: -(-request.amount // PER_INDIRECT_PAGE)])


def require_some(request: Request) -> None:
    """Check the number of segments of a request that has them in its slot. Raises Bad."""
    if request.amount > BLKIF_MAX_SEGMENTS_PER_REQUEST or not (request.amount or request.operation in FLUSHING):
        raise Bad


def sectors_in(segments: bytes) -> int:
    """Check that each segment is a part of a page, and return how many sectors they have. Raises Bad."""
    if not segments:
        return 0
    first, last = segments[FIRST_SECT::SEGMENT_SIZE], segments[LAST_SECT::SEGMENT_SIZE]
    if max(last) >= SECTORS_PER_PAGE or any(map(gt, first, last)):
        raise Bad
    return sum(last) - sum(first) + len(first)


def require_whole_blocks(request: Request, segments: bytes, sector_size: int) -> None:
    """Check that a request begins at a block of the disk, and that each segment has whole blocks. Raises Bad."""
    block = sector_size // SECTOR_SIZE
    if block > 1 and segments:
        first, last = segments[FIRST_SECT::SEGMENT_SIZE], segments[LAST_SECT::SEGMENT_SIZE]
        if request.sector % block or any((end - start + 1) % block for start, end in zip(first, last, strict=True)):
            raise Bad


def grefs_of(segments: bytes) -> list[int]:
    """The grants of the pages of segments."""
    return memoryview(segments).cast("I")[:: SEGMENT_SIZE // 4].tolist() if segments else []
