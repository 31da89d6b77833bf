# SPDX-License-Identifier: GPL-2.0-or-later
"""What a virtual disk is called, and its number: xvda is 51712, its second partition xvda2 is 51714.

Up to xvdp the number is a device number of Linux's, of major 202 and with room for fifteen partitions; beyond, or with
more partitions, it is another kind of number, with a bit that says so.

Not modelled: hd and sd, names of controllers that a paravirtual guest does not have; d0p1, xen's own spelling; numbers.

Read beside it: docs/man/xen-vbd-interface.7.pandoc; libxl__device_disk_dev_number in tools/libs/light/libxl_device.c.
"""

from __future__ import annotations

import re

XVD = re.compile(r"xvd([a-z]{1,3})(0|[1-9][0-9]{0,2})?")
MAJOR = 202 << 8
EXTENDED = 1 << 28
HIGHEST_DISK, HIGHEST_PARTITION = (1 << 20) - 1, 255


def number_of(name: str) -> int | None:
    """The number of a virtual disk; None where that is no name of one."""
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
    """The reverse, for a number that `number_of` gave."""
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
