# SPDX-License-Identifier: GPL-2.0-or-later
"""Disk images: files that have the bytes of a disk, as sectors.

    image.py     what every image can do
    raw.py       a plain file: byte N of the file is byte N of the disk
    qcow2/       QEMU's format: clusters, found by tables; a backing file has what is not in it
    empty.py     what is in a CD-ROM drive that is empty
    opening.py   images by their format, with the backing files below them
    shared.py    an image that a second one in this process opens while the first still has it
    locks.py     programs keep each other from an image, as QEMU does
    plain.py     opening a plain file whose name somebody gave us
    file.py      the file below: reads, writes, holes, syncs
    check.py     whether a qcow2 image is right, and what can be repaired
    making.py    new images, and longer ones
    convert.py   an image made of another one
    facts.py     what can be said of an image from outside
    scratch.py   throw-away overlays

This room knows files only: no guest, no ring, no domain.
"""
