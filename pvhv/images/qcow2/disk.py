# SPDX-License-Identifier: GPL-2.0-or-later
"""A qcow2 image as a disk: what is written, cluster by cluster, and when the tables follow. Reading is in contents.py,
discarding in discarding.py.

Clusters that stand side by side in the file are written with one system call. A cluster that has no place of
its own yet (or shares it with a snapshot, or is compressed, or zero) gets a new one: the new bytes and what was around
them are written there, and only then does the L2 table name it.

Tables are changed in memory. `flush` writes them, in this order, with a sync between where one relies on the other:

    the guest's data; refcounts that go up  |  L2 tables  |  the L1 table  |  refcounts that go down

So whoever kills this process, or pulls the plug, finds each table naming only what is there. At worst, clusters are
counted that nobody uses; `pvhv image check --repair leaks` gives them back. What no flush came after may be missing.

A corrupt image is not made worse: before data is written it is looked whether a table lies there, and if so, the image
is marked as corrupt (as QEMU does), and nothing more is written to it. It can still be read.

Not modelled: lazy refcounts (they are always kept; the flag stays), making and deleting snapshots, writing compressed
clusters where a guest writes.

Read beside it: qcow2_co_pwritev_part in QEMU's block/qcow2.c, block/qcow2-cluster.c.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain

from pvhv.images.file import File
from pvhv.images.image import SECTOR_SIZE, BadImage, Image, input_output_error, refused_to_write
from pvhv.images.qcow2 import snapshots
from pvhv.images.qcow2.compressed import Packed
from pvhv.images.qcow2.contents import HOLE, MOST_AT_ONCE, ZEROS, Contents
from pvhv.images.qcow2.discarding import Dropped, clear
from pvhv.images.qcow2.header import AUTOCLEAR_AT, CORRUPT, DIRTY, INCOMPATIBLE_AT, Header
from pvhv.images.qcow2.mapping import COMPRESSED, COPIED, OFFSET, ZERO, Mapping
from pvhv.images.qcow2.refcounts import CorruptImage, Refcounts, clusters_of
from pvhv.images.qcow2.regions import Regions
from pvhv.images.qcow2.tables import Slice
from pvhv.images.shares import give_way, in_shares

MOST_SNAPSHOT_TABLES = 1 << 20  # clusters that L1 tables of snapshots take, in an image that is written to


class Qcow2Image(Contents):
    """The sectors of a qcow2 image."""

    def __init__(self, file: File, header: Header, below: Image | None = None, writable: bool = False) -> None:
        """`below` is the backing file, which belongs to this object from now on. Raises BadImage, OSError."""
        super().__init__(file, header, below, Mapping(file, header, self.write_tables))
        self.readonly = not writable
        self.broken = False  # nothing more is written
        self._dropped = Dropped(file, header)
        if writable:
            self._prepare_to_write()

    def _prepare_to_write(self) -> None:
        header = self.header
        if header.incompatible & CORRUPT:
            raise BadImage(
                "it is marked as corrupt, so it may only be read",
                "pvhv image check --repair all repairs what can be; access=ro makes a disk read-only",
            )
        if header.incompatible & DIRTY:
            raise BadImage("it was not closed, and its refcounts are not right", "pvhv image check --repair all")
        if header.has_bitmaps:
            raise BadImage(
                "it has persistent bitmaps, which a write would make wrong",
                "qemu-img bitmap --remove removes one; access=ro makes a disk read-only",
            )
        self.regions = Regions()
        self.regions.put("the header", range(1))
        self.regions.put("the L1 table", clusters_of(header.l1, self._bits))
        self.refcounts = Refcounts(self.file, header, self.regions, self._dropped.add)
        kept, place = snapshots.read(self.file, header)
        self.regions.put("the snapshot table", clusters_of(place, self._bits))
        blocks = self.refcounts.blocks()
        tables = [clusters_of(each.l1, self._bits) for each in kept]
        if sum(map(len, tables)) > MOST_SNAPSHOT_TABLES:
            raise BadImage("its snapshots have more tables than can be kept right here", "access=ro makes it read-only")
        l2_tables = self.mapping.tables()
        hits = (self.regions.hit(each, 1) for each in in_shares(chain(blocks, l2_tables), 64))
        if not blocks.isdisjoint(l2_tables) or any(hits):
            raise BadImage("it is corrupt: two of its tables lie in one place", "pvhv image check says more")
        self.regions.add_all(chain(blocks, l2_tables, *tables))
        if header.autoclear:  # what these bits vouch for is not true any more after our writes
            self.file.write(AUTOCLEAR_AT, struct.pack(">Q", 0))
            header.autoclear = 0

    def read_now(self, _sector: int, _count: int, _parts: Sequence[memoryview]) -> bool:
        """Where the sectors are is known to the thread of the file only."""
        return False

    # -- writing ---------------------------------------------------------------------------------------------
    def write(self, sector: int, data: bytes) -> None:
        """Write `data` from `sector` on. Raises OSError, and then a part of it may be written."""
        self._require_writable()
        self._require_inside(sector, len(data) // SECTOR_SIZE)
        offset, view = sector * SECTOR_SIZE, memoryview(data)
        try:
            while view:
                done = self._write_run(offset, view)
                offset += done
                view = view[done:]
        except CorruptImage:
            self._mark_corrupt()
            raise

    def _require_writable(self) -> None:
        if self.readonly:
            raise refused_to_write()
        if self.broken:
            raise input_output_error("the image is corrupt, so nothing is written to it")

    def _write_run(self, offset: int, view: memoryview) -> int:
        """Write as much as one system call can; return how many bytes. Raises OSError."""
        cluster, inside = offset >> self._bits, offset & (self._size - 1)
        part, at = self._to_change(cluster)
        entries = part.entries
        most = min(len(entries) - at, -(-(inside + len(view)) >> self._bits), MOST_AT_ONCE)
        entry, count = entries[at], 1
        if _is_ours(entry):
            wanted = entry + self._size
            while count < most and entries[at + count] == wanted:
                count += 1
                wanted += self._size
            host = entry & OFFSET
            if host & (self._size - 1):
                raise CorruptImage("a cluster does not begin at a cluster")
            if hit := self.regions.hit(host >> self._bits, count):
                raise CorruptImage(f"{hit} lies in a cluster with data")
            if host + ((count - 1) << self._bits) >= self.file.end:
                raise CorruptImage("a cluster lies beyond the end of its file")
            length = min(len(view), (count << self._bits) - inside)
            self.file.write(host + inside, view[:length])
            return length
        while count < most and not _is_ours(entries[at + count]):
            count += 1
        first, count = self.refcounts.allocate(count)
        length = min(len(view), (count << self._bits) - inside)
        try:
            self._write_new(first, count, offset, inside, view[:length])
            self._enter(cluster, first, count)
        except BaseException:
            self.refcounts.release(first, count)
            raise
        return length

    def _to_change(self, cluster: int) -> tuple[Slice, int]:
        """Where the entry of a cluster of the disk is, in a table that may be changed. Raises OSError."""
        if self._dropped.is_full:
            self.write_tables()
        return self.mapping.find_to_change(cluster, self.refcounts, self.regions, self._dropped.add)

    def _write_new(self, first: int, count: int, offset: int, inside: int, view: memoryview) -> None:
        """Fill new clusters of the file: with `view`, and with what the disk has before and behind it there."""
        host, size = first << self._bits, count << self._bits
        behind = size - inside - len(view)
        is_fresh = host >= self.file.end  # beyond the end of the file are zeros already
        head = self._around(offset - inside, inside, is_fresh)
        tail = self._around(offset + len(view), behind, is_fresh)
        self.file.write(host if head else host + inside, head, view, tail)

    def _around(self, offset: int, length: int, is_fresh: bool) -> bytes:
        """What the disk has there; nothing if these are zeros that need not be written."""
        if not length:
            return b""
        offset_end = min(offset + length, self.sectors * SECTOR_SIZE)
        if is_fresh and (offset >= offset_end or self._is_zero(offset)):
            return b""
        return self.read(offset // SECTOR_SIZE, max(0, offset_end - offset) // SECTOR_SIZE).ljust(length, b"\0")

    def _is_zero(self, offset: int) -> bool:
        """Whether the rest of this cluster is known to be zeros, without reading it."""
        kind, _host, _length = self._run(offset, SECTOR_SIZE)
        return kind == ZEROS or (
            kind == HOLE and (self.backing is None or offset >= self.backing.sectors * SECTOR_SIZE)
        )

    def _enter(self, cluster: int, first: int, count: int) -> None:
        """Have the entries of clusters of the disk name new ones of the file, and drop what they named."""
        found = self.mapping.find(cluster)  # anew: what was read meanwhile may have moved it out of memory
        assert found is not None
        part, at = found
        old = part.entries[at : at + count]
        host = first << self._bits | COPIED
        part.entries[at : at + count] = array("Q", range(host, host + (count << self._bits), self._size))
        self.mapping.cache.changed(part)
        self._dropped.add_entries(old)

    def drop(self, first: int, count: int) -> None:
        """These clusters of the file are used once less, once no table on the disk names them."""
        self._dropped.add(first, count)

    def write_packed(self, cluster: int, place: Packed) -> None:
        """Have a cluster of the disk, which has nothing yet, be the packed one that was written to this place of the
        file; the clusters there are counted already. Raises OSError."""
        part, at = self._to_change(cluster)
        self._dropped.add_entries(part.entries[at : at + 1])
        part.entries[at] = COMPRESSED | place.entry(self._bits)
        self.mapping.cache.changed(part)

    # -- discarding ------------------------------------------------------------------------------------------
    def discard(self, sector: int, count: int) -> None:
        """Forget these sectors: whole clusters among them read as zeros then, and are given back to the host. Raises
        OSError."""
        self._require_writable()
        self._require_inside(sector, count)
        end = (sector + count) * SECTOR_SIZE
        last = -(-end >> self._bits) if sector + count >= self.sectors else end >> self._bits
        cluster = -(-(sector * SECTOR_SIZE) >> self._bits)
        is_over = self.backing is not None
        if self.header.version < 3 and is_over:
            return  # there is no entry that says "zeros", and what the backing file has may not show again
        try:
            while cluster < last:
                most = last - cluster
                count, old = clear(self.mapping, self.header, is_over, cluster, most, self._to_change)
                self._dropped.add_entries(old)
                cluster += count
                give_way()
        except CorruptImage:
            self._mark_corrupt()
            raise

    # -- to the disk -----------------------------------------------------------------------------------------
    def flush(self) -> None:
        """Wait until everything that was written is on the host's disk. Raises OSError."""
        if self.readonly:
            return
        if self.broken and (self.refcounts.dirty or self.mapping.dirty):
            raise input_output_error("the image is corrupt, and what was written last is not in its tables")
        if self.broken or not self.write_tables():
            self.file.sync()

    def write_tables(self) -> bool:
        """Write the tables, each behind what it names. True if everything is on the disk then. Raises OSError."""
        if not (self.refcounts.dirty or self.mapping.dirty or self._dropped):
            return False
        self.refcounts.write()
        if self.mapping.dirty:
            self.file.sync()
            self.mapping.write()
        self.file.sync()
        try:
            self._dropped.free(self.refcounts, self.regions)
        except CorruptImage:
            self._mark_corrupt()
        except OSError:
            pass  # all is on the disk that was to be; the rest of what was dropped stays counted
        return True

    def _mark_corrupt(self) -> None:
        """Write nothing more but what is in the tables, and have the header say why, if this version can."""
        if self.broken:
            return
        self.broken = True
        with suppress(OSError):
            self.write_tables()
            if self.header.version >= 3 and not self.header.incompatible & CORRUPT:
                self.header.incompatible |= CORRUPT
                self.file.write(INCOMPATIBLE_AT, struct.pack(">Q", self.header.incompatible))
                self.file.sync()

    def refresh(self) -> None:
        """Find out anew how many sectors it has: never more, while it is open here."""

    def close(self) -> None:
        """Write the tables, and close the files. May be called again."""
        try:
            if not self.readonly and not self.broken and not self.file.io.closed:
                while self.write_tables():
                    pass  # what could be freed by the first round is counted down in the second
        finally:
            self.file.close()
            if self.backing is not None:
                self.backing.close()


def _is_ours(entry: int) -> bool:
    """Whether a cluster may be written in place."""
    return entry & (COPIED | COMPRESSED | ZERO) == COPIED and bool(entry & OFFSET)
