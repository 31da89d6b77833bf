# SPDX-License-Identifier: GPL-2.0-or-later
"""What an ATA disk says of itself: the 256 words of IDENTIFY DEVICE, and the geometry that old drivers use.

A disk of today is addressed by sector numbers (LBA). Cylinders, heads and sectors are made up: sixteen heads and 63
sectors, and as many cylinders as there are, 16 383 at most. A driver may choose another geometry for its addresses.

Read beside it: ATA/ATAPI-6, 6.2 and 8.15; ide_identify in QEMU's hw/ide/core.c.
"""

from __future__ import annotations

import struct
from typing import Final

WORDS: Final = 256
HEADS, SECTORS_PER_TRACK, MOST_CYLINDERS = 16, 63, 16_383
MOST_LBA28, MOST_LBA48 = (1 << 28) - 1, (1 << 48) - 1
MOST_MULTIPLE = 16  # sectors in a block of READ MULTIPLE
MODEL, SERIAL, FIRMWARE = "PVHV HARDDISK", "PV{:05d}", "1.0"


def cylinders(sectors: int) -> int:
    """How many cylinders a disk says it has."""
    return min(max(sectors // (HEADS * SECTORS_PER_TRACK), 1), MOST_CYLINDERS)


def identify(sectors: int, number: int, geometry: tuple[int, int], multiple: int, write_cache: bool) -> bytes:
    """The data of IDENTIFY DEVICE. `geometry`: the heads and sectors of a track in use; `number`: of the disk."""
    words = [0] * WORDS
    heads, track = geometry
    current = min(sectors // (heads * track), 0xFFFF)
    by_geometry = current * heads * track
    lba28 = min(sectors, MOST_LBA28)
    flushes = 1 << 13 | 1 << 12 | 1 << 10  # FLUSH CACHE EXT, FLUSH CACHE, 48-bit addresses
    for at, value in {
        0: 0x0040,  # an ATA disk that is not removable
        1: cylinders(sectors), 3: HEADS, 6: SECTORS_PER_TRACK,
        47: 0x8000 | MOST_MULTIPLE,
        48: 1,  # doublewords may be transferred
        49: 1 << 11 | 1 << 9,  # IORDY; LBA; no DMA
        50: 1 << 14,
        51: 0x0200,
        53: 1 << 1 | 1 << 0,  # words 64 to 70, and 54 to 58, mean something
        54: current, 55: heads, 56: track, 57: by_geometry & 0xFFFF, 58: by_geometry >> 16,
        59: 0x0100 | multiple if multiple else 0,
        60: lba28 & 0xFFFF, 61: lba28 >> 16,
        64: 0x0003,  # PIO modes 3 and 4
        67: 120, 68: 120,  # ns, a transfer
        80: 0x00F0, 81: 0x0016,  # ATA/ATAPI-4 to -7
        82: 1 << 5,  # has a write cache
        83: 1 << 14 | flushes,
        84: 1 << 14,
        85: 1 << 5 if write_cache else 0,
        86: flushes,
        87: 1 << 14,
        93: 0x6001 | 1 << 3,  # passed diagnostics at reset; its number by jumper
        106: 1 << 14,  # sectors of 512 bytes
    }.items():  # fmt: skip
        words[at] = value
    for shift in range(4):
        words[100 + shift] = min(sectors, MOST_LBA48) >> 16 * shift & 0xFFFF
    for at, length, text in ((10, 10, SERIAL.format(number + 1)), (23, 4, FIRMWARE), (27, 20, MODEL)):
        padded = text.ljust(2 * length).encode("ascii")
        words[at : at + length] = struct.unpack(f">{length}H", padded)  # the first character is the high byte
    return struct.pack(f"<{WORDS}H", *words)
