# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening images: by the format that is said, never by a guess, with their backing files below them.

An image may come from anywhere, and a guest can write whatever it likes into a raw image, a qcow2 header among it. If
the format were guessed, the guest's next life would read whatever file that header names. So the format of each file is
said: by whoever opens the image, and in the image for its backing file. A backing file without a format is refused.

Each file is locked, and opened once. Backing files are only read. Their names start from the directory of the image
that names them. A chain of backing files has an end, and so has the time to find it.

An image that QEMU did not close (with lazy refcounts) is repaired when it is opened to be written, as QEMU does, but
only a small one.

Not modelled: backing files that are no plain files (QEMU's nbd:, json: and so on). They are refused.

Read beside it: bdrv_open_backing_file and bdrv_get_full_backing_filename in QEMU's block.c.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from pvhv.images import check
from pvhv.images.file import File
from pvhv.images.image import FORMATS, BadImage, Identity, Image
from pvhv.images.plain import open_file
from pvhv.images.qcow2 import header as headers
from pvhv.images.qcow2.disk import Qcow2Image
from pvhv.images.qcow2.header import DIRTY, Header
from pvhv.images.raw import RawImage

MOST_LAYERS = 64  # of a chain of backing files, the image itself among them
LARGEST_REPAIRED, MOST_REPAIRED = 256 << 20, 8  # bytes, and snapshots: more would keep guests waiting
PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class Layer(NamedTuple):
    """A file of a chain of backing files, not open any more."""

    path: str
    format: str
    identity: Identity
    header: Header | None  # of qcow2


def open_checked(path: str, writable: bool, lock: bool = True) -> File:
    """Open the file of an image. Raises BadImage."""
    try:
        file = File(open_file(path, writable))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        denied = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM)
        hint = "it can only be read: a domain may have it with access=ro, or by create --ephemeral"
        hint = hint if writable and denied and os.access(path, os.R_OK) else ""
        raise BadImage(f"cannot open {path}: {reason}", hint) from None
    try:
        if lock:
            file.lock(path)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise BadImage(f"cannot lock {path}: {error.strerror}") from None
        raise
    return file


def chain(path: str, format_: str) -> Iterator[Layer]:
    """The files of an image: itself, its backing file, and so on. Nothing is locked. Raises BadImage at the first that
    cannot be."""
    seen: dict[Identity, str] = {}
    while path:
        file = open_layer(path, False, False, seen)
        try:
            require_no_loop(path, file.identity, seen)
            seen[file.identity] = path
            header = _header(file, path) if format_ == "qcow2" else None
            yield Layer(path, format_, file.identity, header)
        finally:
            file.close()
        path, format_ = backing_of(path, header) if header is not None else ("", "")


def require_no_loop(path: str, identity: Identity, seen: dict[Identity, str]) -> None:
    """Check that a chain of backing files ends. Raises BadImage."""
    if identity in seen:
        first = seen[identity]
        own = "is its own backing file" if list(seen)[-1] == identity else "is a backing file of its own backing file"
        raise BadImage(f"{first} {own}", "qemu-img rebase -u gives it another one")
    if len(seen) >= MOST_LAYERS:
        raise BadImage(f"{next(iter(seen.values()))} has more than {MOST_LAYERS - 1} backing files")


def _header(file: File, path: str) -> Header:
    try:
        return headers.read(file, path)
    except OSError as error:
        raise BadImage(f"cannot read {path}: {error.strerror}") from None


def backing_of(path: str, header: Header) -> tuple[str, str]:
    """The path and the format of an image's backing file; both empty if it has none. Raises BadImage."""
    name, format_ = header.backing_file, header.backing_format
    if not name:
        return "", ""
    if name.startswith("file:"):
        name = name.removeprefix("file:")
    elif PROTOCOL.match(name):
        raise BadImage(f"{path}: its backing file is {name}, which is not a plain file")
    format_ = "raw" if format_ in ("host_device", "file") else format_
    full = os.path.join(os.path.dirname(os.path.abspath(path)), name)
    if not format_:
        raise BadImage(
            f"{path} does not say which format its backing file {name} has, and to guess is not safe",
            f"if it is qcow2: qemu-img rebase -u -b {name} -F qcow2 {path}",
        )
    if format_ not in FORMATS:
        raise BadImage(f"{path}: its backing file {name} has the format {format_}; here are {' and '.join(FORMATS)}")
    return full, format_


def open_image(path: str, format_: str, writable: bool, lock: bool = True) -> Image:
    """Open an image of this format, and its backing files. Raises BadImage."""
    return _open(path, format_, writable, lock, {})


def open_as(file: File, path: str, format_: str, lock: bool = True) -> Image:
    """The same for a file that is open already, and that belongs to the image then. Raises BadImage, and then the file
    is closed."""
    return _finish(file, path, format_, lock, {})


def _open(path: str, format_: str, writable: bool, lock: bool, seen: dict[Identity, str]) -> Image:
    return _finish(open_layer(path, writable, lock, seen), path, format_, lock, seen)


def open_layer(path: str, writable: bool, lock: bool, seen: dict[Identity, str]) -> File:
    """Open a file of a chain; `seen` are those above it. Raises BadImage."""
    try:
        return open_checked(path, writable, lock)
    except BadImage as bad:
        if not seen:
            raise
        above = list(seen.values())[-1]
        other = f"put it back, or name another one: qemu-img rebase -u -b NEW -F FORMAT {above}"
        raise BadImage(f"the backing file of {above} cannot be used: {bad.message}", bad.hint or other) from None


def _finish(file: File, path: str, format_: str, lock: bool, seen: dict[Identity, str]) -> Image:
    below: Image | None = None
    try:
        require_no_loop(path, file.identity, seen)
        if format_ == "raw":
            return RawImage(file, padded=bool(seen))
        header = _header(file, path)
        backing, backing_format = backing_of(path, header)
        if backing:
            below = _open(backing, backing_format, False, lock, {**seen, file.identity: path})
        return _opened(file, path, header, below)
    except BaseException:
        file.close()
        if below is not None:
            below.close()
        raise


def _opened(file: File, path: str, header: Header, below: Image | None) -> Image:
    try:
        if file.writable and header.incompatible & DIRTY:
            if file.end > LARGEST_REPAIRED or header.snapshots > MOST_REPAIRED:
                raise BadImage(
                    "it was not closed by who wrote to it, and its refcounts have to be repaired, which takes long",
                    f"pvhv image check --repair all {path}",
                )
            check.repair_all(file, header)
        return Qcow2Image(file, header, below, file.writable)
    except BadImage as bad:
        raise BadImage(f"{path}: {bad.message}", bad.hint) from None
    except OSError as error:
        raise BadImage(f"cannot read {path}: {error.strerror}") from None
