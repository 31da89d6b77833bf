# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of virtual disks, and their numbers: xvda is 51712, and its second partition xvda2 is 51714.

    name       disks        partitions   number
    xvda       up to xvdp   up to 15     202 << 8 | disk << 4 | partition
    xvda       2^20         up to 255    1 << 28 | disk << 8 | partition, where the form above has no room
    d0p0       the same as xvda: Xen's own name for it
    sda        up to sdp    up to 15     8 << 8 | disk << 4 | partition
    hda, hdb   0 and 1      up to 63     3 << 8 | disk << 6 | partition
    hdc, hdd   2 and 3      up to 63     22 << 8 | disk - 2 << 6 | partition
    51712      any number below 2^31, in place of a name

A paravirtual guest gets the same device under each name. Linux takes 202 << 8 and 1 << 28 as they are; of an old number
(hda, sda) it makes a name of its own.

Read beside it: docs/man/xen-vbd-interface.7.pandoc; libxl__device_disk_dev_number in tools/libs/light/libxl_device.c.
"""

from __future__ import annotations

import re
from typing import NamedTuple

XEN, SCSI, IDE, SECOND_IDE = 202 << 8, 8 << 8, 3 << 8, 22 << 8
EXTENDED = 1 << 28
HIGHEST_DISK, HIGHEST_PARTITION, HIGHEST_NUMBER = (1 << 20) - 1, 255, (1 << 31) - 1
IDE_CHANNEL = 2  # disks of one
C_NUMBER = r"0x[0-9a-f]{1,8}|[0-9]{1,11}"
NAME = re.compile(r"(xvd|sd|hd)([a-z]{1,5})([1-9][0-9]{0,2})?")
XEN_NAME = re.compile(rf"d({C_NUMBER})p({C_NUMBER})", re.IGNORECASE)
NUMBER = re.compile(C_NUMBER, re.IGNORECASE)
MOST = {"xvd": (HIGHEST_DISK, HIGHEST_PARTITION), "sd": (15, 15), "hd": (3, 63)}  # disks, partitions


class Place(NamedTuple):
    """A disk, or one of its partitions. `bus` is xvd, sd or hd, and partition 0 the whole disk."""

    bus: str
    disk: int
    partition: int


def number_of(name: str) -> int | None:
    """The number of the disk with that name; None if it is not a name."""
    if NUMBER.fullmatch(name):
        number = _as_c(name)
        return number if number is not None and number <= HIGHEST_NUMBER else None
    place = place_of(name)
    if place is None:
        return None
    bus, disk, partition = place
    if bus == "sd":
        return SCSI | disk << 4 | partition
    if bus == "hd":
        return (IDE if disk < IDE_CHANNEL else SECOND_IDE) | disk % IDE_CHANNEL << 6 | partition
    if disk < 16 and partition < 16:
        return XEN | disk << 4 | partition
    return EXTENDED | disk << 8 | partition


def place_of(name: str) -> Place | None:
    """Which disk a name means; None if it is not a name, or only a number."""
    if match := XEN_NAME.fullmatch(name):
        numbers = [_as_c(text) for text in match.groups()]
        bus, disk, partition = "xvd", *numbers
    elif match := NAME.fullmatch(name):
        bus, disk, partition = match[1], _index_of(match[2]), int(match[3] or 0)
    else:
        return None
    if disk is None or partition is None or disk > MOST[bus][0] or partition > MOST[bus][1]:
        return None
    return Place(bus, disk, partition)


def name_of(number: int) -> str:
    """The name of the disk with that number; the number itself if no name has it."""
    minor = number & 0xFF
    if number >> 28 == 1:
        place = Place("xvd", (number & ~EXTENDED) >> 8, minor)
    elif number & ~0xFF == XEN:
        place = Place("xvd", minor >> 4, minor & 15)
    elif number & ~0xFF == SCSI:
        place = Place("sd", minor >> 4, minor & 15)
    elif number & ~0x7F in (IDE, SECOND_IDE):
        place = Place("hd", (minor >> 6) + (IDE_CHANNEL if number & ~0x7F == SECOND_IDE else 0), minor & 63)
    else:
        return str(number)
    return f"{place.bus}{_letters_of(place.disk)}{place.partition or ''}"


def linux_minors(number: int) -> range | None:
    """The minor numbers of its xvd that Linux gives a disk or partition; None if it takes no such number. Of two that
    have one in common, it has only the first that it finds. (See xen_translate_vdev, xlbd_reserve_minors in Linux's
    drivers/block/xen-blkfront.c.)"""
    base, minor, each = number & ~0xFF, number & 0xFF, 16
    if number >> 28 == 1:
        minor, each = number & ~EXTENDED, 256
    elif base in (IDE, SECOND_IDE):
        minor = (minor // 64 + (IDE_CHANNEL if base == SECOND_IDE else 0)) * each
    elif base not in (XEN, SCSI):
        return None
    return range(minor, minor + (1 if minor % each else each))


def _index_of(letters: str) -> int:
    """a is 0, z is 25, aa is 26."""
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("a") + 1
    return index - 1


def _letters_of(index: int) -> str:
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return letters


def _as_c(text: str) -> int | None:
    """A number as C writes it: 0x and digits, 0 and octal digits, or digits. None if it is none."""
    try:
        if text[:2] in ("0x", "0X"):
            return int(text, 16)
        return int(text, 8 if text[0] == "0" else 10)
    except ValueError:
        return None
