# SPDX-License-Identifier: GPL-2.0-or-later
"""One string of a domain file's `disk`, as xl reads it: 'TARGET,FORMAT,VDEV,ACCESS', or the same by name.

    disk = ['root.img,raw,xvda,rw', 'vdev=xvdb, access=ro, target=/srv/a, b.img']

A part without a name takes the next place that is free, and an empty part leaves its place at the default. Spaces
before a part are ignored, those behind it are not. `target=` comes last: its value is the rest of the string.

The words that older files have before a target (`tap:aio:`, `phy:`, `ioemu:`) say nothing any more, to xl neither.

A file without a format is raw, as under xl. If it looks like a qcow2 image, that is hardly meant: a domain file gets a
warning, and block-attach and cd-insert refuse it.

One key is ours: `sector-size=4096` makes a disk whose sectors have 4096 bytes.

Not modelled: formats other than raw and qcow2, devices of the host, scripts, backends in other domains. They are
refused. `direct-io-safe` changes nothing here; a guest does not notice, so there is no warning.

Read beside it: xl-disk-configuration(5), tools/libs/util/libxlu_disk_l.l.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from pvhv.devices.block.names import number_of
from pvhv.images.image import FORMATS, QCOW2_MAGIC
from pvhv.images.plain import open_file
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.kernel_files import plain_file
from pvhv.toolstack.names import shown

PLACES = ("target", "format", "vdev", "access")
PLACED = tuple(f"{place}=" for place in PLACES)
SPACES = " \t\n"
LAST = "the last place"  # access, given by its place
ACCESS = {"rw": "rw", "w": "rw", "": "rw", "ro": "ro", "r": "ro"}
NOT_HERE = ("qcow", "qed", "vhd")  # formats of xl's, beside those of pvhv.images
EMPTY = "empty"  # the format of a CD-ROM drive without a medium
DISK, CDROM = "disk", "cdrom"
SECTOR_SIZES = ("512", "4096")
DISCARD = ("", "yes", "no")  # as it is said: nothing, discard, no-discard
WORDS = {  # what changes a disk without taking a place
    "cdrom": ("devtype", CDROM),
    "devtype=cdrom": ("devtype", CDROM),
    "devtype=disk": ("devtype", DISK),
    "discard": ("discard", "yes"),
    "no-discard": ("discard", "no"),
    "direct-io-safe": ("", ""),  # all I/O is safe here
    "trusted": ("", ""),
    "no-colo": ("", ""),
}
# values that change nothing
HERE = {"backend": ("0", "Domain-0"), "backendtype": ("phy", "qdisk"), "specification": ("xen",)}
NO_SCRIPTS, NO_COLO = "no scripts run here to find a disk", "there is no replication here"
REFUSED = {
    "script": NO_SCRIPTS,
    "backend": "domain 0 has all backends here",
    "backendtype": "there is no such backend here; phy and qdisk are the same one",
    "specification": "a paravirtual domain has Xen's disks; vda, of a domain of type hvm, is a virtio disk",
    "untrusted": "domain 0 has all backends here, and its guests trust it",
    **dict.fromkeys(("colo", "colo-host", "colo-port", "colo-export", "active-disk", "hidden-disk"), NO_COLO),
}
OLD_WORDS = ("file", "phy", "tap", "tap2", "tapdisk", "aio", "ioemu")  # before a target; the format is raw then
OLD_SCRIPTS = ("iscsi", "nbd", "enbd", "drbd")
PREFIX = re.compile(rf"({'|'.join((*FORMATS, *NOT_HERE, *OLD_WORDS, *OLD_SCRIPTS))}):")
IDE, VIRTIO = re.compile("hd([a-d])"), re.compile("vd([a-p])")  # of fully virtualized domains (pc_disks.py)
LONGEST_SHOWN = 60
EXAMPLE = "a disk is 'FILE,raw,xvda,rw', or 'FILE,qcow2,xvda,rw'"


def is_name(vdev: str) -> bool:
    """Whether a disk of some domain may have this name."""
    return number_of(vdev) is not None or IDE.fullmatch(vdev) is not None or VIRTIO.fullmatch(vdev) is not None


class DiskConfig(NamedTuple):
    """A disk of a domain: its file, its name in the guest, and what the guest may do with it. All fields are texts."""

    target: str  # an absolute path; nothing if the format is empty
    vdev: str
    access: str  # rw or ro
    format: str = "raw"
    devtype: str = DISK
    discard: str = ""  # what DISCARD has
    sector_size: str = SECTOR_SIZES[0]
    ephemeral: str = ""  # yes: what the domain writes goes with it

    @property
    def readonly(self) -> bool:
        return self.access == "ro"

    @property
    def cdrom(self) -> bool:
        return self.devtype == CDROM

    @property
    def discards(self) -> bool:
        """Whether the guest is told that it can discard; by default, if it may write."""
        return self.discard == "yes" or (not self.discard and not self.readonly)

    @property
    def usable(self) -> bool:
        """Whether a domain file can come to it. (It may have come by a message.)"""
        known = self.access in ACCESS.values() and self.format in (*FORMATS, EMPTY) and self.devtype in (DISK, CDROM)
        known = known and self.discard in DISCARD and self.sector_size in SECTOR_SIZES and self.ephemeral in ("", "yes")
        whole = "\0" not in self.target and (self.format == EMPTY) == (not self.target)
        return known and whole and is_name(self.vdev) and (not self.cdrom or self.readonly)


def parse(text: str, directory: Path, warn: Callable[[str], None] | None = None) -> DiskConfig:
    """Read one string. A relative path starts from `directory`. Raises ToolstackError, in one sentence; without `warn`
    also for what is worth a warning."""
    return parse_parts([text], directory, warn)


def parse_parts(texts: Iterable[str], directory: Path, warn: Callable[[str], None] | None = None) -> DiskConfig:
    """Read one disk that is given as several strings, as on the command line of block-attach. Raises ToolstackError."""
    found: dict[str, str] = {}
    for text in texts:
        _read(found, text)
    disk = _understood(found, directory)
    if disk.target and not found.get("format") and _looks_like_qcow2(disk.target):
        what = f"{disk.target} looks like a qcow2 image, but without a format it is a raw one"
        if warn is None:
            raise ToolstackError(what, "FILE,qcow2 or FILE,raw says which it is")
        warn(f"{what}; say qcow2, or raw")
    return disk


def _looks_like_qcow2(path: str) -> bool:
    try:
        with open_file(path) as file:
            return file.read(len(QCOW2_MAGIC)) == QCOW2_MAGIC
    except OSError:
        return False  # whoever opens the disk says what is wrong with it


def parse_medium(text: str, drive: str, directory: Path) -> DiskConfig:
    """Read what is to be put into a CD-ROM drive: a file's name (which may have commas in it, as under xl, if there is
    such a file), or a disk without its vdev. Raises ToolstackError."""
    is_disk = "," in text or text.startswith(PLACED) or PREFIX.match(text.lstrip(SPACES))
    if not is_disk or os.path.lexists(directory / os.path.expanduser(text)):
        text = f"target={text},"  # one comma at the end is not part of the name
    return parse_parts([f"vdev={drive}", text, "devtype=cdrom"], directory)


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
        if part in WORDS:
            what, word = WORDS[part]
            found[what] = word
        elif is_named or part in REFUSED:
            _named(found, name, value)
        else:
            _placed(found, part)


def _prefixed(found: dict[str, str], prefix: str) -> None:
    """Read a format in the old way: raw:FILE."""
    if prefix in OLD_SCRIPTS:
        raise ToolstackError(f"'{prefix}:': {NO_SCRIPTS}", EXAMPLE)
    if prefix in OLD_WORDS:
        found.setdefault("format", "raw")
    else:
        found["format"] = prefix


def _named(found: dict[str, str], name: str, value: str) -> None:
    if name in PLACES:
        _put(found, name, value)
    elif name == "sector-size":
        if value not in SECTOR_SIZES:
            raise ToolstackError(f"the sector size is {' or '.join(SECTOR_SIZES)}", EXAMPLE)
        found[name] = value
    elif value in HERE.get(name, ()):
        return
    elif name in REFUSED:
        raise ToolstackError(f"'{name}': {REFUSED[name]}", "leave it out")
    elif name == "devtype":
        raise _no_kind(value)
    else:
        raise ToolstackError(f"a disk has no '{shown(name[:LONGEST_SHOWN])}'", EXAMPLE)


def _no_kind(devtype: str) -> ToolstackError:
    return ToolstackError(f"'{shown(devtype[:LONGEST_SHOWN])}' is not a kind of disk; there are disk and cdrom")


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
    if ":" in value and (free == "vdev" or (free == "format" and not found["target"])):
        value, _, devtype = value.rpartition(":")  # the old way to write a drive: hdc:cdrom
        if devtype not in (DISK, CDROM):
            raise _no_kind(devtype)
        found["devtype"] = devtype
        if free == "format":
            found["format"], free = EMPTY, "vdev"
    _put(found, free, value)
    if free == "access":
        found[LAST] = value


def _understood(found: dict[str, str], directory: Path) -> DiskConfig:
    target, format_, vdev, access = (found.get(place, "") for place in PLACES)
    devtype = found.get("devtype", DISK)
    if format_ in NOT_HERE:
        hint = f"qemu-img convert -O qcow2 {target or 'FILE'} NEW makes a qcow2 image of it"
        raise ToolstackError(f"the format {format_} is not here yet", hint)
    if format_ not in ("", *FORMATS, EMPTY):
        named = shown(format_[:LONGEST_SHOWN])
        raise ToolstackError(f"'{named}' is not a format; there are {' and '.join(FORMATS)}", EXAMPLE)
    if format_ == EMPTY and devtype != CDROM:
        raise ToolstackError("its format is empty, but only a CD-ROM drive can be empty", "add cdrom")
    if format_ == EMPTY and target:
        raise ToolstackError("its format is empty, but it has a target", "leave one of them out")
    if access not in ACCESS:
        raise ToolstackError(f"'{shown(access[:LONGEST_SHOWN])}' is not an access mode; there are rw and ro", EXAMPLE)
    if not vdev:
        raise ToolstackError("it has no vdev, the name of the disk in the guest", EXAMPLE)
    if not is_name(vdev):
        named = shown(vdev[:LONGEST_SHOWN])
        raise ToolstackError(f"'{named}' is not the name of a disk; use xvda, xvdb and so on", EXAMPLE)
    if not target and devtype != CDROM:
        raise ToolstackError("it has no target, the file with its bytes", EXAMPLE)
    if "\0" in target:
        raise ToolstackError("its target has a NUL character in it")
    if devtype == CDROM:
        access, format_ = "ro", format_ if target else EMPTY
    path = os.fspath(plain_file(target, directory)) if target else ""
    sector_size = found.get("sector-size", SECTOR_SIZES[0])
    return DiskConfig(path, vdev, ACCESS[access], format_ or "raw", devtype, found.get("discard", ""), sector_size)
