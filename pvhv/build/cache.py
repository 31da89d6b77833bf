# SPDX-License-Identifier: GPL-2.0-or-later
"""The store of things already compiled, keyed on the content of everything that went into them.

An entry is a file called `<kind>/<first two digits>/<key>`; its key is the SHA-256 of its inputs. So an
entry is never wrong and never out of date; it is removed when it has not been used for a while.  Entries appear by
rename, whole or not at all: two builds may share the store without knowing of each other.

The store lives in the user's cache directory (PVHV_CACHE_DIR, else XDG_CACHE_HOME, else the platform's
place).  If that cannot be written (without a usable HOME, say), the build works in a private directory, which is
removed at the end.

This module does not know what a key is made of: objects.py does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path

_DAY = 86_400.0
KEEP_DAYS = 30
HALF_WRITTEN = ".new-"  # how the name of a file begins until it is whole


def cache_directory() -> Path | None:
    """This user's cache directory, or None if the machine has no place for one."""
    if chosen := os.environ.get("PVHV_CACHE_DIR"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "pvhv"
    try:
        home = Path.home()
    except RuntimeError:  # HOME is unset and the user has no entry in the password file
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pvhv"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) / "pvhv" / "Cache" if local else None
    return home / ".cache" / "pvhv"


class Cache:
    """A directory of entries, and beside them `zig/`, the compiler's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.zig = directory / "zig"
        self.zig.mkdir(parents=True, exist_ok=True)
        self._now = time.time()

    def find(self, kind: str, key: str) -> Path | None:
        """The file of an entry, or None. It is kept until it has not been asked for during KEEP_DAYS."""
        path = self._place(kind, key)
        try:
            used = path.stat().st_mtime
        except OSError:
            return None
        if self._now - used > _DAY:
            with contextlib.suppress(OSError):
                os.utime(path)
        return path

    def keep(self, kind: str, key: str, content: bytes | bytearray | mmap) -> Path:
        """Write an entry; a concurrent writer of the same key writes the same bytes."""
        path = self._place(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        return path

    def prune(self) -> None:
        """Remove entries that have not been asked for during KEEP_DAYS."""
        for entry in self.directory.glob("*/??/*"):
            with contextlib.suppress(OSError):
                if entry.is_file() and self._now - entry.stat().st_mtime > KEEP_DAYS * _DAY:
                    entry.unlink()

    def _place(self, kind: str, key: str) -> Path:
        return self.directory / kind / key[:2] / key


def write_whole(path: Path, content: bytes | bytearray | mmap) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=HALF_WRITTEN)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def open_cache(directory: Path | None = None) -> Iterator[Cache]:
    """The user's store (or the one at `directory`); else a private one for this build only."""
    wanted = directory or cache_directory()
    if wanted is not None:
        try:
            cache = Cache(wanted)
            with tempfile.TemporaryFile(dir=wanted):
                pass
        except OSError:
            if directory is not None:
                raise
        else:
            yield cache
            return
    private = Path(tempfile.mkdtemp(prefix="pvhv-build-"))
    try:
        yield Cache(private)
    finally:
        shutil.rmtree(private, ignore_errors=True)
