# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's first file system: a cpio archive in the "newc" format, which a kernel can read in thirty
lines of C.

Each file is an ASCII header of a magic and thirteen eight-digit hexadecimal fields, its name, and its
bytes, the last two padded to four.  Names are relative ("bin/sh"); directories come before what is in
them; "TRAILER!!!" ends it.

Invariant: the same names and bytes give the same archive.  There are no dates and no owners, and inode
numbers are a running count; files come in the order of their names.

Read beside it: Linux's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

_DIRECTORY, _PROGRAM, _FILE = 0o040755, 0o100755, 0o100644


def pack(files: Mapping[str, bytes]) -> bytes:
    """An archive of these files; what starts with the ELF magic is marked executable."""
    folders = {str(p) for name in files for p in PurePosixPath(name).parents if str(p) != "."}
    archive = bytearray()
    for inode, name in enumerate(sorted({*folders, *files}), start=1):
        if name in folders:
            archive += _entry(name, inode, _DIRECTORY, 2, b"")
        else:
            body = files[name]
            archive += _entry(name, inode, _PROGRAM if body[:4] == b"\x7fELF" else _FILE, 1, body)
    archive += _entry("TRAILER!!!", 0, 0, 1, b"")
    return bytes(archive)


def _entry(name: str, inode: int, mode: int, links: int, body: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    #         ino   mode  uid gid nlink mtime filesize   dev(2) rdev(2) namesize      check
    fields = (inode, mode, 0, 0, links, 0, len(body), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % value for value in fields)
    return _padded(header + encoded) + _padded(body)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
