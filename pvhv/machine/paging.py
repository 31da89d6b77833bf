# SPDX-License-Identifier: GPL-2.0-or-later
"""Page-table entries and the walk, as the CPU does it: four levels, 4 KiB, 2 MiB and 1 GiB pages.

Guest tables hold machine addresses (direct paging), so one walk over Ram's words from CR3 is
the whole translation.  The walk here sets no A or D bits and checks no rights: it answers
"what is there", and its callers (guest memory access, the domain builder, crash dumps) decide.

Invariant: an entry address returned is a byte offset into Ram of the entry that decided.
Read beside it: xen/arch/x86/include/asm/page.h and x86_64/page.h.
"""

from __future__ import annotations

from typing import Final

from pvhv.machine.x86 import MASK64

PTE_PRESENT: Final = 1 << 0
PTE_RW: Final = 1 << 1
PTE_USER: Final = 1 << 2
PTE_PWT: Final = 1 << 3
PTE_PCD: Final = 1 << 4
PTE_ACCESSED: Final = 1 << 5
PTE_DIRTY: Final = 1 << 6
PTE_PSE: Final = 1 << 7
PTE_PAT: Final = 1 << 7
PTE_GLOBAL: Final = 1 << 8
PTE_AVAIL: Final = 7 << 9
PTE_NX: Final = 1 << 63
PTE_ADDRESS: Final = 0x000F_FFFF_FFFF_F000
PTE_FLAGS: Final = ~PTE_ADDRESS & MASK64

LEVEL_SHIFTS: Final = {4: 39, 3: 30, 2: 21, 1: 12}


def is_canonical(va: int) -> bool:
    """Whether bits 63..47 of a 64-bit address are all alike."""
    return va >> 47 in (0, 0x1FFFF)


def table_index(va: int, level: int) -> int:
    """The slot that `va` selects in a table of `level` (4 is the root)."""
    return va >> LEVEL_SHIFTS[level] & 511


def walk(words: memoryview, cr3: int, va: int) -> tuple[int, int, int]:
    """(entry, level, address of the entry): the leaf, or the first entry that is not present.

    An entry that points outside Ram reads as zero: (0, level of that table, its address).
    """
    table = cr3 & PTE_ADDRESS
    for level, shift in ((4, 39), (3, 30), (2, 21), (1, 12)):
        address = table + (va >> shift & 511) * 8
        try:
            entry = words[address >> 3]
        except IndexError:
            return 0, level, address
        if not entry & PTE_PRESENT or level == 1 or (entry & PTE_PSE and level < 4):
            return entry, level, address
        table = entry & PTE_ADDRESS
    raise AssertionError("unreachable")


def translate(words: memoryview, cr3: int, va: int) -> int | None:
    """The physical address behind `va`, or None where nothing is mapped."""
    entry, level, _ = walk(words, cr3, va)
    if not entry & PTE_PRESENT:
        return None
    offset_mask = (1 << LEVEL_SHIFTS[level]) - 1
    return entry & PTE_ADDRESS & ~offset_mask | va & offset_mask
