# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain files whose names somebody gave us, read up to a bounded size or written, and never waited for.

They are opened by pvhv/images/plain.py, without waiting. Reading takes no more memory than the file is long, and `look`
sees the first bytes before the rest is read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from pvhv.images.plain import kind_of, open_file
from pvhv.toolstack.bulk import LARGE, Buffer, Writer

BEGINNING = 4096
SMALL_TEXT = 1 << 20  # notes of ours
AT_ONCE = 1 << 20  # of a file: while the host copies fifty times that in one go, guests wait for their memory
LARGEST_TEXT = 16 << 20  # a log

Look = Callable[[bytes], object]


class TooLarge(OSError):
    """The file has more bytes than `largest`."""

    def __init__(self) -> None:
        super().__init__(errno.EFBIG, "it is too large")


def read_plain(path: str | os.PathLike[str], largest: int, look: Look | None = None) -> Buffer:
    """The bytes of a plain file. `look` is called with the first bytes. Raises OSError, whose strerror says what is
    wrong; TooLarge for more than `largest` bytes; and what `look` raises."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise TooLarge
        beginning = file.read(min(BEGINNING, largest + 1)) or b""
        if look is not None:
            look(beginning)
        if size < LARGE:  # as far as that can be believed: some files have no size
            rest = (file.read(LARGE) or b"") if beginning else b""
            if len(rest) == LARGE or len(beginning) + len(rest) > largest:
                raise TooLarge
            return beginning + rest
        writer = Writer(size)
        writer.write(beginning)
        view = memoryview(writer.buffer)
        while count := file.readinto(view[writer.written : writer.written + AT_ONCE]):
            writer.written += count
    if writer.written < size:
        raise OSError(errno.EIO, "it became shorter while it was read")
    return writer.buffer


def read_text(path: str | os.PathLike[str], largest: int = SMALL_TEXT) -> str:
    """The text of a small file of our own. Raises OSError."""
    return bytes(read_plain(path, largest)).decode("utf-8", "replace")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace a file's contents by a text. Raises OSError."""
    with open(open_to_append(path), "wb") as file:
        file.truncate(0)
        file.write(text.encode("utf-8", "backslashreplace"))


def open_to_append(path: str | os.PathLike[str]) -> int:
    """A descriptor that appends to a plain file, which is made where it is missing. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe nobody reads from, or a socket
            raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a plain file") from None
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a plain file")
    return descriptor
