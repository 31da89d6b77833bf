# SPDX-License-Identifier: GPL-2.0-or-later
"""New qcow2 images, and longer ones.

A new image has a header, a refcount table, one refcount block, and its L1 table: a disk of any size costs these only.
The header is written last, so a file that was not finished is no image.

Not modelled: preallocation, a disk made smaller.

Read beside it: qcow2_co_create, qcow2_update_header and qcow2_co_truncate in QEMU's block/qcow2.c.
"""

from __future__ import annotations

import os
import struct
from array import array
from typing import NamedTuple

from pvhv.images.file import File
from pvhv.images.image import QCOW2_MAGIC, SECTOR_SIZE, BadImage
from pvhv.images.qcow2.disk import Qcow2Image
from pvhv.images.qcow2.header import (
    ENTRY_SIZE,
    EXTENSION,
    EXTENSION_BACKING_FORMAT,
    EXTENSION_END,
    EXTENSION_FEATURE_NAMES,
    HEADER_MORE,
    HEADER_V2,
    HEADER_V3,
    L1_AT,
    LONGEST_BACKING_NAME,
    MAX_CLUSTER_BITS,
    MAX_DISK_SIZE,
    MAX_L1_SIZE,
    MIN_CLUSTER_BITS,
    SIZE_AT,
    V2_LENGTH,
    V3_LENGTH,
    Header,
    Place,
)
from pvhv.images.qcow2.refcounts import block_of, clusters_of
from pvhv.images.qcow2.tables import as_bytes

# The names of feature bits, for programs that do not know them: kind (incompatible, compatible, autoclear) and bit.
FEATURES = (
    (0, 0, b"dirty bit"),
    (0, 1, b"corrupt bit"),
    (0, 2, b"external data file"),
    (0, 3, b"compression type"),
    (0, 4, b"extended L2 entries"),
    (1, 0, b"lazy refcounts"),
    (2, 0, b"bitmaps"),
    (2, 1, b"raw external data"),
)
FEATURE = struct.Struct("BB46s")
ROOM_FOR_NAMES = 4096  # in smaller clusters there may be none, beside a backing file's name


class Recipe(NamedTuple):
    """What a new image is to be."""

    size: int  # bytes, a whole number of sectors
    cluster_size: int = 65536
    refcount_bits: int = 16
    version: int = 3
    backing_file: str = ""
    backing_format: str = ""


def make(file: File, recipe: Recipe) -> Qcow2Image:
    """Make an image in an empty file, and return it, open. Raises BadImage, OSError."""
    header = _header(recipe)
    _first_cluster(header, recipe)  # before anything is written, to see whether it fits
    cluster_size = header.cluster_size
    block = 2 * cluster_size
    file.write(cluster_size, struct.pack(">Q", block).ljust(cluster_size, b"\0"))
    file.write(block, block_of(3, header.refcount_order, cluster_size))
    made = Qcow2Image(file, header, writable=True)
    grow(made, recipe.size)
    file.write(0, _first_cluster(header, recipe))
    file.sync()
    return made


def _header(recipe: Recipe) -> Header:
    bits, order = recipe.cluster_size.bit_length() - 1, recipe.refcount_bits.bit_length() - 1
    if recipe.cluster_size != 1 << bits or not MIN_CLUSTER_BITS <= bits <= MAX_CLUSTER_BITS:
        raise BadImage("cluster_size is a power of two, from 512 to 2M")
    if recipe.refcount_bits not in (1, 2, 4, 8, 16, 32, 64):
        raise BadImage("refcount_bits is 1, 2, 4, 8, 16, 32 or 64")
    if recipe.version not in (2, 3):
        raise BadImage("compat is 0.10 or 1.1")
    if recipe.version == 2 and recipe.refcount_bits != 16:
        raise BadImage("with compat=0.10, refcount_bits is 16")
    return Header(
        version=recipe.version,
        cluster_bits=bits,
        size=0,
        l1=Place(0, 0),
        refcount_table=Place(1 << bits, 1 << bits),
        refcount_order=order,
        snapshots=0,
        snapshots_offset=0,
        backing_file=recipe.backing_file,
        backing_format=recipe.backing_format,
    )


def _first_cluster(header: Header, recipe: Recipe) -> bytes:
    """The header as bytes, with its extensions, and the name of the backing file behind them. Raises BadImage."""
    name = os.fsencode(recipe.backing_file)
    behind = b""
    if name and recipe.backing_format:
        behind += _extension(EXTENSION_BACKING_FORMAT, recipe.backing_format.encode())
    if header.version >= 3 and header.cluster_size >= ROOM_FOR_NAMES:
        behind += _extension(EXTENSION_FEATURE_NAMES, b"".join(FEATURE.pack(*each) for each in FEATURES))
    behind += _extension(EXTENSION_END, b"")
    length = V2_LENGTH if header.version == 2 else V3_LENGTH + HEADER_MORE.sizeof()
    first = HEADER_V2.build({
        "magic": QCOW2_MAGIC, "version": header.version, "backing_file_offset": length + len(behind) if name else 0,
        "backing_file_size": len(name), "cluster_bits": header.cluster_bits, "size": header.size, "crypt_method": 0,
        "l1_size": header.l1.length // ENTRY_SIZE, "l1_table_offset": header.l1.offset,
        "refcount_table_offset": header.refcount_table.offset,
        "refcount_table_clusters": header.refcount_table.length >> header.cluster_bits,
        "nb_snapshots": 0, "snapshots_offset": 0,
    })  # fmt: skip
    if header.version >= 3:
        first += HEADER_V3.build({
            "incompatible_features": 0, "compatible_features": 0, "autoclear_features": 0,
            "refcount_order": header.refcount_order, "header_length": length,
        })  # fmt: skip
        first += HEADER_MORE.build({"compression_type": header.compression, "padding": bytes(7)})
    first += behind + name
    if len(name) > LONGEST_BACKING_NAME or len(first) > header.cluster_size:
        raise BadImage("the name of the backing file is too long for the header")
    return bytes(first).ljust(header.cluster_size, b"\0")


def _extension(kind: int, data: bytes) -> bytes:
    head: bytes = EXTENSION.build({"type": kind, "length": len(data)})
    return head + data.ljust(-(-len(data) // 8) * 8, b"\0")


def grow(image: Qcow2Image, size: int) -> None:
    """Make the disk of an image that is open to be written longer: `size` bytes. Raises BadImage, OSError."""
    header, file, bits = image.header, image.file, image.header.cluster_bits
    entries = header.l1_entries_needed(size)
    if size < header.size:
        raise BadImage(f"its disk has {header.size} bytes, and an image cannot become shorter here")
    if size > MAX_DISK_SIZE or entries * ENTRY_SIZE > MAX_L1_SIZE:
        raise BadImage(f"a disk of {size} bytes is too large for clusters of {header.cluster_size}")
    if header.snapshots and header.version < 3:
        raise BadImage("an image of version 2 with snapshots cannot grow", "qemu-img amend -o compat=1.1 makes it 3")
    l1 = image.mapping.l1
    if entries > len(l1):
        longer = l1 + array("Q", (0,)) * (entries - len(l1))
        length = -(-entries * ENTRY_SIZE >> bits)
        first = image.refcounts.allocate_run(length)
        image.write_tables()
        file.write(first << bits, as_bytes(longer).ljust(length << bits, b"\0"))
        file.sync()
        file.write(L1_AT, struct.pack(">IQ", entries, first << bits))
        file.sync()
        old, header.l1, image.mapping.l1 = header.l1, Place(first << bits, entries * ENTRY_SIZE), longer
        image.regions.put("the L1 table", clusters_of(header.l1, bits))
        if old.length:
            image.drop(old.offset >> bits, len(clusters_of(old, bits)))
    file.write(SIZE_AT, struct.pack(">Q", size))
    header.size, image.sectors = size, -(-size // SECTOR_SIZE)
    image.flush()
