# SPDX-License-Identifier: GPL-2.0-or-later
"""A short word that changes when this package's code does.

A host process lives longer than an edit. By this word a client sees that the host process runs other code than the code
on the disk. Only names, sizes and times of files go into it, which takes a few milliseconds.
"""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

import pvhv

SKIPPED = {"__pycache__", "_built", "cli"}  # what the host process does not run


def fingerprint() -> str:
    """The fingerprint of the package as it is on the disk now."""
    found: list[str] = []
    waiting = [str(Path(pvhv.__file__).parent)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    if entry.name not in SKIPPED:
                        waiting.append(entry.path)
                elif entry.name.endswith((".py", ".toml", ".c", ".h")):  # the latter are what the engine is made of
                    status = entry.stat()
                    found.append(f"{entry.path} {status.st_size} {status.st_mtime_ns}")
    return f"{crc32(chr(10).join(sorted(found)).encode()):08x}"
