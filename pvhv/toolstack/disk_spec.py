# SPDX-License-Identifier: GPL-2.0-or-later
"""One string of a domain file's `disk`, as xl reads it: 'TARGET,FORMAT,VDEV,ACCESS', or the same by name.

    disk = ['root.img,raw,xvda,rw', 'vdev=xvdb, access=ro, target=/srv/a, b.img']

A part without a name takes the next place that is free, and an empty part leaves its place at the default. Spaces
before a part are ignored, those behind it are not. `target=` comes last: its value is the rest of the string.

Not modelled: formats other than raw and qcow2, devices of the host, CD-ROM drives, scripts, backends in other domains.
They are refused. `discard` and `direct-io-safe` change nothing here; a guest does not notice, so there is no warning.

Read beside it: xl-disk-configuration(5), tools/libs/util/libxlu_disk_l.l.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pvhv.devices.block.names import number_of
from pvhv.images.image import FORMATS
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.kernel_files import plain_file
from pvhv.toolstack.names import shown

PLACES = ("target", "format", "vdev", "access")
SPACES = " \t\n"
LAST = "the last place"  # access, given by its place
ACCESS = {"rw": "rw", "w": "rw", "": "rw", "ro": "ro", "r": "ro"}
NOT_HERE = ("qcow", "qed", "vhd", "empty")  # formats of xl's, beside those of pvhv.images
NO_EFFECT = ("discard", "no-discard", "direct-io-safe", "devtype=disk")  # nothing is discarded, and all I/O is safe
HERE = {"backend": ("0", "Domain-0"), "backendtype": ("phy", "qdisk")}  # values that change nothing
REFUSED = {
    "script": "no scripts run here to find a disk",
    "backend": "domain 0 has all backends here",
    "backendtype": "there is no such backend here; phy and qdisk are the same one",
    "colo": "there is no replication here",
}
PREFIX = re.compile(r"(raw|file|phy|tap2?|aio|ioemu|iscsi|nbd|enbd|drbd|qcow2?|qed|vhd):")
IDE, VIRTIO = re.compile("hd([a-d])"), re.compile("vd([a-p])")  # of fully virtualized domains (pc_disks.py)
LONGEST_SHOWN = 60
EXAMPLE = "a disk is 'FILE,raw,xvda,rw', or 'FILE,qcow2,xvda,rw'"


def is_name(vdev: str) -> bool:
    """Whether a disk of some domain may have this name."""
    return number_of(vdev) is not None or IDE.fullmatch(vdev) is not None or VIRTIO.fullmatch(vdev) is not None


class DiskConfig(NamedTuple):
    """A disk of a domain: its file, its name in the guest, and whether the guest may write to it."""

    target: str  # an absolute path
    vdev: str
    access: str  # rw or ro
    format: str = "raw"

    @property
    def readonly(self) -> bool:
        return self.access == "ro"


def parse(text: str, directory: Path) -> DiskConfig:
    """Read one string. A relative path starts from `directory`. Raises ToolstackError, in one sentence."""
    return parse_parts([text], directory)


def parse_parts(texts: Iterable[str], directory: Path) -> DiskConfig:
    """Read one disk that is given as several strings, as on the command line of block-attach. Raises ToolstackError."""
    found: dict[str, str] = {}
    for text in texts:
        _read(found, text)
    return _understood(found, directory)


def _read(found: dict[str, str], text: str) -> None:
    left = text.lstrip(SPACES)
    while left:
        if prefix := PREFIX.match(left):
            _prefixed(found, prefix[1])
            left = left[prefix.end() :].lstrip(SPACES)
            continue
        name, is_named, value = left.partition("=")
        if is_named and name == "target":
            _put(found, name, value.removesuffix(","))
            break
        part, _, left = left.partition(",")
        left = left.lstrip(SPACES)
        name, is_named, value = part.partition("=")
        if part in ("cdrom", "devtype=cdrom"):
            raise ToolstackError("there are no CD-ROM drives here yet", "access=ro makes a disk read-only")
        if is_named and part not in NO_EFFECT:
            _named(found, name, value)
        elif part not in NO_EFFECT:
            _placed(found, part)


def _prefixed(found: dict[str, str], prefix: str) -> None:
    """Read a format in the old way: raw:FILE."""
    if prefix not in (*FORMATS, "file", *NOT_HERE):
        raise ToolstackError(f"'{prefix}:' is not here yet: a disk is a plain file", EXAMPLE)
    found["format"] = "raw" if prefix == "file" else prefix


def _named(found: dict[str, str], name: str, value: str) -> None:
    if name in PLACES:
        _put(found, name, value)
    elif value in HERE.get(name, ()):
        return
    elif name in REFUSED:
        raise ToolstackError(f"'{name}': {REFUSED[name]}", "leave it out")
    else:
        raise ToolstackError(f"a disk has no '{shown(name[:LONGEST_SHOWN])}'", EXAMPLE)


def _put(found: dict[str, str], name: str, value: str) -> None:
    if name in ("target", "vdev") and found.get(name):
        raise ToolstackError(f"it has two values for {name}")
    found[name] = value


def _placed(found: dict[str, str], value: str) -> None:
    free = next((place for place in PLACES if place not in found), None)
    if free is None and LAST not in found:  # access may be given by name and, later, by its place
        free = "access"
    if free is None:
        raise ToolstackError(f"'{shown(value[:LONGEST_SHOWN])}' is one part too many", EXAMPLE)
    _put(found, free, value)
    if free == "access":
        found[LAST] = value


def _understood(found: dict[str, str], directory: Path) -> DiskConfig:
    target, format_, vdev, access = (found.get(place, "") for place in PLACES)
    if format_ in NOT_HERE:
        hint = f"qemu-img convert -O qcow2 {target or 'FILE'} NEW makes a qcow2 image of it"
        raise ToolstackError(f"the format {format_} is not here yet", hint if format_ != "empty" else "")
    if format_ not in ("", *FORMATS):
        named = shown(format_[:LONGEST_SHOWN])
        raise ToolstackError(f"'{named}' is not a format; there are {' and '.join(FORMATS)}", EXAMPLE)
    if access not in ACCESS:
        raise ToolstackError(f"'{shown(access[:LONGEST_SHOWN])}' is not an access mode; there are rw and ro", EXAMPLE)
    if not vdev:
        raise ToolstackError("it has no vdev, the name of the disk in the guest", EXAMPLE)
    if not is_name(vdev):
        named = shown(vdev[:LONGEST_SHOWN])
        raise ToolstackError(f"'{named}' is not the name of a disk; use xvda, xvdb and so on", EXAMPLE)
    if not target:
        raise ToolstackError("it has no target, the file with its bytes", EXAMPLE)
    if "\0" in target:
        raise ToolstackError("its target has a NUL character in it")
    return DiskConfig(os.fspath(plain_file(target, directory)), vdev, ACCESS[access], format_ or "raw")
