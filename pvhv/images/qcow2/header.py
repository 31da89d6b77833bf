# SPDX-License-Identifier: GPL-2.0-or-later
"""The header of a qcow2 image, and the extensions behind it: all of the file's first cluster.

What is read here comes from anywhere, so each number is checked before it is used: tables are bounded as QEMU bounds
them, begin at a cluster, and lie within the file. A feature that we do not have, and that one has to know, is refused
by its name.

Not modelled: encryption, external data files, extended L2 entries (subclusters). They are refused. An image with
persistent bitmaps may be read only, since our writes would make them wrong.

Read beside it: qcow2_do_open and qcow2_read_extensions in QEMU's block/qcow2.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from construct import Bytes, Const, ConstructError, Int8ub, Int32ub, Int64ub, Struct

from pvhv.images.file import File
from pvhv.images.image import QCOW2_MAGIC, BadImage

MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
MAX_REFCOUNT_ORDER = 6
MAX_L1_SIZE = 32 << 20  # bytes
MAX_REFTABLE_SIZE = 8 << 20
MAX_SNAPSHOTS = 65536
LONGEST_BACKING_NAME = 1023
ENTRY_SIZE = 8  # of an L1 table, an L2 table and a refcount table
LARGEST_OFFSET = 1 << 56  # of anything in the file
MAX_DISK_SIZE = 1 << 62  # bytes; QEMU has no larger ones

DIRTY, CORRUPT, EXTERNAL_DATA, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))  # incompatible features
FEATURE_NAMES = {EXTERNAL_DATA: "an external data file", EXTENDED_L2: "extended L2 entries (subclusters)"}
LAZY_REFCOUNTS = 1 << 0  # compatible
AUTOCLEAR_BITMAPS = 1 << 0

ZLIB, ZSTD = 0, 1
COMPRESSION_NAMES = {ZLIB: "zlib", ZSTD: "zstd"}

EXTENSION_END = 0
EXTENSION_BACKING_FORMAT = 0xE2792ACA
EXTENSION_FEATURE_NAMES = 0x6803F857
EXTENSION_BITMAPS = 0x23852875
EXTENSION_ENCRYPTION = 0x0537BE77
EXTENSION_DATA_FILE = 0x44415441

HEADER_V2 = Struct(
    "magic" / Const(QCOW2_MAGIC),
    "version" / Int32ub,
    "backing_file_offset" / Int64ub,
    "backing_file_size" / Int32ub,
    "cluster_bits" / Int32ub,
    "size" / Int64ub,
    "crypt_method" / Int32ub,
    "l1_size" / Int32ub,
    "l1_table_offset" / Int64ub,
    "refcount_table_offset" / Int64ub,
    "refcount_table_clusters" / Int32ub,
    "nb_snapshots" / Int32ub,
    "snapshots_offset" / Int64ub,
)
HEADER_V3 = Struct(
    "incompatible_features" / Int64ub,
    "compatible_features" / Int64ub,
    "autoclear_features" / Int64ub,
    "refcount_order" / Int32ub,
    "header_length" / Int32ub,
)
HEADER_MORE = Struct("compression_type" / Int8ub, "padding" / Bytes(7))
EXTENSION = Struct("type" / Int32ub, "length" / Int32ub)
V2_LENGTH, V3_LENGTH = HEADER_V2.sizeof(), HEADER_V2.sizeof() + HEADER_V3.sizeof()

# Where single fields are, which are written in place. Each of these groups is written in one go.
SIZE_AT = 24  # size
L1_AT = 36  # l1_size, l1_table_offset
REFTABLE_AT = 48  # refcount_table_offset, refcount_table_clusters
INCOMPATIBLE_AT = V2_LENGTH
AUTOCLEAR_AT = V2_LENGTH + 16


class Place(NamedTuple):
    """A table: where in the file it begins, and how many bytes it has."""

    offset: int
    length: int


@dataclass
class Header:
    """The header, checked."""

    version: int
    cluster_bits: int
    size: int
    l1: Place
    refcount_table: Place
    refcount_order: int
    snapshots: int
    snapshots_offset: int
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    compression: int = ZLIB
    backing_file: str = ""
    backing_format: str = ""
    has_bitmaps: bool = False

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l2_bits(self) -> int:
        """An L2 table is a cluster of entries: their number, as a power of two."""
        return self.cluster_bits - 3

    def l1_entries_needed(self, size: int) -> int:
        """How many entries the L1 table of a disk of `size` bytes has at least."""
        return -(-size >> (self.cluster_bits + self.l2_bits))


def read(file: File, name: str) -> Header:
    """Read and check the header of a file; `name` is for messages. Raises BadImage, OSError."""
    try:
        return _read(file)
    except BadImage as bad:
        raise BadImage(f"{name}: {bad.message}", bad.hint) from None


def _read(file: File) -> Header:
    raw = file.read_some(0, 1 << MAX_CLUSTER_BITS if file.end > 1 << MAX_CLUSTER_BITS else file.end)
    if raw[: len(QCOW2_MAGIC)] != QCOW2_MAGIC:
        raise BadImage("it is not a qcow2 image", "is it a raw one? its format is then raw")
    try:
        first = HEADER_V2.parse(raw[:V2_LENGTH])
        if first.version not in (2, 3):
            raise BadImage(f"version {first.version} of qcow2 is unknown here; there are 2 and 3")
        more = HEADER_V3.parse(raw[V2_LENGTH:V3_LENGTH]) if first.version == 3 else None
    except ConstructError:
        raise BadImage("it is cut short: its header is not whole") from None
    if not MIN_CLUSTER_BITS <= first.cluster_bits <= MAX_CLUSTER_BITS:
        raise BadImage(f"its clusters have 2^{first.cluster_bits} bytes; 2^9 to 2^21 are possible")
    cluster_size = 1 << first.cluster_bits
    length = V2_LENGTH if more is None else more.header_length
    if more is not None and not V3_LENGTH <= length <= cluster_size:
        raise BadImage(f"its header has {length} bytes, which cannot be")
    header = Header(
        version=first.version,
        cluster_bits=first.cluster_bits,
        size=first.size,
        l1=Place(first.l1_table_offset, first.l1_size * ENTRY_SIZE),
        refcount_table=Place(first.refcount_table_offset, first.refcount_table_clusters << first.cluster_bits),
        refcount_order=4,
        snapshots=first.nb_snapshots,
        snapshots_offset=first.snapshots_offset,
    )
    if first.crypt_method:
        raise BadImage("it is encrypted, which is not here", "qemu-img convert makes an image of it that is not")
    if more is not None:
        _take_features(header, more)
        if length > V3_LENGTH:
            header.compression = raw[V3_LENGTH] if len(raw) > V3_LENGTH else 0
    if header.compression not in COMPRESSION_NAMES:
        raise BadImage(f"its clusters are compressed in a way that is unknown here ({header.compression})")
    if bool(header.incompatible & COMPRESSION) != (header.compression != ZLIB):
        raise BadImage("its header contradicts itself about the compression of its clusters")
    _check_tables(header, file.end)
    _take_backing_name(header, raw, first.backing_file_offset, first.backing_file_size)
    stop = first.backing_file_offset if first.backing_file_offset else cluster_size
    _take_extensions(header, raw[length : min(stop, cluster_size)])
    return header


def _take_features(header: Header, more: Mapping[str, int]) -> None:
    header.incompatible = more["incompatible_features"]
    header.compatible = more["compatible_features"]
    header.autoclear = more["autoclear_features"]
    header.refcount_order = more["refcount_order"]
    for bit, feature in FEATURE_NAMES.items():
        if header.incompatible & bit:
            raise BadImage(f"it has {feature}, which is not here", "qemu-img convert makes an image without it")
    unknown = header.incompatible & ~(DIRTY | CORRUPT | COMPRESSION)
    if unknown:
        raise BadImage(f"it has features that one has to know, and that are unknown here (bits {unknown:#x})")
    if header.refcount_order > MAX_REFCOUNT_ORDER:
        raise BadImage(f"its refcounts have 2^{header.refcount_order} bits; 2^6 is the most")


def _check_tables(header: Header, end: int) -> None:
    if header.size > MAX_DISK_SIZE:
        raise BadImage(f"its disk has {header.size} bytes, more than any disk")
    if not header.refcount_table.length:
        raise BadImage("it has no refcount table")
    if header.snapshots > MAX_SNAPSHOTS:
        raise BadImage(f"it has {header.snapshots} snapshots; {MAX_SNAPSHOTS} is the most")
    if header.l1.length // ENTRY_SIZE < header.l1_entries_needed(header.size):
        raise BadImage("its L1 table is too small for its disk")
    for what, place, most in (
        ("L1 table", header.l1, MAX_L1_SIZE),
        ("refcount table", header.refcount_table, MAX_REFTABLE_SIZE),
        ("snapshot table", Place(header.snapshots_offset, 1 if header.snapshots else 0), 1),
    ):
        if place.length > most:
            raise BadImage(f"its {what} has {place.length} bytes; {most} is the most")
        if not place.length:
            continue
        if place.offset & (header.cluster_size - 1) or not place.offset:
            raise BadImage(f"its {what} does not begin at a cluster (offset {place.offset:#x})")
        if place.offset + place.length > end:
            raise BadImage(f"its {what} lies beyond the end of the file: the file is cut short, or corrupt")


def _take_backing_name(header: Header, raw: bytes, offset: int, length: int) -> None:
    if not offset:
        return
    if length > LONGEST_BACKING_NAME or offset + length > header.cluster_size or offset < V2_LENGTH:
        raise BadImage("the name of its backing file lies outside of its header")
    if offset + length > len(raw):
        raise BadImage("it is cut short: the name of its backing file is not whole")
    header.backing_file = raw[offset : offset + length].decode("utf-8", "surrogateescape")
    if "\0" in header.backing_file:
        raise BadImage("the name of its backing file has a NUL character in it")


def _take_extensions(header: Header, raw: bytes) -> None:
    at = 0
    while at + EXTENSION.sizeof() <= len(raw):
        found = EXTENSION.parse(raw[at:])
        at += EXTENSION.sizeof()
        if found.type == EXTENSION_END:
            return
        if found.length > len(raw) - at:
            raise BadImage(f"an extension of its header ({found.type:#x}) is longer than the header")
        if found.type == EXTENSION_BACKING_FORMAT:
            if found.length >= 16:
                raise BadImage("the name of its backing file's format is too long")
            header.backing_format = raw[at : at + found.length].decode("ascii", "backslashreplace").rstrip("\0")
        elif found.type == EXTENSION_BITMAPS:
            header.has_bitmaps = bool(header.autoclear & AUTOCLEAR_BITMAPS)
        at += -(-found.length // 8) * 8
