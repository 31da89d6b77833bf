# SPDX-License-Identifier: GPL-2.0-or-later
"""How many times each cluster of the file is used. A cluster that is used nowhere has a refcount of 0, and is free.

The refcount table says where the refcount blocks are, each of which is a cluster full of refcounts of 1 to 64 bits. A
block that is missing has zeros only. When one is needed, it takes the first of the clusters that it counts, so it
counts itself. If the table is full, a longer one is written behind all blocks, and the header then names that one.

The order in which this is written: a refcount goes up before anything names the cluster, and goes down when nothing
on the host's disk names it any more. Whoever is interrupted between loses room, never data. So blocks may be written
at any time; `write` does it, and the table's new entries after it.

Read beside it: block/qcow2-refcount.c in QEMU (alloc_refcount_block, update_refcount, qcow2_refcount_area).
"""

from __future__ import annotations

import errno
import struct
from array import array
from collections.abc import Callable
from functools import cache, partial

from pvhv.images.file import File
from pvhv.images.qcow2.header import ENTRY_SIZE, LARGEST_OFFSET, MAX_REFTABLE_SIZE, REFTABLE_AT, Header, Place
from pvhv.images.qcow2.regions import Regions
from pvhv.images.qcow2.tables import SLICE_SIZE, Cache, Slice, as_bytes, numbers
from pvhv.images.shares import in_shares

TYPECODES = {3: "B", 4: "H", 5: "I", 6: "Q"}  # by refcount order; smaller ones are unpacked to bytes
OFFSET_MASK = ~0x1FF & (1 << 64) - 1  # of an entry of the refcount table


class CorruptImage(OSError):
    """The image contradicts itself, so nothing more may be written to it. A guest sees an I/O error."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EIO, f"the image is corrupt: {why}")


def decode(raw: bytes, order: int) -> array[int]:
    """The refcounts in a part of a block, one number each."""
    if order in TYPECODES:
        return numbers(raw, TYPECODES[order])
    per_byte = 8 >> order
    entries = bytearray(len(raw) * per_byte)
    for at, part in enumerate(_parts(order)):
        entries[at::per_byte] = raw.translate(part)
    return array("B", entries)


def encode(entries: array[int], order: int) -> bytes:
    """The reverse of `decode`."""
    if order in TYPECODES:
        return as_bytes(entries)
    per_byte, all_of_them = 8 >> order, 0
    for at in range(per_byte):  # the entries of all bytes at once: as one long number
        all_of_them |= int.from_bytes(entries[at::per_byte].tobytes(), "little") << (at << order)
    return all_of_them.to_bytes(len(entries) // per_byte, "little")


def block_of(used: int, order: int, cluster_size: int) -> bytes:
    """A block: the first `used` of its clusters are used once."""
    ones = array(TYPECODES.get(order, "B"), (1,)) * used
    ones.extend((0,) * (-used % max(1, 8 >> order)))
    return encode(ones, order).ljust(cluster_size, b"\0")


@cache
def _parts(order: int) -> list[bytes]:
    """For each place of an entry in a byte, what stands there, for all bytes."""
    bits, mask = 1 << order, (1 << (1 << order)) - 1
    return [bytes((byte >> shift) & mask for byte in range(256)) for shift in range(0, 8, bits)]


class Refcounts:
    """The refcounts of an image."""

    def __init__(self, file: File, header: Header, regions: Regions, retire: Callable[[int, int], None]) -> None:
        """`retire(first, count)` is told of clusters that are free once the header is on the disk. Raises OSError."""
        self._file = file
        self._header = header
        self._regions = regions
        self._retire = retire
        self._cluster_bits = header.cluster_bits
        self.order = header.refcount_order
        self.most = (1 << (1 << self.order)) - 1
        self.block_bits = header.cluster_bits + 3 - self.order  # how many clusters a block counts, as a power of two
        size = min(SLICE_SIZE, header.cluster_size)
        self._slice_bits = (size.bit_length() - 1) + 3 - self.order
        self._code = TYPECODES.get(self.order, "B")
        self.table = numbers(file.read(*header.refcount_table))
        coders = partial(decode, order=self.order), partial(encode, order=self.order)
        self._cache = Cache(file, size, self._write_blocks, *coders)
        self._new_blocks: set[int] = set()  # entries of the table that are not in the file yet
        self._first_free = 0  # no cluster before this is free
        self._put_regions()

    def _put_regions(self) -> None:
        self._regions.put("the refcount table", clusters_of(self._header.refcount_table, self._cluster_bits))

    def blocks(self) -> set[int]:
        """The clusters that have refcount blocks."""
        return {entry >> self._cluster_bits for entry in in_shares(self.table) if entry}

    # -- one cluster -----------------------------------------------------------------------------------------
    def _slice(self, cluster: int) -> tuple[Slice, int] | None:
        """Where the refcount of a cluster is; None if its block is missing. Raises OSError."""
        index = cluster >> self.block_bits
        block = self.table[index] & OFFSET_MASK if index < len(self.table) else 0
        if not block:
            return None
        if block & ((1 << self._cluster_bits) - 1) or block >= self._file.end:
            raise CorruptImage("a refcount block is where none can be")
        number = (cluster & ((1 << self.block_bits) - 1)) >> self._slice_bits
        return self._cache.get(block + number * self._cache.size), cluster & ((1 << self._slice_bits) - 1)

    def get(self, cluster: int) -> int:
        """How many times a cluster is used. Raises OSError."""
        found = self._slice(cluster)
        return 0 if found is None else found[0].entries[found[1]]

    def set(self, cluster: int, count: int) -> None:
        """Set a refcount; its block is made if it is missing. Raises OSError."""
        while (found := self._slice(cluster)) is None:
            self._make_block(cluster >> self.block_bits)
        part, at = found
        part.entries[at] = count
        self._cache.changed(part)
        if not count:
            self._first_free = min(self._first_free, cluster)

    def up(self, cluster: int) -> None:
        """A cluster is used once more. Raises OSError."""
        count = self.get(cluster)
        if count == self.most:
            raise OSError(errno.EINVAL, "the refcounts of the image have too few bits")
        self.set(cluster, count + 1)

    def down(self, cluster: int) -> int:
        """A cluster is used once less; return how many times it is still used. Raises OSError."""
        count = self.get(cluster)
        if not count:
            raise CorruptImage(f"cluster {cluster} is in use, and has a refcount of 0")
        self.set(cluster, count - 1)
        return count - 1

    def down_run(self, first: int, count: int) -> tuple[int, bool]:
        """Clusters are used once less: as many of `count` as can be done in one go. Return how many, and whether these
        are free now. Raises OSError."""
        found = self._slice(first)
        if found is not None:
            part, at = found
            run = min(count, len(part.entries) - at)
            if part.entries[at : at + run].count(1) == run:
                part.entries[at : at + run] = array(self._code, (0,)) * run
                self._cache.changed(part)
                self._first_free = min(self._first_free, first)
                return run, True
        return 1, self.down(first) == 0

    # -- free ones -------------------------------------------------------------------------------------------
    def allocate(self, want: int) -> tuple[int, int]:
        """Take up to `want` free clusters that stand side by side: the first of them, and how many. Raises OSError."""
        cluster = self._first_free
        while True:
            found = self._slice(cluster)
            if found is None:
                index = cluster >> self.block_bits
                if index < len(self.table):
                    self._make_block(index)
                else:
                    self.append(0)
                continue
            part, at = found
            entries = part.entries
            try:
                free = entries.index(0, at)
                break
            except ValueError:
                cluster += len(entries) - at
        first = cluster + free - at
        most = min(want, len(entries) - free)
        count = 1
        while count < most and not entries[free + count]:
            count += 1
        self._require_room(first, count)
        entries[free : free + count] = array(self._code, (1,)) * count
        self._cache.changed(part)
        self._first_free = first + count
        return first, count

    def allocate_run(self, count: int) -> int:
        """Take `count` clusters that stand side by side, and return the first. Raises OSError."""
        first, got = self.allocate(count)
        if got == count:
            return first
        self.release(first, got)
        return self.append(count)

    def release(self, first: int, count: int) -> None:
        """Give back clusters that were taken, and that nothing names yet. Raises OSError."""
        for cluster in range(first, first + count):
            self.down(cluster)

    def _require_room(self, first: int, count: int) -> None:
        if (first + count) << self._cluster_bits > LARGEST_OFFSET:
            raise OSError(errno.EFBIG, "the image cannot become larger")
        if hit := self._regions.hit(first, count):
            raise CorruptImage(f"{hit} lies in clusters that should be free")

    # -- blocks ----------------------------------------------------------------------------------------------
    def _make_block(self, index: int) -> None:
        """Make a block that is missing. All clusters that it counts are free, and it takes the first of them."""
        if index >= len(self.table):
            self.append(0)
            return
        cluster = index << self.block_bits
        self._require_room(cluster, 1)
        self._write_block(cluster, 1)
        self._enter_block(index, cluster)

    def _write_block(self, cluster: int, used: int) -> None:
        """Write a whole block: the first `used` of its clusters are used once."""
        self._file.write(cluster << self._cluster_bits, block_of(used, self.order, 1 << self._cluster_bits))
        self._cache.forget(cluster << self._cluster_bits, 1 << self._cluster_bits)

    def _enter_block(self, index: int, cluster: int) -> None:
        self.table[index] = cluster << self._cluster_bits
        self._new_blocks.add(index)
        self._regions.add(cluster)

    def append(self, count: int) -> int:
        """Take `count` clusters side by side, behind all others that are counted, and return the first. The blocks for
        them stand before them, and a longer table if that is needed. Raises OSError."""
        cluster_size = 1 << self._cluster_bits
        index = -(-len(self.table.tobytes().rstrip(b"\0")) // ENTRY_SIZE)
        blocks, longer = 1, 0
        while True:
            all_clusters = blocks + longer + count
            needed_blocks = -(-all_clusters >> self.block_bits)
            needed = 0
            if index + needed_blocks > len(self.table):
                needed = -(-(index + needed_blocks) * ENTRY_SIZE * 3 // (2 * cluster_size))  # with some for later
            if needed_blocks <= blocks and needed <= longer:
                break
            blocks, longer = max(blocks, needed_blocks), max(longer, needed)
        if longer * cluster_size > MAX_REFTABLE_SIZE:
            raise OSError(errno.EFBIG, "the image cannot become larger: its refcount table is full")
        start = index << self.block_bits
        self._require_room(start, all_clusters)
        for number in range(blocks):
            self._write_block(start + number, min(all_clusters - (number << self.block_bits), 1 << self.block_bits))
        if longer:
            self._move_table(start + blocks, longer)
        for number in range(blocks):
            self._enter_block(index + number, start + number)
        if longer:
            self._write_blocks()
        return start + blocks + longer

    def _move_table(self, cluster: int, count: int) -> None:
        """Write the table into these clusters, and have the header name it."""
        old, header = self._header.refcount_table, self._header
        new = Place(cluster << self._cluster_bits, count << self._cluster_bits)
        self._write_blocks()
        table = self.table + array("Q", (0,)) * ((new.length - old.length) // ENTRY_SIZE)
        self._file.write(new.offset, as_bytes(table))
        self._file.sync()
        self._file.write(REFTABLE_AT, struct.pack(">QI", new.offset, count))
        self._file.sync()
        self.table, header.refcount_table = table, new
        self._put_regions()
        self._retire(old.offset >> self._cluster_bits, old.length >> self._cluster_bits)

    # -- to the file -----------------------------------------------------------------------------------------
    @property
    def dirty(self) -> bool:
        return self._cache.dirty or bool(self._new_blocks)

    def _write_blocks(self) -> None:
        self._cache.write()
        if self._new_blocks:
            self._file.sync()  # a block is there before the table names it
            for index in sorted(self._new_blocks):
                at = self._header.refcount_table.offset + index * ENTRY_SIZE
                self._file.write(at, struct.pack(">Q", self.table[index]))
                self._new_blocks.discard(index)

    def write(self) -> None:
        """Write what has changed. Raises OSError, and then what is not written still has to be."""
        self._write_blocks()


def clusters_of(place: Place, cluster_bits: int) -> range:
    """The clusters that a table takes."""
    return range(place.offset >> cluster_bits, -(-(place.offset + place.length) >> cluster_bits))
