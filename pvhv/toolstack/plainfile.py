# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a file whose name somebody gave us: a plain one, of bounded size, without ever waiting for it.

A name can lead to a pipe nobody writes to, to a terminal, to a device without end. pvhvd reads kernels on the
thread its guests run on, so nothing here may block: a file is opened without waiting and looked at before it is
read.
"""

from __future__ import annotations

import errno
import os
import stat


class TooLarge(OSError):
    """The file has more bytes than whatever it should be could have."""

    def __init__(self) -> None:
        super().__init__(errno.EFBIG, "it is too large")


def read_plain(path: str | os.PathLike[str], largest: int) -> bytes:
    """The bytes of a plain file. Raises OSError, whose strerror says what is in the way; TooLarge past `largest`."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
    with open(os.open(path, flags), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, f"it is {_kind(mode)}, not a plain file")
        data = file.read(largest + 1)
    if len(data) > largest:
        raise TooLarge
    return data


def _kind(mode: int) -> str:
    for is_one, name in ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket")):
        if is_one(mode):
            return name
    return "a device"
