# SPDX-License-Identifier: GPL-2.0-or-later
"""Shadow pages: the page tables the CPU really walks while it runs a guest, and the records about each.

A shadow page is a frame of the hypervisor's. It represents one of two things:
  - a guest's table, used at one level. The same frame used at two levels (a table that maps itself, for one) has two
    shadow pages. Its entries are those of the guest's table, with machine addresses in place of guest-physical ones;
  - a range of guest-physical memory ("direct"): below a guest's entry for a page of 2 MiB or 1 GiB, or, while the guest
    has paging off, all of it. The 4 KiB frames of such a range may be anywhere in machine memory.

Three indices answer every question without a search:
  - `tables[gfn]`: the shadow pages of a guest's table; while there is one, the frame is *traced*: nothing maps it
    writable, so the guest cannot change it unnoticed;
  - `leaves[gfn]`: every shadow entry that maps the frame (the reverse map), by its index in Ram's words;
  - `parents` of a page: every entry that leads to it. A page that no entry leads to, and that is not a root, is freed.

Invariants: an entry is in `leaves` if and only if it is present; a traced or protected frame has no writable entry;
`reduced` is set, or `reduced_leaves` counts them, whenever some CPU's TLB may know more than the tables say. This file
does not read the guest's tables, and does not decide access rights. Read beside it: shadow_entries.py, shadow.py; in
Xen, xen/arch/x86/mm/shadow/common.c (the hash table, sh_remove_write_access, shadow_unhook_mappings).
"""

from __future__ import annotations

from array import array
from typing import Final, Protocol

from pvhv.core.errors import HypercallError
from pvhv.machine.paging import PTE_ACCESSED, PTE_ADDRESS, PTE_DIRTY, PTE_NX, PTE_PRESENT, PTE_RW, PTE_USER
from pvhv.machine.ram import Ram

# What a shadow page stands for.
TABLE: Final = 0
DIRECT: Final = 1  # with either of:
DIRECT_GLOBAL: Final = 2
DIRECT_NX: Final = 4

LINK: Final = PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY  # the CPU never has to set these in a shadow
_NOBODY: Final = -1
_EMPTY: Final = bytes(4096)


class TableFrames(Protocol):
    """The allocator of frames for shadow pages. A new frame reads as zero; one given back need not."""

    def own_frame(self) -> int:
        """Raises HypercallError(ENOMEM)."""

    def give_back(self, mfn: int) -> None: ...


class ShadowPage:
    """One shadow page. `gfn` is the guest's table, or the first guest frame of the range."""

    __slots__ = ("gfn", "kind", "level", "mfn", "odd", "parents", "root", "targets", "writes")

    def __init__(self, mfn: int, gfn: int, level: int, kind: int) -> None:
        self.mfn = mfn
        self.gfn = gfn
        self.level = level
        self.kind = kind
        self.parents: set[int] = set()  # entries (indices in Ram's words) that lead here
        self.root = False
        self.writes = 0  # stores to the guest's table since a fault was last resolved through it
        self.odd = 0  # of the last of them, how many in a row did not look like stores of entries
        # Level 1: which guest frame each entry maps. (The machine frame does not tell where there is no memory.)
        self.targets = array("i", [_NOBODY]) * 512 if level == 1 else array("i")

    def __repr__(self) -> str:
        what = "table" if self.kind == TABLE else "direct"
        return f"<shadow of {what} {self.gfn:#x}, level {self.level}, in frame {self.mfn:#x}>"


class ShadowPages:
    """All the shadow pages of one guest."""

    def __init__(self, ram: Ram, frames: TableFrames) -> None:
        self.words = ram.words
        self.frames = frames
        self.pages: dict[int, ShadowPage] = {}  # by mfn
        self.tables: dict[int, list[ShadowPage]] = {}
        self.leaves: dict[int, set[int]] = {}
        self.protected: dict[int, int] = {}  # frames write-protected for other reasons, and how many
        self.reduced = False  # something above level 1
        self.reduced_leaves = 0
        self.made = 0  # entries, so far
        self.mapped = 0  # level 1 entries that map something
        self._by_key: dict[tuple[int, int, int], ShadowPage] = {}
        self._spare: list[int] = []  # frames that are zero

    # -- pages -----------------------------------------------------------------------------------------------------
    def reserve(self, count: int) -> bool:
        """Whether so many pages can be made. Without memory for them, some others have to be given up first."""
        try:
            while len(self._spare) < count:
                self._spare.append(self.frames.own_frame())
        except HypercallError:
            return False
        return True

    def find(self, gfn: int, level: int, kind: int) -> ShadowPage | None:
        return self._by_key.get((gfn, level, kind))

    def make(self, gfn: int, level: int, kind: int) -> ShadowPage:
        """Make an empty shadow page from a reserved frame. From now on the guest's table is traced."""
        mfn = self._spare.pop()
        page = ShadowPage(mfn, gfn, level, kind)
        self.pages[mfn] = page
        self._by_key[gfn, level, kind] = page
        if kind == TABLE:
            shadows = self.tables.setdefault(gfn, [])
            shadows.append(page)
            if len(shadows) == 1:
                self.remove_write_access(gfn)
        return page

    def destroy(self, page: ShadowPage) -> None:
        """Free a page, and those that only it leads to. Entries that led to it are cleared."""
        for slot in list(page.parents):
            self.words[slot] = 0
            self.reduced = True
        page.parents.clear()
        self.empty(page)
        self._forget(page)

    def empty(self, page: ShadowPage, keep: int | None = None) -> None:
        """Clear every entry (but that of index `keep`)."""
        first = page.mfn << 9
        for index, entry in enumerate(self.words[first : first + 512].tolist()):
            if entry and index != keep:
                self.clear(page, index)

    def _forget(self, page: ShadowPage) -> None:
        del self.pages[page.mfn]
        del self._by_key[page.gfn, page.level, page.kind]
        if page.kind == TABLE:
            shadows = self.tables[page.gfn]
            shadows.remove(page)
            if not shadows:
                del self.tables[page.gfn]
        self.words[page.mfn << 9 : (page.mfn + 1) << 9] = memoryview(_EMPTY).cast("Q")
        self._spare.append(page.mfn)

    def drop_all(self, but: ShadowPage | None, keep: int | None = None) -> None:
        """Free all pages but `but`, and clear the entries of that one, except entry `keep`."""
        kept = self.words[but.mfn << 9 | keep] if but is not None and keep is not None else 0
        for page in self.pages.values():
            self.words[page.mfn << 9 : (page.mfn + 1) << 9] = memoryview(_EMPTY).cast("Q")
            if page is not but:
                self._spare.append(page.mfn)
        for index in (self.pages, self._by_key, self.tables, self.leaves):
            index.clear()
        self.mapped = 0
        self.reduced = True
        if but is not None:
            self.pages[but.mfn] = but
            self._by_key[but.gfn, but.level, but.kind] = but
            if but.kind == TABLE:
                self.tables[but.gfn] = [but]
            if keep is not None:
                self.words[but.mfn << 9 | keep] = kept

    def close(self) -> None:
        """Give every frame back."""
        self.drop_all(None)
        while self._spare:
            self.frames.give_back(self._spare.pop())

    # -- entries ---------------------------------------------------------------------------------------------------
    def link(self, page: ShadowPage, index: int, child: ShadowPage, rights: int) -> None:
        """Let an entry lead to the next level with `rights` (RW, USER, NX)."""
        slot = page.mfn << 9 | index
        before, after = self.words[slot], child.mfn << 12 | LINK | rights
        if before == after:
            return
        if before:
            if before & PTE_ADDRESS != after & PTE_ADDRESS:
                self.clear(page, index)
            elif (before & ~after) & (PTE_RW | PTE_USER) or (after & ~before) & PTE_NX:
                self.reduced = True
        child.parents.add(slot)
        self.words[slot] = after
        self.made += 1

    def map(self, page: ShadowPage, index: int, gfn: int, entry: int) -> None:
        """Let a level 1 entry map a guest frame: writable, if asked for, unless the frame is traced or protected."""
        slot = page.mfn << 9 | index
        before = self.words[slot]
        if entry & PTE_RW and (gfn in self.tables or gfn in self.protected):
            entry &= ~PTE_RW
        if before == entry and page.targets[index] == gfn:
            return
        if before:
            if page.targets[index] != gfn:
                self.clear(page, index)
            else:
                self.reduced_leaves += 1
        page.targets[index] = gfn
        mappings = self.leaves.get(gfn)
        if mappings is None:
            mappings = self.leaves[gfn] = set()
        if slot not in mappings:
            mappings.add(slot)
            self.mapped += 1
        self.words[slot] = entry
        self.made += 1

    def clear(self, page: ShadowPage, index: int) -> None:
        """Clear an entry; a page that only it led to is freed."""
        slot = page.mfn << 9 | index
        entry = self.words[slot]
        if not entry:
            return
        self.words[slot] = 0
        if page.level == 1:
            self.reduced_leaves += 1
            gfn = page.targets[index]
            page.targets[index] = _NOBODY
            mappings = self.leaves[gfn]
            mappings.remove(slot)
            self.mapped -= 1
            if not mappings:
                del self.leaves[gfn]
            return
        self.reduced = True
        child = self.pages.get((entry & PTE_ADDRESS) >> 12)
        if child is not None:  # else the monitor's own table
            child.parents.discard(slot)
            if not child.parents and not child.root:
                self.destroy(child)

    # -- guest frames ----------------------------------------------------------------------------------------------
    def remove_write_access(self, gfn: int) -> None:
        """Make every entry that maps the frame read-only."""
        words = self.words
        for slot in self.leaves.get(gfn, ()):
            entry = words[slot]
            if entry & PTE_RW:
                words[slot] = entry & ~PTE_RW
                self.reduced_leaves += 1

    def protect(self, gfn: int) -> None:
        """Make the frame read-only in all entries. Calls are counted: `unprotect` must be called as often."""
        self.protected[gfn] = self.protected.get(gfn, 0) + 1
        self.remove_write_access(gfn)

    def unprotect(self, gfn: int) -> None:
        """Undo one call of `protect`."""
        self.protected[gfn] -= 1
        if not self.protected[gfn]:
            del self.protected[gfn]

    def below(self, page: ShadowPage, root: ShadowPage) -> bool:
        """Whether the page is `root`, or can be reached from it."""
        seen = {page.mfn}
        todo = [page]
        while todo:
            page = todo.pop()
            if page is root:
                return True
            for mfn in {slot >> 9 for slot in page.parents} - seen:
                seen.add(mfn)
                todo.append(self.pages[mfn])
        return False
