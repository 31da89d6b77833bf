# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing a core to a plain file, in which zeros become holes and take no room, or to a pipe.

A file that could not be written to its end is removed: half a core looks like a whole one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import shown

BLOCK = 64 << 10
NOTHING = bytes(BLOCK)


def write_core(path: str | os.PathLike[str], pieces: Iterable[bytes]) -> int:
    """Write pieces to a file in order, and return the number of bytes. Raises ToolstackError, or what `pieces`
    raises."""
    descriptor, plain = _open(path)
    written = 0
    try:
        for piece in pieces:
            for at in range(0, len(piece), BLOCK):
                block = piece[at : at + BLOCK]
                if plain and block == NOTHING[: len(block)]:
                    os.lseek(descriptor, len(block), os.SEEK_CUR)
                else:
                    _write(descriptor, block)
            written += len(piece)
        if plain:
            os.ftruncate(descriptor, written)
    except BaseException as error:
        if plain:
            Path(path).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _refused(path, error) from None
        raise
    finally:
        os.close(descriptor)
    return written


def _open(path: str | os.PathLike[str]) -> tuple[int, bool]:
    """Open the file, emptied; and whether it is a plain one. A pipe without a reader is an error, and not waited
    for."""
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_NOCTTY", 0), 0o600)
    except (OSError, ValueError) as error:
        raise _refused(path, error) from None
    plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
    if plain:
        os.ftruncate(descriptor, 0)
    elif hasattr(os, "set_blocking"):
        os.set_blocking(descriptor, True)
    return descriptor, plain


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _refused(path: str | os.PathLike[str], error: Exception) -> ToolstackError:
    reason = error.strerror if isinstance(error, OSError) else "it is no name of a file"
    return ToolstackError(
        f"cannot write {shown(os.fspath(path))}: {reason}", "name another, where there is room and you may write"
    )
