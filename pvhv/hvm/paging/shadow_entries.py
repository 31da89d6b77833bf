# SPDX-License-Identifier: GPL-2.0-or-later
"""How one entry of the guest's tables is translated into a shadow entry.

An entry is shadowed if the CPU would use it and has used it: present, no reserved bit set, accessed bit set. Its
address becomes that of the machine frame, or of the next shadow page. A page is writable only after the guest's entry
has its dirty bit set. A large page becomes a shadow page of small entries; its rights are in the entry above.

Invariant: no shadow entry permits more than the guest's entry does at that moment. Read beside it: AMD's manual volume
2, 5.4; in Xen, _sh_propagate in xen/arch/x86/mm/shadow/multi.c.
"""

from __future__ import annotations

from pvhv.hvm.counts import Counts
from pvhv.hvm.cpu.memory import BEYOND, GuestPhysical
from pvhv.hvm.paging.shadow_pages import DIRECT, DIRECT_GLOBAL, DIRECT_NX, LINK, TABLE, ShadowPage, ShadowPages
from pvhv.machine.paging import (
    PTE_ACCESSED,
    PTE_ADDRESS,
    PTE_DIRTY,
    PTE_GLOBAL,
    PTE_NX,
    PTE_PRESENT,
    PTE_PSE,
    PTE_RW,
    PTE_USER,
)


class Entries:
    """`ones`: the machine frame (all ones) mapped where the guest has no memory. `nxe`: the guest's EFER.NXE."""

    def __init__(self, physical: GuestPhysical, pages: ShadowPages, ones: int, counts: Counts) -> None:
        self.physical = physical
        self.pages = pages
        self.ones = ones
        self.counts = counts
        self.nxe = False

    def link(self, page: ShadowPage, index: int, *, make: bool) -> ShadowPage | None:
        """Bring a shadow entry above level 1 up to date; without `make`, only if it leads to the same page still."""
        level = page.level - 1
        if page.kind == TABLE:
            entry = self.physical.word(page.gfn << 12 | index << 3)
            if not self._usable(entry, page.level):
                return None
            gfn = (entry & PTE_ADDRESS) >> 12
            if entry & PTE_PSE:
                gfn &= -(512**level)
                kind, rights = _direct_kind(entry), _page_rights(entry) & ~PTE_GLOBAL
            else:
                kind, rights = TABLE, entry & (PTE_RW | PTE_USER | PTE_NX)
                if self.physical.mfn(gfn) is None:
                    return None
        else:
            gfn, kind, rights = page.gfn + index * 512**level, page.kind, PTE_RW | PTE_USER
        child = self.pages.find(gfn, level, kind)
        if child is None:
            if not make:
                return None
            child = self.pages.make(gfn, level, kind)
            self.counts.add("shadow_pages")
        elif not make and page.mfn << 9 | index not in child.parents:
            return None
        self.pages.link(page, index, child, rights)
        return child

    def map(self, page: ShadowPage, index: int) -> bool:
        """Bring a level 1 shadow entry up to date; False, and nothing is done, if the guest's entry cannot be used."""
        if page.kind == TABLE:
            entry = self.physical.word(page.gfn << 12 | index << 3)
            if not self._usable(entry, 1):
                return False
            gfn, rights = (entry & PTE_ADDRESS) >> 12, _page_rights(entry)
        else:
            gfn, rights = page.gfn + index, PTE_RW | PTE_USER
            rights |= PTE_GLOBAL if page.kind & DIRECT_GLOBAL else 0
            rights |= PTE_NX if page.kind & DIRECT_NX else 0
        mfn = self.physical.mfn(gfn)
        if mfn is None:
            mfn, rights = self.ones, rights & ~PTE_RW
        self.pages.map(page, index, gfn, mfn << 12 | LINK | rights)
        return True

    def unlikely(self, entry: int) -> bool:
        """Whether a value is unlikely to be an entry: it can only fault, or it points outside the guest's memory."""
        nowhere = (entry & PTE_ADDRESS) >> 12 >= self.physical.frames
        return bool(entry & PTE_PRESENT and (nowhere or self._reserved(entry)))

    def _usable(self, entry: int, level: int) -> bool:
        """Whether the CPU would use the guest's entry (present, no reserved bits), and has used it (accessed)."""
        if entry & (PTE_PRESENT | PTE_ACCESSED) != PTE_PRESENT | PTE_ACCESSED or self._reserved(entry):
            return False
        if level == 1 or not entry & PTE_PSE:
            return True
        return level < 4 and not entry & PTE_ADDRESS & ((1 << 3 + 9 * level) - 1) & ~0x1000

    def _reserved(self, entry: int) -> int:
        return entry & (BEYOND if self.nxe else BEYOND | PTE_NX)


def _direct_kind(entry: int) -> int:
    """The kind of direct page below a guest's entry for a large page."""
    return DIRECT | (DIRECT_GLOBAL if entry & PTE_GLOBAL else 0) | (DIRECT_NX if entry & PTE_NX else 0)


def _page_rights(entry: int) -> int:
    """The rights that a guest's entry for a page grants now: writing only if its dirty bit is set."""
    rights = entry & (PTE_USER | PTE_NX | PTE_GLOBAL)
    return rights | PTE_RW if entry & PTE_RW and entry & PTE_DIRTY else rights
