# SPDX-License-Identifier: GPL-2.0-or-later
"""Shadow paging: the guest writes its page tables, the CPU walks ours.

A guest's tables hold guest-physical addresses, which the CPU cannot use. So the CPU gets *shadows* of these tables.
They are made as the guest uses its tables: one entry and its neighbours at each page fault. Three rules make a shadow
right:

  - It never grants more than the guest's table. An entry is shadowed only if the guest's entry has its accessed bit
    set, and is writable only if that has its dirty bit set. So the first access and the first store fault, and the walk
    that the monitor then does sets these bits as the CPU would. The rights of upper levels apply as they do in the
    guest's tables, because the shadow has the same levels.
  - It never goes stale. A frame that has a shadow is *traced*: every store of the guest to it faults. The caller
    carries out the store, and `guest_wrote` brings the shadows up to date at once. On a real CPU the guest may use an
    old entry until it flushes the TLB. Here it cannot, and a flush by the guest needs no work.
  - A frame may cease to be a table. Its shadow is dropped when no entry leads to it, when the guest stores values there
    that do not look like entries, or when the guest stores there again and again while it runs on other tables.

A frame has at most one shadow for each level it is used at, so tables that map themselves, or form a net of 2^n paths,
cost no more than others. There is a limit to all shadows together, and to how many entries map something (the work that
one store of the guest's may cause); everything is dropped when one is reached.

With CR0.WP clear, the guest's kernel may write to read-only pages. The real WP is always set, so the CPU faults, and
the store is carried out for the guest, as Xen does. While the guest has paging off, the shadow maps guest-physical
memory at its own address.

This file does not know instructions, exits or techniques. Read beside it: shadow_pages.py, which keeps the pages;
shadow_entries.py, which fills them; memory.walk, which decides what is permitted; in Xen,
xen/arch/x86/mm/shadow/multi.c (sh_page_fault).

Not modelled: 32-bit and PAE paging (refused by `root`), PCID, the guest's cache attributes; addresses in the monitor's
own slot, where the guest's every access has to be carried out for it; shadows out of sync (the paper's and KVM's later
refinement).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from pvhv.hvm.counts import Counts
from pvhv.hvm.cpu.guestcpu import GuestCpu
from pvhv.hvm.cpu.memory import GuestPhysical, PagingModeUnsupported, walk
from pvhv.hvm.paging.shadow_entries import Entries
from pvhv.hvm.paging.shadow_pages import (
    DIRECT,
    LINK,
    TABLE,
    ShadowPage,
    ShadowPages,
    TableFrames,
)
from pvhv.machine.paging import PTE_ADDRESS, PTE_RW
from pvhv.machine.svm import PFEC_FETCH, PFEC_USER, PFEC_WRITE
from pvhv.machine.x86 import CR0_PG, EFER_LMA, EFER_NXE

ROOTS: Final = 64  # so many address spaces are remembered
PREFETCH: Final = 8  # so many neighbours (an aligned group) are looked at when an entry is shadowed
ODD_STORES: Final = 3  # in a row: it is no table any more
IDLE_STORES: Final = 8  # without a use in between, and the guest runs on other tables: no table any more
LARGE_STORE: Final = 64  # bytes: nobody writes entries so
PAGE_BY_PAGE: Final = 33  # so many translations are forgotten one by one, and more all at once (what Linux does)
_PATH: Final = 3  # pages a fault may need


class Outcome(Enum):
    """The result of a page fault that is not the guest's own."""

    FILLED = "filled"  # try again
    TRACED = "traced"  # a store to a frame that is traced: carry the instruction out
    EMULATE = "emulate"  # no shadow can allow this, the guest's tables do: carry the instruction out


class ShadowPaging:
    """The shadows of one guest, for its one CPU.

    `flush_tlb` is called whenever the TLB may permit more than the shadows do now. `vmm_slot` is an entry of every root
    that belongs to the monitor: it leads to the table at machine address `vmm_l3`, for supervisors only.
    """

    def __init__(
        self,
        physical: GuestPhysical,
        cpu: GuestCpu,
        frames: TableFrames,
        counts: Counts,
        flush_tlb: Callable[[], object],
        *,
        vmm_slot: int | None = None,
        vmm_l3: int = 0,
        limit: int | None = None,
        prefetch: int = PREFETCH,
    ) -> None:
        """`limit` is the largest number of shadow pages; the default depends on the guest's memory."""
        self.physical = physical
        self.cpu = cpu
        self.counts = counts
        self.flush_tlb = flush_tlb
        self.vmm_slot = vmm_slot
        self.vmm_l3 = vmm_l3
        self.limit = limit if limit is not None else 256 + physical.frames // 32
        self.most_entries = 4096 + 4 * physical.frames
        self.prefetch = prefetch
        self.pages = ShadowPages(physical.ram, frames)
        self.current: ShadowPage | None = None  # what is in CR3
        self._let_gone = (0, 0)  # RIP and frame
        self._words = physical.ram.words
        self._roots: dict[tuple[int, int], ShadowPage] = {}  # the one used last is last
        self._frames = frames
        self.ones = frames.own_frame()  # what is read where there is no memory
        self._words[self.ones << 9 : (self.ones + 1) << 9] = memoryview(b"\xff" * 4096).cast("Q")
        self.entries = Entries(physical, self.pages, self.ones, counts)
        if self.limit < 2 * _PATH + 2 or not self.pages.reserve(_PATH + 1):
            raise ValueError("shadow paging needs more frames")

    # -- roots -------------------------------------------------------------------------------------------------------
    def root(self) -> int:
        """The machine address for the real CR3, for the current CR0, CR3, CR4 and EFER of the guest.

        The caller loads it, which flushes the TLB."""
        cpu = self.cpu
        if cpu.cr0 & CR0_PG:
            efer = cpu.efer
            if not efer & EFER_LMA:
                raise PagingModeUnsupported
            key = (cpu.cr3 & PTE_ADDRESS) >> 12, TABLE
            nxe = bool(efer & EFER_NXE)
            if nxe != self.entries.nxe:
                self._drop(None)  # what is reserved in an entry changes, and with it which are shadowed
                self.entries.nxe = nxe
        else:
            key = 0, DIRECT
        page = self._roots.pop(key, None)
        if page is None:
            page = self._new_root(*key)
        self._roots[key] = page
        page.writes = 0
        self.current = page
        self.pages.reduced, self.pages.reduced_leaves = False, 0
        self.counts.add("tlb_flushes")
        return page.mfn << 12

    def _new_root(self, gfn: int, kind: int) -> ShadowPage:
        if len(self._roots) >= ROOTS:
            self._forget_root(next(iter(self._roots)))
        if len(self.pages.pages) + 1 > self.limit or not self.pages.reserve(1):
            self._drop(None)
        page = self.pages.find(gfn, 4, kind) or self.pages.make(gfn, 4, kind)
        page.root = True
        self.counts.add("shadow_roots")
        if self.vmm_slot is not None:
            self._words[page.mfn << 9 | self.vmm_slot] = self.vmm_l3 | LINK | PTE_RW
        return page

    def _forget_root(self, key: tuple[int, int]) -> None:
        page = self._roots.pop(key)
        if page is self.current:
            self.current = None
        self.pages.destroy(page)

    # -- faults ------------------------------------------------------------------------------------------------------
    def page_fault(self, va: int, code: int) -> Outcome:
        """Handle a #PF. `code` is the hardware's error code, with U set if the guest is in user mode. Raises PageFault
        if the fault is the guest's own."""
        write, user, fetch = bool(code & PFEC_WRITE), bool(code & PFEC_USER), bool(code & PFEC_FETCH)
        there = walk(self.physical, self.cpu, va, write=write, user=user, fetch=fetch)
        gfn = there.gpa >> 12
        filled = self._fill(va)
        self._settle()
        if write:
            if gfn in self.pages.tables or gfn in self.pages.protected:
                self.counts.add("shadow_traced_stores")
                return Outcome.TRACED
            if not there.writable or self.physical.mfn(gfn) is None:
                filled = False
        if filled:
            return Outcome.FILLED
        self.counts.add("shadow_emulated_accesses")
        return Outcome.EMULATE

    def _fill(self, va: int) -> bool:
        """Shadow all entries on the way to `va`, which the walk has found good; False if that cannot be."""
        pages = self.pages
        full = len(pages.pages) + _PATH > self.limit or pages.mapped > self.most_entries
        if full or not pages.reserve(_PATH):
            self._drop(self.current)
        page = self.current
        assert page is not None
        if self.vmm_slot == va >> 39 & 511:
            return False
        for shift in (39, 30, 21):
            page.writes = 0
            child = self.entries.link(page, va >> shift & 511, make=True)
            if child is None:
                return False
            page = child
        page.writes = 0
        index = va >> 12 & 511
        self.entries.map(page, index)
        first = index - index % self.prefetch
        at = page.mfn << 9 | first
        for neighbour, entry in enumerate(self._words[at : at + self.prefetch].tolist(), first):
            if not entry and self.entries.map(page, neighbour):
                self.counts.add("shadow_prefetches")
        return True

    # -- stores ------------------------------------------------------------------------------------------------------
    def guest_wrote(self, gpa: int, size: int) -> None:
        """Bring the shadows up to date after a write to guest memory by anything but the CPU itself."""
        if size <= 0:
            return
        end = gpa + size
        for gfn in range(gpa >> 12, (end - 1 >> 12) + 1):
            if gfn in self.pages.tables:
                start = max(gpa - (gfn << 12), 0)
                self._table_written(gfn, start, min(end - (gfn << 12), 4096) - start)
        self._settle()

    def _table_written(self, gfn: int, offset: int, size: int) -> None:
        indices = range(offset >> 3, (offset + size + 7) >> 3)
        self.counts.add("page_table_updates", len(indices))
        entries = (self.physical.word(gfn << 12 | index << 3) for index in indices)
        odd = _odd(offset, size) or any(map(self.entries.unlikely, entries))
        if self._gone(gfn, odd, size) and self.unshadow(gfn):
            return
        for page in list(self.pages.tables[gfn]):
            if page.mfn in self.pages.pages:  # a table that maps itself may have taken itself away
                for index in indices:
                    self._synchronize(page, index)

    def _synchronize(self, page: ShadowPage, index: int) -> None:
        """Bring the shadow of one entry up to date: the guest's entry changed."""
        if page.level == 4 and index == self.vmm_slot:
            return
        if page.level == 1:
            good = self.entries.map(page, index)
        else:
            good = self.entries.link(page, index, make=False) is not None
        if not good and page.mfn in self.pages.pages:
            self.pages.clear(page, index)

    def _gone(self, gfn: int, odd: bool, size: int) -> bool:
        """Whether the frame seems to be no page table any more."""
        gone = size > LARGE_STORE
        for page in self.pages.tables[gfn]:
            page.writes += 1
            page.odd = page.odd + 1 if odd else 0
            if page.odd >= ODD_STORES:
                gone = True
            elif page.writes % IDLE_STORES == 0 and self.current is not None:
                gone = gone or not self.pages.below(page, self.current)
        return gone

    def unshadow(self, gfn: int) -> bool:
        """Drop all shadows of a frame; False if it stays traced, because the guest runs on that table."""
        self.counts.add("shadow_unshadowed")
        for page in list(self.pages.tables.get(gfn, ())):
            if page is self.current:
                self.pages.empty(page, self.vmm_slot)
            elif page.mfn in self.pages.pages:
                if page.root:
                    del self._roots[page.gfn, page.kind]
                self.pages.destroy(page)
        self._settle()
        return gfn not in self.pages.tables

    def let_go(self, va: int) -> bool:
        """The instruction at RIP stores to a traced frame and cannot be emulated: drop the frame's shadows. True if the
        instruction should be tried again: not if instruction and frame are those of the last call."""
        gfn = walk(self.physical, self.cpu, va, set_bits=False).gpa >> 12
        last, self._let_gone = self._let_gone, (self.cpu.rip, gfn)
        return self._let_gone != last and self.unshadow(gfn)

    # -- what the guest says of its TLB ------------------------------------------------------------------------------
    def invlpg(self, va: int) -> None:
        """INVLPG: the shadow is never older than the guest's table, so the CPU has nothing to forget."""
        self.counts.add("tlb_page_flushes")

    # -- frames others care for ----------------------------------------------------------------------------------------
    def protect(self, gfn: int) -> None:
        """Make stores to a frame fault (Outcome.TRACED) until `unprotect`."""
        self.pages.protect(gfn)
        self._settle()

    def unprotect(self, gfn: int) -> None:
        """Undo one call of `protect`."""
        self.pages.unprotect(gfn)

    # -- the end -----------------------------------------------------------------------------------------------------
    def drop(self) -> None:
        """Drop all shadows: the guest was reset, or restored."""
        self._drop(None)
        self._settle()

    def _drop(self, but: ShadowPage | None) -> None:
        if self.pages.pages:
            self.counts.add("shadow_drops")
        self.pages.drop_all(but, self.vmm_slot)
        self._roots.clear()
        self.current = but
        if but is not None:
            self._roots[but.gfn, but.kind] = but

    def close(self) -> None:
        """Give all frames back."""
        self._drop(None)
        self.pages.close()
        self._frames.give_back(self.ones)

    def _settle(self) -> None:
        """At the end of every operation: flush the TLB if entries lost rights, and count the pages made."""
        pages = self.pages
        if pages.made:
            self.counts.add("shadow_fills", pages.made)
            pages.made = 0
        if pages.reduced or pages.reduced_leaves:
            # The engine has but one way to forget; a processor is told page by page, if they are few.
            if pages.reduced or pages.reduced_leaves > PAGE_BY_PAGE:
                self.counts.add("tlb_flushes")
            else:
                self.counts.add("tlb_page_flushes", pages.reduced_leaves)
            pages.reduced, pages.reduced_leaves = False, 0
            self.flush_tlb()


def _odd(offset: int, size: int) -> bool:
    """Whether a store to an entry is unusual in size or place. (But a kernel may clear a bit of its first byte.)"""
    if offset & 7 == 0:
        return size in (2, 3) or (size > 8 and size & 7 != 0)
    return size < 4 or (offset & 7) + size > 8
