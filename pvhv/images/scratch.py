# SPDX-License-Identifier: GPL-2.0-or-later
"""Throw-away overlays: a qcow2 image above another one, in a file without a name.

What is written goes into the overlay, and what is not there is read from the image below, which is never written to. So
many may use one image at a time. The file has no name from the beginning: whatever happens to us, the host takes its
room back. It is in the directory that TMPDIR names, else in /var/tmp, which has room, and is not memory.

Read beside it: bdrv_append_temp_snapshot and create_tmp_file in QEMU's block.c.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
import weakref

from pvhv.images.file import File
from pvhv.images.image import SECTOR_SIZE, BadImage
from pvhv.images.opening import open_image
from pvhv.images.qcow2.make import Recipe, make

LARGE = "/var/tmp"


def directory() -> str:
    """Where overlays are."""
    if named := os.environ.get("TMPDIR"):
        return named
    return LARGE if os.access(LARGE, os.W_OK) else tempfile.gettempdir()


class Scratch:
    """An overlay, as long as anybody has this object."""

    def __init__(self, target: str, format_: str) -> None:
        """Above an image of this format. Raises BadImage."""
        below = open_image(target, format_, False)
        size = below.sectors * SECTOR_SIZE
        below.close()
        where = directory()
        try:
            opened = tempfile.TemporaryFile("w+b", buffering=0, dir=where)
            raw: io.FileIO = getattr(opened, "file", opened)  # on Windows, something around it
            self._file = raw
            weakref.finalize(self, opened.close)
            copy = self.open()
            try:
                make(copy, Recipe(size, backing_file=target, backing_format=format_)).close()
            finally:
                copy.close()
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise BadImage(
                f"no throw-away overlay can be made in {where}: {'the disk is full' if full else error.strerror}",
                "TMPDIR names another directory",
            ) from None

    def open(self) -> File:
        """The file once more; whoever asked closes it. Raises OSError."""
        return File(io.FileIO(os.dup(self._file.fileno()), "r+"))
