# SPDX-License-Identifier: GPL-2.0-or-later
"""Nested paging: the second level, from guest-physical to machine addresses, walked by the engine's own MMU.

The tables are real ones, in frames of the hypervisor's, filled page by page as the guest first touches its memory. A
guest-physical address that has no entry yet is a nested page fault; one where the guest has no memory at all is the
monitor's to answer.

Invariant: an entry maps a frame of this guest's, or is absent.

Read beside it: AMD's manual volume 2, 15.25 (nested paging); xen/arch/x86/mm/p2m-pt.c.

Not modelled: large pages in the nested tables, write tracking.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.hvm.memory import ACCESSED, ADDRESS, DIRTY, PRESENT, RW, USER, GuestPhysical

ENTRY = PRESENT | RW | USER | ACCESSED | DIRTY  # nested walks are user accesses, and set A and D themselves


class NestedTables:
    """`root` is the machine address for nested CR3. `allocate` gives zeroed frames of the hypervisor's."""

    def __init__(self, physical: GuestPhysical, allocate: Callable[[], int]) -> None:
        self.physical = physical
        self.words = physical.ram.words
        self.allocate = allocate
        self.root = allocate() << 12

    def fill(self, gpa: int) -> bool:
        """Map the page of `gpa`; False where the guest has no memory."""
        mfn = self.physical.mfn(gpa >> 12)
        if mfn is None:
            return False
        table = self.root >> 12
        for shift in (39, 30, 21):
            at = table << 9 | gpa >> shift & 511
            entry = self.words[at]
            if not entry & PRESENT:
                self.words[at] = entry = self.allocate() << 12 | ENTRY
            table = (entry & ADDRESS) >> 12
        self.words[table << 9 | gpa >> 12 & 511] = mfn << 12 | ENTRY
        return True
