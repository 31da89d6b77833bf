# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots inside an image: earlier states of the disk, each with an L1 table of its own.

They are neither made nor gone back to here. They are kept right: clusters that a snapshot has too are not written to
(their entries lack the flag "copied"), and the clusters of these tables count as used.

Read beside it: qcow2_do_read_snapshots in QEMU's block/qcow2-snapshot.c.
"""

from __future__ import annotations

from typing import NamedTuple

from construct import ConstructError, Int16ub, Int32ub, Int64ub, Struct

from pvhv.images.file import File
from pvhv.images.image import BadImage
from pvhv.images.qcow2.header import ENTRY_SIZE, MAX_L1_SIZE, Header, Place

ENTRY = Struct(
    "l1_table_offset" / Int64ub,
    "l1_size" / Int32ub,
    "id_str_size" / Int16ub,
    "name_size" / Int16ub,
    "date_sec" / Int32ub,
    "date_nsec" / Int32ub,
    "vm_clock_nsec" / Int64ub,
    "vm_state_size" / Int32ub,
    "extra_data_size" / Int32ub,
)
LONGEST_EXTRA = 1024
MOST_BYTES = 64 << 20  # of the table


class Snapshot(NamedTuple):
    """One of them."""

    id: str
    name: str
    date: int  # seconds
    l1: Place


def read(file: File, header: Header) -> tuple[list[Snapshot], Place]:
    """The snapshots, and where their table is. Raises BadImage, OSError."""
    found: list[Snapshot] = []
    at = header.snapshots_offset
    for _number in range(header.snapshots):
        try:
            fields = ENTRY.parse(file.read_some(at, ENTRY.sizeof()))
        except ConstructError:
            raise BadImage("its snapshot table lies beyond the end of the file") from None
        at += ENTRY.sizeof()
        if fields.extra_data_size > LONGEST_EXTRA or fields.l1_size * ENTRY_SIZE > MAX_L1_SIZE:
            raise BadImage(f"its snapshot {len(found) + 1} is damaged")
        if fields.l1_table_offset & (header.cluster_size - 1):
            raise BadImage(f"the L1 table of its snapshot {len(found) + 1} does not begin at a cluster")
        at += fields.extra_data_size
        text = file.read_some(at, fields.id_str_size + fields.name_size)
        id_, name = text[: fields.id_str_size], text[fields.id_str_size :]
        at += fields.id_str_size + fields.name_size
        at += -at % 8
        place = Place(fields.l1_table_offset, fields.l1_size * ENTRY_SIZE)
        found.append(Snapshot(id_.decode("utf-8", "replace"), name.decode("utf-8", "replace"), fields.date_sec, place))
        if at - header.snapshots_offset > MOST_BYTES:
            raise BadImage("its snapshot table is larger than any")
    return found, Place(header.snapshots_offset, at - header.snapshots_offset if found else 0)
