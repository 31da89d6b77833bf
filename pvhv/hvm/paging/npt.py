# SPDX-License-Identifier: GPL-2.0-or-later
"""Nested paging: the second level, from guest-physical to machine addresses, walked by the engine's own MMU.

The tables are real ones, in frames of the hypervisor's, filled page by page as the guest first touches its memory. An
access to a guest-physical address without an entry is a nested page fault. Where the guest has no memory, the monitor
decides what happens.

The tables also keep the engine's code translations coherent, as the engine does not notice every store to code it
translated. So a page from which code was translated is read-only here (the pCPU's `guard_code`). A store to it faults,
and its translations are dropped. Real hardware does not need this, so such a fault is not counted as an exit. If it
happens again and again to a page (code that stores to its own page would make no progress), the page is watched instead
(pvhv/machine/watch.py): then the engine notices every store. Watched pages are slow, so there are only a few.

Invariant: an entry maps a frame of this guest's, or is absent; one that code was translated from is not writable.

Read beside it: AMD's manual volume 2, 15.25 (nested paging); xen/arch/x86/mm/p2m-pt.c.

Not modelled: large pages in the nested tables, write tracking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum

from pvhv.core.errors import DomainCrash, HypercallError
from pvhv.hvm.cpu.memory import GuestPhysical
from pvhv.machine.paging import PTE_ACCESSED, PTE_ADDRESS, PTE_DIRTY, PTE_PRESENT, PTE_RW, PTE_USER
from pvhv.machine.pcpu import PCPU

NESTED_LONG = 1 | 2  # PAE, long mode: the engine's nested_pg_mode
WATCHED = 1 << 9  # ours, in an entry: not to be guarded, as pacer.h knows too
PATIENCE, MOST_WATCHED = 4, 32

# Nested walks are user accesses. (No entry may be no-execute: the engine does not survive a guest's page table there.)
ENTRY = PTE_PRESENT | PTE_RW | PTE_USER | PTE_ACCESSED | PTE_DIRTY


class Filled(Enum):
    """The result of a nested page fault."""

    NEW = "the page was not there yet"
    WRITABLE = "code had been translated from it"
    NOTHING = "the guest has no memory there"


class NestedTables:
    """`root` is the machine address for nested CR3. `allocate` gives zeroed frames of the hypervisor's."""

    def __init__(self, physical: GuestPhysical, pcpu: PCPU, allocate: Callable[[], int]) -> None:
        self.physical = physical
        self.pcpu = pcpu
        self.words = physical.ram.words
        self.allocate = allocate
        self.root = allocate() << 12
        self._stores: Counter[int] = Counter()  # to guarded pages, by mfn
        self._watched: dict[int, int] = {}  # mfn -> index of the entry in words; the oldest first

    def fill(self, gpa: int) -> Filled:
        """Map the page of `gpa`, writable. Raises DomainCrash where there is no frame left for a table."""
        mfn = self.physical.mfn(gpa >> 12)
        if mfn is None:
            return Filled.NOTHING
        table = self.root >> 12
        for shift in (39, 30, 21):
            at = table << 9 | gpa >> shift & 511
            entry = self.words[at]
            if not entry & PTE_PRESENT:
                self.words[at] = entry = self._new_table() << 12 | ENTRY
            table = (entry & PTE_ADDRESS) >> 12
        at = table << 9 | gpa >> 12 & 511
        before = self.words[at]
        self.words[at] = mfn << 12 | ENTRY
        if not before & PTE_PRESENT:
            return Filled.NEW
        self.pcpu.forget_code(mfn)
        self._stores[mfn] += 1
        if self._stores[mfn] >= PATIENCE:
            self._watch(mfn, at)
        self.pcpu.flush_tlb()
        return Filled.WRITABLE

    def _new_table(self) -> int:
        try:
            return self.allocate()
        except HypercallError:
            raise DomainCrash("the machine has no memory left for its nested page tables") from None

    def _watch(self, mfn: int, at: int) -> None:
        if len(self._watched) >= MOST_WATCHED:
            oldest = next(iter(self._watched))
            self.words[self._watched.pop(oldest)] &= ~WATCHED & ~PTE_RW
            self._stores[oldest] = 0
            self.pcpu.watch.remove(oldest)
        self._watched[mfn] = at
        self.words[at] |= WATCHED
        self.pcpu.watch.add(mfn)

    def guarded(self) -> list[int]:
        """The frames that code was translated from."""
        tables = [self.root >> 12]
        for _ in range(3):
            tables = [
                (entry & PTE_ADDRESS) >> 12
                for table in tables
                for entry in self.words[table << 9 : table + 1 << 9].tolist()
                if entry & PTE_PRESENT
            ]
        return [
            (entry & PTE_ADDRESS) >> 12
            for table in tables
            for entry in self.words[table << 9 : table + 1 << 9].tolist()
            if entry & PTE_PRESENT and (not entry & PTE_RW or entry & WATCHED)
        ]

    def host_wrote(self, gpa: int, size: int) -> None:
        """Drop the code translated from bytes within a page, which were written otherwise than by the guest."""
        table = self.root >> 12
        for shift in (39, 30, 21):
            entry = self.words[table << 9 | gpa >> shift & 511]
            if not entry & PTE_PRESENT:
                return
            table = (entry & PTE_ADDRESS) >> 12
        entry = self.words[table << 9 | gpa >> 12 & 511]
        if entry & PTE_PRESENT and (not entry & PTE_RW or entry & WATCHED):
            self.words[table << 9 | gpa >> 12 & 511] |= PTE_RW
            self.pcpu.forget_code((entry & PTE_ADDRESS) >> 12)
