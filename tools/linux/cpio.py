# SPDX-License-Identifier: GPL-2.0-or-later
"""An initramfs in the format the kernel unpacks: cpio, "newc", written from a list of entries.

Nothing here touches a file system or needs root: a device node is an entry like any other. The same entries
give the same bytes, since every entry belongs to root, has time stamp zero, and is numbered by its place in the list.

Invariant: parents come before what is in them; `Archive` adds missing ones itself, because the kernel makes none.

Not modelled: hard links, checksums ("crc" format), files of 4 GiB and more.

Read beside it: Documentation/driver-api/early-userspace/buffer-format.rst of the Linux source.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
BLOCK = 512
HEADER = 110


class Entry(NamedTuple):
    """One name in the archive. `mode` holds the kind of file, too; a symbolic link's data is where it leads."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


class Archive:
    """Entries in the order they were added."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory, and its parents."""
        self._add(Entry(name, stat.S_IFDIR | mode))

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a plain file."""
        self._add(Entry(name, stat.S_IFREG | mode, data))

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(Entry(name, stat.S_IFLNK | 0o777, target.encode()))

    def character_device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a node for a character device."""
        self._add(Entry(name, stat.S_IFCHR | mode, device=(major, minor)))

    def _add(self, entry: Entry) -> None:
        name = entry.name
        if not name or name.startswith("/") or ".." in name.split("/") or name == TRAILER:
            raise ValueError(f"{name!r} cannot be a name in an initramfs")
        parent = name.rpartition("/")[0]
        if parent and parent not in self.entries:
            self.directory(parent)
        self.entries[name] = entry

    def to_bytes(self) -> bytes:
        """The archive's bytes; its end is padded as other writers do it."""
        parts = [_record(number, entry) for number, entry in enumerate(self.entries.values(), 1)]
        parts.append(_record(0, Entry(TRAILER, 0)))
        return _padded(b"".join(parts), BLOCK)


def read(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and data of each entry of the first archive in `data`, in their order."""
    at = 0
    while data[at : at + len(MAGIC)] == MAGIC:
        size, name_size = (int(data[at + 6 + 8 * field : at + 14 + 8 * field], 16) for field in (6, 11))
        name = data[at + HEADER : at + HEADER + name_size - 1].decode()
        begin = at + HEADER + name_size + 3 & ~3
        if name == TRAILER:
            return
        yield name, data[begin : begin + size]
        at = begin + size + 3 & ~3


def _record(number: int, entry: Entry) -> bytes:
    """Header, name and data, each padded to four bytes."""
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = MAGIC + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name, 4) + _padded(entry.data, 4)


def _padded(data: bytes, unit: int) -> bytes:
    return data + bytes(-len(data) % unit)
