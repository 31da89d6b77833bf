# SPDX-License-Identifier: GPL-2.0-or-later
"""Clusters that are packed: a stream of zlib or Zstandard that begins and ends anywhere in the file.

An entry of an L2 table says where it begins, and how many sectors of 512 bytes it touches. Unpacking takes no more
memory than a cluster, whatever the stream says.

Read beside it: qcow2_parse_compressed_l2_entry in QEMU's block/qcow2-cluster.c, block/qcow2-threads.c.
"""

from __future__ import annotations

import importlib
import zlib
from typing import Any, NamedTuple

from pvhv.images.image import SECTOR_SIZE, input_output_error
from pvhv.images.qcow2.header import ZSTD

WINDOW = 12  # of zlib, as a power of two


class Packed(NamedTuple):
    """Where a packed cluster is: some bytes more than it has, for its length is known in sectors only."""

    offset: int
    length: int

    @classmethod
    def of(cls, entry: int, cluster_bits: int) -> Packed:
        """What an entry with the compressed flag says."""
        shift = 62 - (cluster_bits - 8)
        offset = entry & ((1 << shift) - 1)
        sectors = ((entry >> shift) & ((1 << (cluster_bits - 8)) - 1)) + 1
        return cls(offset, sectors * SECTOR_SIZE - offset % SECTOR_SIZE)

    def entry(self, cluster_bits: int) -> int:
        """The reverse, without flags."""
        sectors = (self.offset % SECTOR_SIZE + self.length - 1) // SECTOR_SIZE
        return self.offset | sectors << (62 - (cluster_bits - 8))

    def clusters(self, cluster_bits: int) -> range:
        """The clusters of the file that it touches."""
        return range(self.offset >> cluster_bits, ((self.offset + self.length - 1) >> cluster_bits) + 1)


def unpack(raw: bytes, method: int, cluster_size: int) -> bytes:
    """The bytes of a cluster. Raises OSError for a stream that is damaged or too short."""
    try:
        data = _zstd(raw, cluster_size) if method == ZSTD else _zlib(raw, cluster_size)
    except Exception as error:  # each library has its own
        if isinstance(error, OSError) or type(error).__name__ in ("error", "ZstdError"):
            raise input_output_error(f"a compressed cluster is damaged: {error}") from None
        raise
    if len(data) != cluster_size:
        raise input_output_error("a compressed cluster is damaged: it ends too early")
    return data


def pack(data: bytes) -> bytes | None:
    """A cluster's bytes by zlib, or None if that does not make them less."""
    packer = zlib.compressobj(method=zlib.DEFLATED, wbits=-WINDOW)
    packed = packer.compress(data) + packer.flush()
    return packed if len(packed) < len(data) else None


def _zlib(raw: bytes, cluster_size: int) -> bytes:
    return zlib.decompressobj(-WINDOW).decompress(raw, cluster_size)


def _zstd(raw: bytes, cluster_size: int) -> bytes:
    try:  # part of Python from 3.14 on, and a package before that
        module: Any = importlib.import_module("compression.zstd")
        return bytes(module.ZstdDecompressor().decompress(raw, cluster_size))
    except ImportError:
        module = importlib.import_module("zstandard")
    with module.ZstdDecompressor().stream_reader(raw) as reader:
        return bytes(reader.read(cluster_size))
