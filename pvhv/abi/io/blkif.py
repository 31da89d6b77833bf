# SPDX-License-Identifier: GPL-2.0-or-later
"""Block devices: requests for sectors in granted pages, and what came of each, in one ring.

A sector is of 512 bytes here, whatever the device says of its own. A request names up to eleven segments, each some
whole sectors of one page; ``id`` is the front end's and comes back in the response. Responses come in any order.

Read beside it: xen/include/public/io/blkif.h.
"""

from __future__ import annotations

from pvhv.abi.grant_table import grant_ref_t
from pvhv.abi.layout import codec, cstruct, int16_t, typedef, uint8_t, uint16_t, uint64_t

blkif_vdev_t = typedef("blkif_vdev_t", uint16_t)
blkif_sector_t = typedef("blkif_sector_t", uint64_t)

BLKIF_OP_READ = 0
BLKIF_OP_WRITE = 1
BLKIF_OP_WRITE_BARRIER = 2
BLKIF_OP_FLUSH_DISKCACHE = 3
BLKIF_OP_RESERVED_1 = 4  # a front end's packets for a SCSI device once
BLKIF_OP_DISCARD = 5
BLKIF_OP_INDIRECT = 6  # its segments are listed in pages of their own

BLKIF_MAX_SEGMENTS_PER_REQUEST = 11
BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8

BLKIF_DISCARD_SECURE = 1 << 0

BLKIF_RSP_OKAY = 0
BLKIF_RSP_ERROR = -1
BLKIF_RSP_EOPNOTSUPP = -2

# of the backend's node ``info``
VDISK_CDROM = 0x1
VDISK_REMOVABLE = 0x2
VDISK_READONLY = 0x4

blkif_request_segment = cstruct(
    "blkif_request_segment",
    "gref" / grant_ref_t,
    "first_sect" / uint8_t,
    "last_sect" / uint8_t,
    typedef=None,
)

blkif_request = cstruct(
    "blkif_request",
    "operation" / uint8_t,
    "nr_segments" / uint8_t,
    "handle" / blkif_vdev_t,
    "id" / uint64_t,
    "sector_number" / blkif_sector_t,
    "seg" / blkif_request_segment[BLKIF_MAX_SEGMENTS_PER_REQUEST],
)
BLKIF_REQUEST_CODEC = codec(blkif_request)

blkif_request_discard = cstruct(
    "blkif_request_discard",
    "operation" / uint8_t,
    "flag" / uint8_t,
    "handle" / blkif_vdev_t,
    "id" / uint64_t,
    "sector_number" / blkif_sector_t,
    "nr_sectors" / uint64_t,
)

blkif_request_indirect = cstruct(
    "blkif_request_indirect",
    "operation" / uint8_t,
    "indirect_op" / uint8_t,
    "nr_segments" / uint16_t,
    "id" / uint64_t,
    "sector_number" / blkif_sector_t,
    "handle" / blkif_vdev_t,
    "indirect_grefs" / grant_ref_t[BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST],
)

blkif_response = cstruct(
    "blkif_response",
    "id" / uint64_t,
    "operation" / uint8_t,
    "status" / int16_t,
)
BLKIF_RESPONSE_CODEC = codec(blkif_response)
