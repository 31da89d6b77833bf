# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel inside a bzImage, unpacked once.

A Linux distribution ships its kernel as a program that unpacks itself. What a domain builder wants is the ELF it would
unpack. The header of the file says where that is, packed in one of several ways. The last four bytes of the packed part
are the size of the unpacked one, so a file that was cut short is found out.

Unpacking takes seconds, so it is done once: the result is kept in the user's cache under the hash of the packed bytes.
A file gets its name there when it is complete, so a file with a name is a complete one. Whoever waits is told how far
the unpacking is.

Not modelled: LZO, which no distribution uses for kernels any more.

Read beside it: Documentation/arch/x86/boot.rst of the Linux source, tools/libs/guest/xg_dom_bzimageloader.c.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import time
from collections.abc import Callable
from pathlib import Path

from pvhv.build.cache import Cache, cache_directory
from pvhv.images.plain import open_file
from pvhv.toolstack.bulk import Buffer, TooMuch, Writer
from pvhv.toolstack.elf_image import ANEW, check_header
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.plainfile import TooLarge, read_plain
from pvhv.toolstack.unpacking import GZIP, packing_of

LARGEST = 1 << 30
HEADER = 0x250  # as far as the setup header is looked at
TELL_EVERY_S = 0.1
KEEP_PACKED_AS = "kernel"

Say = Callable[[str], None]


def is_bzimage(data: Buffer) -> bool:
    """Whether a file that begins with `data` says it is one."""
    return data[0x202:0x206] == b"HdrS"


def unpack(data: Buffer, path: Path, say: Say | None = None) -> Buffer:
    """The ELF in the bzImage `data`, which came from `path`; from the cache if it was there before."""
    packed = _payload(data, path)
    cache = _cache()
    if (kept := _kept(packed, cache)) is not None:
        with contextlib.suppress(OSError):
            return read_plain(kept, LARGEST)
    elf = _unpacked(packed, path, say)
    if cache is not None:
        with contextlib.suppress(OSError):  # a full disk: the next one unpacks it again
            cache.keep(KEEP_PACKED_AS, _key(packed), elf)
    return elf


def unpack_ahead(path: Path, say: Say) -> None:
    """Unpack the kernel at `path` into the cache, if it is a bzImage, and say how far that is.

    Other faults of the file are left to whoever reads it. Raises ToolstackError for a bzImage that is damaged.
    """
    try:
        with open_file(path) as file:
            if not is_bzimage(file.read(HEADER) or b""):
                return
        data = read_plain(path, LARGEST)
    except (OSError, TooLarge):
        return
    if _kept(_payload(data, path), _cache()) is None:
        unpack(data, path, say)


def _key(packed: memoryview) -> str:
    return hashlib.sha256(packed).hexdigest()


def _kept(packed: memoryview, cache: Cache | None) -> Path | None:
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


def _payload(data: Buffer, path: Path) -> memoryview:
    """The packed kernel, its size at the end."""
    if len(data) < HEADER:
        raise ToolstackError(f"{path} is cut short: it has {len(data)} bytes, less than a bzImage's header", ANEW)
    version = struct.unpack_from("<H", data, 0x206)[0]
    if version < 0x208:
        raise ToolstackError(
            f"{path} is a bzImage of boot protocol {version >> 8}.{version & 255:02}, "
            "whose header does not say where the kernel is",
            "take a kernel of Linux 2.6.24 or later (protocol 2.08)",
        )
    offset, size = struct.unpack_from("<II", data, 0x248)
    start = ((data[0x1F1] or 4) + 1) * 512 + offset
    if start + size > len(data):
        raise ToolstackError(
            f"{path} is cut short: its kernel would be bytes {start} to {start + size}, and the file has {len(data)}",
            ANEW,
        )
    if size < 16:
        raise ToolstackError(f"{path} is a bzImage with no kernel in it", ANEW)
    return memoryview(data)[start : start + size]


def _unpacked_size(packed: memoryview) -> int:
    return int.from_bytes(packed[-4:], "little")


def _unpacked(packed: memoryview, path: Path, say: Say | None) -> Buffer:
    packing = packing_of(packed)
    if packing is None:
        raise ToolstackError(
            f"{path} is a bzImage packed in a way pvhv does not know (it begins with {packed[:4].hex(' ')})",
            "unpack it first (scripts/extract-vmlinux of the Linux source)",
        )
    wanted = _unpacked_size(packed)
    if wanted > LARGEST:
        raise ToolstackError(f"{path} is too large to be a kernel")
    # gzip's own end is the size; of the others it stands behind the end.
    whole = packed if packing.begins == GZIP else packed[:-4]
    told = time.monotonic()
    writer = Writer(wanted)
    try:
        for piece in packing.pieces(whole):
            if not writer.written:
                check_header(piece, path)
            writer.write(piece)
            now = time.monotonic()
            if say is not None and now - told >= TELL_EVERY_S:
                told = now
                say(f"unpacking {path.name}: {writer.written >> 20} of {wanted >> 20} MiB (once; then it is kept)")
    except ImportError:
        raise ToolstackError(
            f"{path} is packed with {packing.name}, which this Python cannot unpack by itself",
            f"pip install {packing.package}, or unpack it first (scripts/extract-vmlinux of the Linux source)",
        ) from None
    except TooMuch:
        raise ToolstackError(f"{path} is damaged: it unpacks to more than the {wanted} bytes it notes", ANEW) from None
    except (ToolstackError, MemoryError):
        raise
    except Exception:  # each library has errors of its own
        raise ToolstackError(f"{path} is damaged: its {packing.name} data are not valid", ANEW) from None
    if writer.written != wanted:
        raise ToolstackError(
            f"{path} is damaged: it unpacks to {writer.written} bytes, and it notes {wanted}", ANEW
        )
    return writer.buffer
