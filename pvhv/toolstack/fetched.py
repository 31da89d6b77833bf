# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that were fetched: where tools/fetch_linux.py puts kernels, ramdisks and disks, and a domain file finds them.

A name without a directory is looked for beside the domain file, then among the kernels that came with pvhv, then here.
So an example works for everybody, wherever their cache is.
"""

from __future__ import annotations

from pathlib import Path

from pvhv.build.cache import cache_directory

DISK = "-disk"
FETCHED_BY_TOOL = ("-vmlinuz", "-initramfs", DISK)


def directory() -> Path | None:
    """Where they are kept; None where the machine names no place for a cache."""
    cache = cache_directory()
    return None if cache is None else cache / "linux"


def find(name: str) -> Path | None:
    """The file that was fetched under that name; None if there is none."""
    place = directory()
    if place is None or Path(name).name != name:
        return None
    path = place / name
    return path if path.is_file() else None


def hint(name: str) -> str:
    """What to do about a missing file whose name is that of a fetched one; empty for any other name."""
    if not name.endswith(FETCHED_BY_TOOL) or Path(name).name != name:
        return ""
    if DISK in name:
        return "python3 tools/fetch_linux.py --disk 2G makes it (it needs no root, and installs nothing)"
    return "python3 tools/fetch_linux.py fetches it (it needs no root, and installs nothing)"
