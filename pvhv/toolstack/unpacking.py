# SPDX-License-Identifier: GPL-2.0-or-later
"""Packed data, unpacked piece by piece.

A few kilobytes can unpack to more than any machine has. So an unpacker is asked for one piece at a time. The caller
looks at the first piece before there is a second, and stops when there are too many. A piece is made without the
interpreter's lock; it is copied with the lock, but is small. So guests go on meanwhile.

gzip, XZ, LZMA and bzip2 are Python's own, and Zstandard is from 3.14 on; before that, and for LZ4, packages do it.

Read beside it: Documentation/arch/x86/boot.rst of the Linux source, for what kernels are packed with.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

PIECE = 256 << 10
MOST_DICTIONARY = 256 << 20  # what an unpacker may want for itself; Linux packs with up to half of it
LZ4_BLOCK = 8 << 20  # what a block of the legacy format unpacks to at most
GZIP = b"\x1f\x8b"

Pieces = Iterator[bytes]


class Unreadable(Exception):
    """The packed data contradict themselves."""


class Packing(NamedTuple):
    """A packing: its first bytes, its name, and its unpacker; `package` is the Python package that the unpacker
    needs."""

    begins: bytes
    name: str
    pieces: Callable[[memoryview], Pieces]
    package: str = ""


class _Gzip:
    """zlib's unpacker, with the words of the others."""

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._unpacker.eof

    @property
    def needs_input(self) -> bool:
        return not self._unpacker.unconsumed_tail

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._unpacker.decompress(self._unpacker.unconsumed_tail + data, most)


def _steps(unpacker: Any, packed: memoryview) -> Pieces:
    """The pieces of one stream; afterwards `unpacker.eof` says whether the stream was complete."""
    at = 0
    while not unpacker.eof:
        data = b""
        if unpacker.needs_input:
            data = bytes(packed[at : at + PIECE])
            at += len(data)
        piece = unpacker.decompress(data, PIECE)
        if not piece and at >= len(packed) and unpacker.needs_input and not unpacker.eof:
            return
        yield piece


def unzip(packed: memoryview) -> Pieces:
    """The first member of a gzip file, whatever follows it. Raises Unreadable, also if the file is cut short."""
    unpacker = _Gzip()
    try:
        yield from _steps(unpacker, packed)
    except zlib.error:
        raise Unreadable from None
    if not unpacker.eof:
        raise Unreadable


def _gzip(packed: memoryview) -> Pieces:
    return _steps(_Gzip(), packed)


def _xz(packed: memoryview) -> Pieces:
    import lzma

    return _steps(lzma.LZMADecompressor(memlimit=MOST_DICTIONARY), packed)


def _bzip2(packed: memoryview) -> Pieces:
    import bz2

    return _steps(bz2.BZ2Decompressor(), packed)


def _zstandard(packed: memoryview) -> Pieces:
    try:
        return _steps(importlib.import_module("compression.zstd").ZstdDecompressor(), packed)
    except ImportError:
        module = importlib.import_module("zstandard")
    return _read(module.ZstdDecompressor().stream_reader(packed, read_size=PIECE))


def _read(stream: Any) -> Pieces:
    while piece := stream.read(PIECE):
        yield piece


def _lz4(packed: memoryview) -> Pieces:
    """`lz4 -l`: a magic number, then blocks, each with its packed size before it."""
    block = importlib.import_module("lz4.block")
    return _lz4_blocks(block, packed[4:])


def _lz4_blocks(block: Any, packed: memoryview) -> Pieces:
    while len(packed) >= 4:
        size = int.from_bytes(packed[:4], "little")
        if size > LZ4_BLOCK * 2:
            raise Unreadable
        if len(packed) < 4 + size:
            return
        yield block.decompress(packed[4 : 4 + size], uncompressed_size=LZ4_BLOCK)
        packed = packed[4 + size :]


PACKINGS: tuple[Packing, ...] = (
    Packing(GZIP, "gzip", _gzip),
    Packing(b"\xfd7zXZ\0", "XZ", _xz),
    Packing(b"]\0\0", "LZMA", _xz),
    Packing(b"BZh", "bzip2", _bzip2),
    Packing(b"\x28\xb5\x2f\xfd", "Zstandard", _zstandard, "zstandard"),
    Packing(b"\x02\x21\x4c\x18", "LZ4", _lz4, "lz4"),
)


def packing_of(packed: memoryview) -> Packing | None:
    """How these bytes are packed; None for a packing that is not known here."""
    return next((known for known in PACKINGS if packed[: len(known.begins)] == known.begins), None)
