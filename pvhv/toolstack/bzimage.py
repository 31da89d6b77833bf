# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel inside a bzImage, unpacked once.

A Linux distribution ships its kernel as a program that unpacks itself. What a domain builder wants is the ELF it would
unpack, and the header of the file says where it lies, in which of several packings. Its last four bytes are the size it
has unpacked, so that a file that was cut short is found out.

Unpacking takes seconds, so it is done once: the result is kept in the user's cache under the hash of the packed bytes.
Nothing there is trusted to be whole but by its name, which appears when the file is. Whoever waits is told how
far it is.

gzip, XZ, LZMA and bzip2 are Python's own, and Zstandard is from 3.14 on; before that, and for LZ4, packages do it.

Not modelled: LZO, which no distribution uses for kernels any more.

Read beside it: Documentation/arch/x86/boot.rst of the Linux source, tools/libs/guest/xg_dom_bzimageloader.c.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pvhv.build.cache import Cache, cache_directory
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.plainfile import TooLarge, read_plain

LARGEST = 1 << 30
HEADER = 0x250  # as far as the setup header is looked at
ANEW = "copy it, or build it, anew"
PIECE = 256 << 10
TELL_EVERY_S = 0.1
KEEP_PACKED_AS = "kernel"
LZ4_BLOCK = 8 << 20  # what a block of the legacy format unpacks to at most

Say = Callable[[str], None]


class Unreadable(Exception):
    """The packed data contradict themselves."""


class _Lz4Legacy:
    """`lz4 -l`: a magic number, then blocks, each with its packed size before it."""

    def __init__(self, block: Any) -> None:
        self.block = block
        self.data = b""
        self.begun = False

    def decompress(self, data: bytes) -> bytes:
        self.data += data
        if not self.begun and len(self.data) >= 4:
            self.begun, self.data = True, self.data[4:]
        done = []
        while len(self.data) >= 4:
            size = int.from_bytes(self.data[:4], "little")
            if size > LZ4_BLOCK * 2:
                raise Unreadable
            if len(self.data) < 4 + size:
                break
            done.append(self.block.decompress(self.data[4 : 4 + size], uncompressed_size=LZ4_BLOCK))
            self.data = self.data[4 + size :]
        return b"".join(done)


def _xz() -> Any:
    import lzma

    return lzma.LZMADecompressor()


def _gzip() -> Any:
    import zlib

    return zlib.decompressobj(wbits=31)


def _bzip2() -> Any:
    import bz2

    return bz2.BZ2Decompressor()


def _zstandard() -> Any:
    try:
        return importlib.import_module("compression.zstd").ZstdDecompressor()
    except ImportError:
        return importlib.import_module("zstandard").ZstdDecompressor().decompressobj()


def _lz4() -> Any:
    return _Lz4Legacy(importlib.import_module("lz4.block"))


# How a packing begins: its name, and what makes something that unpacks it.
PACKINGS: tuple[tuple[bytes, str, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", "gzip", _gzip),
    (b"\xfd7zXZ\0", "XZ", _xz),
    (b"]\0\0", "LZMA", _xz),
    (b"BZh", "bzip2", _bzip2),
    (b"\x28\xb5\x2f\xfd", "Zstandard", _zstandard),
    (b"\x02\x21\x4c\x18", "LZ4", _lz4),
)


PACKAGES = {"Zstandard": "zstandard", "LZ4": "lz4"}


def is_bzimage(data: bytes) -> bool:
    """Whether a file that begins with `data` says it is one."""
    return data[0x202:0x206] == b"HdrS"


def unpack(data: bytes, path: Path, say: Say | None = None) -> bytes:
    """The ELF in the bzImage `data`, which came from `path`; from the cache if it was there before."""
    packed = _payload(data, path)
    cache = _cache()
    if (kept := _kept(packed, cache)) is not None:
        with contextlib.suppress(OSError):
            return kept.read_bytes()
    elf = _unpacked(packed, path, say)
    if cache is not None:
        with contextlib.suppress(OSError):  # a full disk: the next one unpacks it again
            cache.keep(KEEP_PACKED_AS, _key(packed), elf)
    return elf


def unpack_ahead(path: Path, say: Say) -> None:
    """Have the kernel at `path` in the cache, if it is a bzImage, so that nobody waits for it without a word.

    Whatever else is wrong with the file is for its reader to say. Raises ToolstackError for a bzImage that is damaged.
    """
    try:
        with path.open("rb") as file:
            if not path.is_file() or not is_bzimage(file.read(HEADER)):
                return
        data = read_plain(path, LARGEST)
    except (OSError, TooLarge):
        return
    if _kept(_payload(data, path), _cache()) is None:
        unpack(data, path, say)


def _key(packed: bytes) -> str:
    return hashlib.sha256(packed).hexdigest()


def _kept(packed: bytes, cache: Cache | None) -> Path | None:
    """What `packed` unpacked to before, if that is all there."""
    found = None if cache is None else cache.find(KEEP_PACKED_AS, _key(packed))
    with contextlib.suppress(OSError):
        if found is not None and found.stat().st_size & 0xFFFF_FFFF == _unpacked_size(packed):
            return found
    return None


def _cache() -> Cache | None:
    directory = cache_directory()
    if directory is None:
        return None
    try:
        return Cache(directory)
    except OSError:
        return None


def _payload(data: bytes, path: Path) -> bytes:
    """The packed kernel, its size at the end."""
    if len(data) < HEADER:
        raise ToolstackError(f"{path} is cut short: it has {len(data)} bytes, less than a bzImage's header", ANEW)
    version = struct.unpack_from("<H", data, 0x206)[0]
    if version < 0x208:
        raise ToolstackError(
            f"{path} is a bzImage of boot protocol {version >> 8}.{version & 255:02}, which hides where its kernel is",
            "kernels since Linux 2.6.24 do (protocol 2.08)",
        )
    offset, size = struct.unpack_from("<II", data, 0x248)
    start = ((data[0x1F1] or 4) + 1) * 512 + offset
    if start + size > len(data):
        raise ToolstackError(
            f"{path} is cut short: its kernel would be bytes {start} to {start + size}, and it has {len(data)}", ANEW
        )
    if size < 16:
        raise ToolstackError(f"{path} is a bzImage with no kernel in it", ANEW)
    return data[start : start + size]


def _unpacked_size(packed: bytes) -> int:
    return int.from_bytes(packed[-4:], "little")


def _unpacked(packed: bytes, path: Path, say: Say | None) -> bytes:
    packing = next((known for known in PACKINGS if packed.startswith(known[0])), None)
    if packing is None:
        raise ToolstackError(
            f"{path} is a bzImage packed in a way pvhv does not know (it begins with {packed[:4].hex(' ')})",
            "unpack it first (scripts/extract-vmlinux of the Linux source)",
        )
    _magic, name, make = packing
    try:
        unpacker = make()
    except ImportError:
        raise ToolstackError(
            f"{path} is packed with {name}, which this Python cannot unpack by itself",
            f"pip install {PACKAGES[name]}, or unpack it first (scripts/extract-vmlinux of the Linux source)",
        ) from None
    wanted = _unpacked_size(packed)
    try:
        elf = b"".join(_pieces(unpacker, packed, wanted, path, say))
    except (MemoryError, TooLarge):
        raise ToolstackError(f"{path} is too large to be a kernel") from None
    except Exception:  # each library has errors of its own
        raise ToolstackError(f"{path} is damaged: its {name} data make no sense", ANEW) from None
    if len(elf) & 0xFFFF_FFFF != wanted:
        raise ToolstackError(
            f"{path} is damaged: it unpacks to {len(elf)} bytes, and says it would be {wanted}", ANEW
        )
    return elf


def _pieces(unpacker: Any, packed: bytes, wanted: int, path: Path, say: Say | None) -> list[bytes]:
    view = memoryview(packed)
    done: list[bytes] = []
    size = 0
    told = time.monotonic()
    # gzip's own end is the size; of the others it stands behind the end.
    end = len(packed) - (0 if packed.startswith(b"\x1f\x8b") else 4)
    for at in range(0, end, PIECE):
        if getattr(unpacker, "eof", False):
            break
        piece = unpacker.decompress(bytes(view[at : min(at + PIECE, end)]))
        done.append(piece)
        size += len(piece)
        if size > LARGEST:
            raise TooLarge
        now = time.monotonic()
        if say is not None and now - told >= TELL_EVERY_S:
            told = now
            say(f"unpacking {os.path.basename(path)}: {size >> 20} of {wanted >> 20} MiB (once; then it is kept)")
    return done
