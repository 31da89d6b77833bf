# SPDX-License-Identifier: GPL-2.0-or-later
"""New images, as `qemu-img create` makes them, and longer ones.

A file that is there already is never written over. What could not be made is not left behind.

Read beside it: bdrv_img_create in QEMU's block.c, img_resize in qemu-img.c.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Mapping
from contextlib import suppress

from pvhv.images.file import File
from pvhv.images.image import FORMATS, SECTOR_SIZE, BadImage
from pvhv.images.opening import open_checked, open_image
from pvhv.images.qcow2.disk import Qcow2Image
from pvhv.images.qcow2.header import MAX_DISK_SIZE
from pvhv.images.qcow2.make import Recipe, grow, make

SIZE = re.compile(r"([0-9]+)(\.[0-9]+)?([bkKmMgGtTpPeE]?)")
UNITS = "bKMGTPE"
OPTIONS = ("cluster_size", "refcount_bits", "compat")  # of -o
VERSIONS = {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}


def parse_size(text: str) -> int:
    """The size of a disk from 512, 64K, 1.5G and so on: bytes, rounded up to sectors. Raises BadImage."""
    return -(-_bytes(text) // SECTOR_SIZE) * SECTOR_SIZE


def _bytes(text: str) -> int:
    match = SIZE.fullmatch(text)
    if match is None or len(text) > 30:
        raise BadImage(f"'{text}' is not a size", "a size is 512, 64K, 100M, 1.5G, 2T")
    size = int(float(match[1] + (match[2] or "")) * 1024 ** UNITS.index((match[3] or "b").upper().replace("B", "b")))
    if size > MAX_DISK_SIZE:
        raise BadImage(f"a disk of {text} is too large")
    return size


def parse_options(texts: list[str]) -> dict[str, str]:
    """The values of -o, as name=value,name=value. Raises BadImage."""
    found: dict[str, str] = {}
    for part in ",".join(texts).split(",") if texts else ():
        name, equals, value = part.partition("=")
        if name not in OPTIONS or not equals:
            raise BadImage(f"there is no option '{part}' here", f"there are {', '.join(OPTIONS)}")
        found[name] = value
    return found


def recipe(size: int, options: Mapping[str, str], backing: str = "", backing_format: str = "") -> Recipe:
    """What a new qcow2 image is to be. Raises BadImage."""
    compat, bits = options.get("compat", "1.1"), options.get("refcount_bits", "16")
    if compat not in VERSIONS:
        raise BadImage(f"compat={compat} is unknown", "compat is 0.10 or 1.1")
    if not bits.isdigit() or len(bits) > 3:
        raise BadImage("refcount_bits is 1, 2, 4, 8, 16, 32 or 64")
    return Recipe(
        size, _bytes(options.get("cluster_size", "64K")), int(bits), VERSIONS[compat], backing, backing_format
    )


def create(
    path: str, format_: str, size: int | None, options: Mapping[str, str], backing: str = "", backing_format: str = ""
) -> int:
    """Make an image, and return the size of its disk. Without a `size`, it is that of the backing file. Raises
    BadImage."""
    require_format(format_)
    if backing and format_ != "qcow2":
        raise BadImage(f"a {format_} image has no backing file", "-f qcow2 makes one that has")
    if options and format_ != "qcow2":
        raise BadImage(f"a {format_} image has no options", "-f qcow2 makes one that has")
    if backing:
        require_format(backing_format, "the backing file's format")
        below = open_image(os.path.join(os.path.dirname(os.path.abspath(path)), backing), backing_format, False)
        size = below.sectors * SECTOR_SIZE if size is None else size
        below.close()
    if size is None:
        raise BadImage("how large is the disk to be?", f"for example: pvhv image create {path} 10G")
    file = new_file(path)
    try:
        if format_ == "raw":
            file.truncate(size)
        else:
            file.lock(path)
            make(file, recipe(size, options, backing, backing_format)).close()
    except BaseException as error:
        with suppress(OSError):
            os.unlink(path)
        if isinstance(error, OSError):
            raise BadImage(f"cannot make {path}: {error.strerror}") from None
        raise
    finally:
        file.close()
    return size


def require_format(format_: str, what: str = "the format") -> None:
    """Check that it is a format we have. Raises BadImage."""
    if format_ not in FORMATS:
        asked = f"{what} '{format_}' is not here" if format_ else f"{what} is not said"
        raise BadImage(asked, f"there are {' and '.join(FORMATS)}")


def new_file(path: str) -> File:
    """A new file, which must not be there yet. Raises BadImage."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        return File(io.FileIO(os.open(path, flags, 0o644), "r+"))
    except (OSError, ValueError) as error:
        if isinstance(error, FileExistsError):
            raise BadImage(f"{path} is there already", "remove it first, or choose another name") from None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadImage(f"cannot make {path}: {reason}") from None


def resize(path: str, format_: str, text: str) -> int:
    """Make the disk of an image longer: to so many bytes, or with a + by so many; return how many it has then. Raises
    BadImage."""
    require_format(format_)
    if format_ == "raw":
        file = open_checked(path, writable=True)
        try:
            size = _new_size(path, file.end, text)
            file.truncate(size)
        except OSError as error:
            raise BadImage(f"cannot resize {path}: {error.strerror}") from None
        finally:
            file.close()
        return size
    image = open_image(path, format_, True)
    assert isinstance(image, Qcow2Image)
    try:
        size = _new_size(path, image.header.size, text)
        grow(image, size)
    except OSError as error:
        why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise BadImage(f"cannot resize {path}: {why}") from None
    finally:
        image.close()
    return size


def _new_size(path: str, now: int, text: str) -> int:
    size = now + parse_size(text[1:]) if text.startswith("+") else -1 if text.startswith("-") else parse_size(text)
    if size < now:
        raise BadImage(
            f"{path} is a disk of {now} bytes, and an image cannot become shorter here",
            f"+{text.lstrip('-')} is how to say: so much longer than now",
        )
    return size
