# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk images: files that have the bytes of a disk, as sectors.

    image.py     what every image can do
    raw.py       a plain file: byte N of the file is byte N of the disk

This room knows files only: no guest, no ring, no domain.
"""
