# SPDX-License-Identifier: GPL-2.0-or-later
"""What a qcow2 image has, cluster by cluster, and how it is read. Writing is in disk.py.

Clusters of one kind whose places follow each other are one run. A run of data is read with one system call. A cluster
without a place is what the backing file has there, or zeros.

Nothing here changes the image. An entry that cannot be is an I/O error for who reads there, and for nobody else.

Read beside it: qcow2_co_preadv_part in QEMU's block/qcow2.c, qcow2_get_host_offset in block/qcow2-cluster.c.
"""

from __future__ import annotations

from pvhv.images.file import File
from pvhv.images.image import SECTOR_SIZE, Identity, Image, input_output_error
from pvhv.images.qcow2 import compressed
from pvhv.images.qcow2.compressed import Packed
from pvhv.images.qcow2.header import Header
from pvhv.images.qcow2.mapping import COMPRESSED, OFFSET, ZERO, Mapping

MOST_AT_ONCE = 256  # clusters that are handled between two system calls

HOLE, ZEROS, DATA, PACKED = range(4)  # what a cluster of the disk is


class Contents:
    """The sectors of a qcow2 image, to be read."""

    def __init__(self, file: File, header: Header, below: Image | None, mapping: Mapping) -> None:
        self.file = file
        self.header = header
        self.backing = below
        self.identity = file.identity
        self.below: tuple[Identity, ...] = () if below is None else (below.identity, *below.below)
        self.sectors = -(-header.size // SECTOR_SIZE)
        self.mapping = mapping
        self._bits, self._size = header.cluster_bits, header.cluster_size
        self._unpacked: tuple[int, bytes] = (0, b"")  # the compressed cluster that was read last

    def run(self, sector: int, count: int) -> tuple[bool, int]:
        """Whether there may be anything but zeros from `sector` on, and for how many of `count` sectors that is so.
        Raises OSError."""
        kind, _host, length = self._run(sector * SECTOR_SIZE, count * SECTOR_SIZE)
        length //= SECTOR_SIZE
        if kind != HOLE or self.backing is None:
            return kind not in (HOLE, ZEROS), length
        if sector >= self.backing.sectors:
            return False, length
        return self.backing.run(sector, min(length, self.backing.sectors - sector))

    def read(self, sector: int, count: int) -> bytes:
        """Return `count` sectors from `sector` on. Raises OSError."""
        self._require_inside(sector, count)
        offset, left = sector * SECTOR_SIZE, count * SECTOR_SIZE
        pieces = []
        while left:
            kind, host, length = self._run(offset, left)
            if kind == DATA:
                piece = self._read_file(host, length)
            elif kind == PACKED:
                inside = offset & (self._size - 1)
                piece = self._unpack(host)[inside : inside + length]
            elif kind == HOLE and self.backing is not None:
                piece = self._read_below(offset, length)
            else:
                piece = bytes(length)
            pieces.append(piece)
            offset += length
            left -= length
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _require_inside(self, sector: int, count: int) -> None:
        if sector + count > self.sectors:
            raise input_output_error("there are no such sectors")

    def _run(self, offset: int, length: int) -> tuple[int, int, int]:
        """What is at this place of the disk: its kind, where in the file it is (or the entry, if it is compressed), and
        how many of `length` bytes are the same, side by side. Raises OSError."""
        cluster, inside = offset >> self._bits, offset & (self._size - 1)
        found = self.mapping.find(cluster)
        if found is None:
            span = self.header.l2_bits + self._bits
            return HOLE, 0, min(length, ((offset >> span) + 1 << span) - offset)
        part, at = found
        entries = part.entries
        entry = entries[at]
        most = min(len(entries) - at, -(-(inside + length) >> self._bits), MOST_AT_ONCE)
        if entry & COMPRESSED:
            return PACKED, entry, min(length, self._size - inside)
        count = 1
        if entry & ZERO:
            if self.header.version < 3:
                raise input_output_error("the image is corrupt: version 2 has no zero clusters")
            while count < most and entries[at + count] & (COMPRESSED | ZERO) == ZERO:
                count += 1
            return ZEROS, 0, min(length, (count << self._bits) - inside)
        if not entry & OFFSET:
            while count < most and not entries[at + count] & (COMPRESSED | ZERO | OFFSET):
                count += 1
            return HOLE, 0, min(length, (count << self._bits) - inside)
        host = entry & OFFSET
        if host & (self._size - 1):
            raise input_output_error("the image is corrupt: a cluster does not begin at a cluster")
        wanted = host + self._size
        while count < most and entries[at + count] & (COMPRESSED | ZERO | OFFSET) == wanted:
            count += 1
            wanted += self._size
        return DATA, host + inside, min(length, (count << self._bits) - inside)

    def _read_file(self, host: int, length: int) -> bytes:
        data = self.file.read_some(host, length)
        if len(data) == length:
            return data
        # The last cluster of a file may end early. One that is missing is data that was lost.
        if host + len(data) <= (host + length - 1) & -self._size:
            raise input_output_error("the image is cut short: a cluster lies beyond the end of its file")
        return data.ljust(length, b"\0")

    def _unpack(self, entry: int) -> bytes:
        if self._unpacked[0] != entry:
            packed = Packed.of(entry, self._bits)
            raw = self.file.read_some(packed.offset, packed.length)
            self._unpacked = entry, compressed.unpack(raw, self.header.compression, self._size)
        return self._unpacked[1]

    def _read_below(self, offset: int, length: int) -> bytes:
        """Read what the backing file has there; it may be shorter than this image."""
        assert self.backing is not None
        sector, count = offset // SECTOR_SIZE, length // SECTOR_SIZE
        there = max(0, min(count, self.backing.sectors - sector))
        data = self.backing.read(sector, there) if there else b""
        return data if there == count else data.ljust(length, b"\0")
