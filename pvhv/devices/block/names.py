# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of virtual disks, and their numbers: xvda is 51712, and its second partition xvda2 is 51714.

Up to xvdp, the number is a device number of Linux: major 202, with room for fifteen partitions of each disk. For disks
beyond xvdp, and for partitions beyond the fifteenth, bit 28 is set, and the other bits have another meaning.

Not modelled: names of IDE and SCSI disks (hda, sda); Xen's own names (d0p1); numbers in place of names.

Read beside it: docs/man/xen-vbd-interface.7.pandoc; libxl__device_disk_dev_number in tools/libs/light/libxl_device.c.
"""

from __future__ import annotations

import re

XVD = re.compile(r"xvd([a-z]{1,3})(0|[1-9][0-9]{0,2})?")
MAJOR = 202 << 8
EXTENDED = 1 << 28
HIGHEST_DISK, HIGHEST_PARTITION = (1 << 20) - 1, 255


def number_of(name: str) -> int | None:
    """The number of the disk with that name; None if it is not a name."""
    match = XVD.fullmatch(name)
    if match is None:
        return None
    disk, partition = 0, int(match[2] or 0)
    for letter in match[1]:
        disk = disk * 26 + ord(letter) - ord("a") + 1
    disk -= 1
    if disk > HIGHEST_DISK or partition > HIGHEST_PARTITION:
        return None
    if disk < 16 and partition < 16:
        return MAJOR | disk << 4 | partition
    return EXTENDED | disk << 8 | partition


def name_of(number: int) -> str:
    """The name of a disk whose number is from `number_of`."""
    if number & EXTENDED:
        disk, partition = (number & ~EXTENDED) >> 8, number & 0xFF
    else:
        disk, partition = (number & 0xFF) >> 4, number & 0xF
    letters = ""
    disk += 1
    while disk:
        disk, letter = divmod(disk - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return f"xvd{letters}{partition or ''}"
