# SPDX-License-Identifier: GPL-2.0-or-later
"""A ramdisk as a paravirtual guest gets it: the file's bytes, or what they unzip to.

libxenguest unzips a ramdisk that gzip packed, into a place SLACK bytes longer than the size gzip notes at the end, and
the guest is told of that place. A file that does not unzip (it is cut short, has bytes behind its end, or notes
another size) is handed over unchanged, in a place of the same length. Other packings are the kernel's own business.

Read beside it: xc_dom_build_module, xc_dom_check_gzip and xc_dom_do_gunzip in tools/libs/guest/xg_dom_core.c.
"""

from __future__ import annotations

from pathlib import Path

from pvhv.toolstack.bulk import Buffer, TooMuch, Writer
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.plainfile import TooLarge, read_plain
from pvhv.toolstack.unpacking import GZIP, PIECE, Unreadable, unzip

LARGEST = 1 << 30  # XC_DOM_DECOMPRESS_MAX
SLACK = 16
LEAST = 6  # bytes: the magic number, and the size at the end


def read(path: Path, memory: int) -> Buffer:
    """The ramdisk in a file, for a guest of `memory` MiB. Raises ToolstackError."""
    try:
        data = read_plain(path, LARGEST)
        if (size := size_in_guest(data)) > memory << 20:
            unzips_to = " unzips to" if size > len(data) else " has"
            raise ToolstackError(
                f"the ramdisk {path}{unzips_to} {size >> 20} MiB, and the domain has {memory} MiB for everything",
                "say memory = ... in the domain file, with room for it and for the kernel",
            )
        return unzipped(data)
    except TooLarge:
        raise ToolstackError(f"the ramdisk {path} is larger than any guest takes (1 GiB)") from None
    except OSError as error:
        raise ToolstackError(f"cannot read the ramdisk {path}: {error.strerror}") from None


def size_in_guest(data: Buffer) -> int:
    """How many bytes the guest gets of a ramdisk file whose contents are `data`."""
    size = _size_it_notes(data)
    return len(data) if size is None else max(size + SLACK, len(data))


def unzipped(data: Buffer) -> Buffer:
    """What the guest gets of these bytes."""
    if _size_it_notes(data) is None:
        return data
    room = size_in_guest(data)
    writer = Writer(room)
    try:
        for piece in unzip(memoryview(data)):
            writer.write(piece)
    except (Unreadable, TooMuch):
        writer = Writer(room)
        for at in range(0, len(data), PIECE):
            writer.write(data[at : at + PIECE])
    return writer.buffer


def _size_it_notes(data: Buffer) -> int | None:
    """The unpacked size that gzip notes; None if gzip did not pack the data, or the size makes no sense."""
    size = int.from_bytes(data[-4:], "little")
    return size if data[:2] == GZIP and len(data) >= LEAST and size <= LARGEST else None
