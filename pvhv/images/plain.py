# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening a plain file whose name somebody gave us.

A name can lead to a pipe without a writer, to a terminal, or to an endless device. So a file is opened without waiting,
and its kind is checked before it is used.
"""

from __future__ import annotations

import errno
import io
import os
import stat


def open_file(path: str | os.PathLike[str], writable: bool = False) -> io.FileIO:
    """Open a plain file. Raises OSError; its strerror says what is wrong."""
    flags = os.O_RDWR if writable else os.O_RDONLY
    for name in ("O_NONBLOCK", "O_BINARY", "O_NOCTTY", "O_CLOEXEC"):
        flags |= getattr(os, name, 0)
    file = open(os.open(path, flags), "r+b" if writable else "rb", buffering=0)
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(mode):
        return file
    file.close()
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory")
    raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a plain file")


def kind_of(mode: int) -> str:
    """What a file is that is neither plain nor a directory, in words."""
    return {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}.get(stat.S_IFMT(mode), "a device")
