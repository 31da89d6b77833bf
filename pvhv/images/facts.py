# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be said of an image from outside: its format, its sizes, its backing file, its snapshots.

The names are those of `qemu-img info --output=json`, so that a program that reads its output reads ours.

Read beside it: bdrv_query_image_info in QEMU's block/qapi.c, qcow2_get_specific_info in block/qcow2.c.
"""

from __future__ import annotations

import os
from typing import Any

from pvhv.images.file import File
from pvhv.images.image import QCOW2_MAGIC, BadImage
from pvhv.images.opening import backing_of, open_checked, open_layer, require_no_loop
from pvhv.images.qcow2 import header as headers
from pvhv.images.qcow2 import snapshots
from pvhv.images.qcow2.header import COMPRESSION_NAMES, CORRUPT, DIRTY, LAZY_REFCOUNTS, Header

BLOCK = 512  # bytes; the host counts a file's room in these


def looks_like(file: File) -> str:
    """The format that a file seems to have, by its first bytes. A guest can write these, so no guest gets an image that
    was opened by them."""
    return "qcow2" if file.read_some(0, len(QCOW2_MAGIC)) == QCOW2_MAGIC else "raw"


def facts(path: str, format_: str = "", lock: bool = True) -> dict[str, Any]:
    """The facts of one image; without a format, of what it looks like. Raises BadImage."""
    file = open_checked(path, writable=False, lock=lock)
    try:
        return _facts(file, path, format_ or looks_like(file))
    except OSError as error:
        raise BadImage(f"cannot read {path}: {error.strerror}") from None
    finally:
        file.close()


def _facts(file: File, path: str, format_: str) -> dict[str, Any]:
    status = os.fstat(file.io.fileno())
    found: dict[str, Any] = {
        "filename": path,
        "format": format_,
        "virtual-size": status.st_size,
        "actual-size": getattr(status, "st_blocks", status.st_size // BLOCK) * BLOCK,
        "dirty-flag": False,
    }
    if format_ != "qcow2":
        return found
    header = headers.read(file, path)
    found |= {
        "virtual-size": header.size,
        "cluster-size": header.cluster_size,
        "dirty-flag": bool(header.incompatible & DIRTY),
        "format-specific": {"type": "qcow2", "data": _of_qcow2(header)},
    }
    if header.backing_file:
        found["backing-filename"] = header.backing_file
        if header.backing_format:
            found["backing-filename-format"] = header.backing_format
            found["full-backing-filename"] = backing_of(path, header)[0]
    kept, _place = snapshots.read(file, header)
    if kept:
        found["snapshots"] = [{"id": each.id, "name": each.name, "date-sec": each.date} for each in kept]
    return found


def _of_qcow2(header: Header) -> dict[str, Any]:
    if header.version == 2:
        return {"compat": "0.10", "compression-type": "zlib", "refcount-bits": 16}
    return {
        "compat": "1.1",
        "compression-type": COMPRESSION_NAMES[header.compression],
        "lazy-refcounts": bool(header.compatible & LAZY_REFCOUNTS),
        "refcount-bits": 1 << header.refcount_order,
        "corrupt": bool(header.incompatible & CORRUPT),
        "extended-l2": False,
    }


def facts_of_chain(path: str, format_: str = "", lock: bool = True) -> list[dict[str, Any]]:
    """The facts of an image and of each backing file below it. Raises BadImage."""
    found: list[dict[str, Any]] = []
    seen: dict[tuple[int, int], str] = {}
    while path or not found:  # an empty name is one that is not there
        file = open_layer(path, writable=False, lock=False, seen=seen)
        file.close()
        require_no_loop(path, file.identity, seen)
        seen[file.identity] = path
        found.append(facts(path, format_, lock))
        path, format_ = found[-1].get("full-backing-filename", ""), found[-1].get("backing-filename-format", "")
    return found
