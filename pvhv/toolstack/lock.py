# SPDX-License-Identifier: GPL-2.0-or-later
"""A lock file that a process holds as long as it lives, however it dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from pvhv.toolstack.plainfile import open_to_append


def acquire(path: Path) -> IO[bytes] | None:
    """Hold the lock until the file is closed or the process ends; None when somebody else holds it. Raises OSError."""
    file = open(open_to_append(path), "ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def is_same(file: IO[bytes], path: Path) -> bool:
    """Whether `path` still names this open lock file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock. True as well for a file that cannot be opened."""
    if not path.exists():
        return False
    try:
        file = acquire(path)
    except OSError:
        return True
    if file is None:
        return True
    file.close()
    return False
