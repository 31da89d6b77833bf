# SPDX-License-Identifier: GPL-2.0-or-later
"""Which cluster of the file has a cluster of the disk: the L1 table names L2 tables, and these name clusters.

                 63       62           61 ..                                           0
    L1 entry     copied   0            where the L2 table is                           0
    L2 entry     copied   compressed   where the cluster is                            reads as zeros

"Copied" says that nobody else (no snapshot) has this cluster, so it may be written in place. An L2 table without it is
copied before it is changed.

Read beside it: l2_allocate and qcow2_get_host_offset in QEMU's block/qcow2-cluster.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from pvhv.images.file import File
from pvhv.images.image import input_output_error
from pvhv.images.qcow2.header import ENTRY_SIZE, Header
from pvhv.images.qcow2.refcounts import CorruptImage, Refcounts
from pvhv.images.qcow2.regions import Regions
from pvhv.images.qcow2.tables import SLICE_SIZE, Cache, Slice, numbers
from pvhv.images.shares import in_shares

COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1 << 0
OFFSET = 0x00FFFFFFFFFFFE00  # of an entry, where a cluster is


class Mapping:
    """The L1 table and the L2 tables of the present state of an image."""

    def __init__(self, file: File, header: Header, make_room: Callable[[], object]) -> None:
        """Raises OSError."""
        self._file = file
        self._header = header
        self._cluster_bits = header.cluster_bits
        self.l1 = numbers(file.read(*header.l1))
        size = min(SLICE_SIZE, header.cluster_size)
        self.cache = Cache(file, size, make_room)
        self.slice_bits = (size // ENTRY_SIZE).bit_length() - 1
        self._changed: set[int] = set()  # entries of the L1 table that are not in the file yet

    def tables(self) -> set[int]:
        """The clusters that have L2 tables."""
        return {(entry & OFFSET) >> self._cluster_bits for entry in in_shares(self.l1) if entry & OFFSET}

    def find(self, cluster: int) -> tuple[Slice, int] | None:
        """Where the entry of a cluster of the disk is; None if there is no L2 table. Raises OSError."""
        l2_bits = self._header.l2_bits
        table = self.l1[cluster >> l2_bits] & OFFSET
        if not table:
            return None
        if table & (self._header.cluster_size - 1) or table >= self._file.end:
            raise input_output_error("the image is corrupt: an L2 table is where none can be")
        number = (cluster & ((1 << l2_bits) - 1)) >> self.slice_bits
        return self.cache.get(table + number * self.cache.size), cluster & ((1 << self.slice_bits) - 1)

    def find_to_change(
        self, cluster: int, refcounts: Refcounts, regions: Regions, drop: Callable[[int, int], None]
    ) -> tuple[Slice, int]:
        """The same in a table that is ours alone, which is made where there is none. `drop(first, count)` is told of
        clusters that are not used any more. Raises OSError."""
        index = cluster >> self._header.l2_bits
        entry = self.l1[index]
        old, size = entry & OFFSET, self._header.cluster_size
        if old & (size - 1) or old >= self._file.end:
            raise CorruptImage("an L2 table is where none can be")
        if not entry & COPIED or not old:
            contents = self._file.read(old, size) if old else bytes(size)
            new, _one = refcounts.allocate(1)
            try:
                self._file.write(new << self._cluster_bits, contents)
            except OSError:
                refcounts.release(new, 1)
                raise
            self.cache.forget(new << self._cluster_bits, size)
            self.l1[index] = new << self._cluster_bits | COPIED
            self._changed.add(index)
            regions.add(new)
            if old:
                regions.remove(old >> self._cluster_bits)
                drop(old >> self._cluster_bits, 1)
        found = self.find(cluster)
        assert found is not None
        return found

    @property
    def dirty(self) -> bool:
        return self.cache.dirty or bool(self._changed)

    def write(self) -> None:
        """Write what has changed; the clusters that it names, and their refcounts, are on the disk already. Raises
        OSError, and then what is not written still has to be."""
        self.cache.write()
        if self._changed:
            self._file.sync()  # an L2 table is there before the L1 table names it
            for index in sorted(self._changed):
                self._file.write(self._header.l1.offset + index * ENTRY_SIZE, struct.pack(">Q", self.l1[index]))
                self._changed.discard(index)
