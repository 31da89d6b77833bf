# SPDX-License-Identifier: GPL-2.0-or-later
"""The GDT the CPU uses while it runs a deprivileged guest: a copy of the guest's GDT, with other privilege levels.

A guest kernel loads segment registers as at ring 0, and most of these loads do not trap. So the CPU must find
descriptors that ring 1 may use. The copy is mapped read-only at an entry of the shadow's roots that belongs to the
monitor (`SLOT`). For each descriptor of the guest it has:
  - code and data of rings 0 to 2: the same, for ring 1;
  - code of ring 3: not present. So no instruction of the kernel enters user mode without an exit, and the monitor
    always knows the mode;
  - anything else: an empty descriptor, so that its use traps.

The copy must not go stale, so the pages of the guest's GDT are write-protected, and stores to them bring it up to date.
If a page of the GDT also holds data that is stored to again and again, each store would trap. Then the copy is emptied
instead and the page released: from then on every segment load traps and reads the guest's own table. In both cases the
guest gets what its table says. The real LDT is always empty, for the same reason.

It does not know exits. Read beside it: deprivileged.py, descriptors.py; shadow.py (`vmm_slot`, `protect`).

Not modelled: accessed bits, which are set in the copy and not in the guest's table by loads that do not trap.
"""

from __future__ import annotations

import struct
from typing import Final

from pvhv.hvm.cpu.descriptors import ACCESSED
from pvhv.hvm.cpu.guestcpu import FLAG_LONG, FLAG_PRESENT, SYSTEM_FLAG, TYPE_CODE
from pvhv.hvm.cpu.memory import PageFault, PagingModeUnsupported, walk
from pvhv.hvm.monitor.deprivileged import DPL, REAL_KERNEL, REAL_USER, DeprivilegedCpu
from pvhv.hvm.paging.shadow import ShadowPaging
from pvhv.hvm.paging.shadow_pages import LINK, TableFrames
from pvhv.machine import cpustate as cs
from pvhv.machine.paging import PTE_NX
from pvhv.machine.ram import PAGE_SIZE, Ram
from pvhv.machine.x86 import CONFORMING

SLOT: Final = 509
BASE: Final = 0xFFFF_0000_0000_0000 | SLOT << 39
PAGES: Final = 16
LDT, IDT, TASK = BASE + PAGES * PAGE_SIZE, BASE + 2 * PAGES * PAGE_SIZE, BASE + 2 * PAGES * PAGE_SIZE + PAGE_SIZE
LDT_SELECTOR, TASK_SELECTOR = 0xFFE0, 0xFFF0  # behind what a guest's GDT is likely to have
LIMIT: Final = 0xFFFF
MOST_STORES: Final = 8


def copied(descriptor: int, *, long_mode: bool) -> int:
    """The copy of a descriptor of the guest's."""
    flags = descriptor >> 32
    if not flags & SYSTEM_FLAG or not flags & FLAG_PRESENT:
        return 0
    flags |= ACCESSED
    level = flags >> 13 & 3
    if level != REAL_USER:
        flags = flags & ~DPL | REAL_KERNEL << 13
    elif flags & TYPE_CODE and not flags & CONFORMING:
        flags &= ~FLAG_PRESENT
    if flags & TYPE_CODE and not long_mode:
        flags &= ~FLAG_LONG  # which means nothing there, but would to the CPU
    return flags << 32 | descriptor & 0xFFFF_FFFF


class ShadowGdt:
    """`l3` is the machine address for the shadow's `vmm_l3`."""

    def __init__(self, cpu: DeprivilegedCpu, ram: Ram, frames: TableFrames) -> None:
        self.cpu = cpu
        self.ram = ram
        self._frames = frames
        l3, l2, self._l1, self._nothing = (frames.own_frame() for _ in range(4))
        self.l3 = l3 << 12
        words = ram.words
        words[l3 << 9] = l2 << 12 | LINK
        words[l2 << 9] = self._l1 << 12 | LINK
        for page in range(2 * PAGES):
            self._map(page, self._nothing)
        self._copies: dict[int, int] = {}  # page of the GDT -> frame of the copy
        self._traced: list[int] = []  # the guest's frames that hold its GDT
        self._stores = 0
        self.shadow: ShadowPaging

    def _map(self, page: int, mfn: int) -> None:
        self.ram.words[self._l1 << 9 | page] = mfn << 12 | LINK | PTE_NX

    def enter(self) -> None:
        """Give the CPU its tables."""
        pcpu = self.cpu.pcpu
        pcpu.set_gdtr(BASE, LIMIT)
        pcpu.set_segment(cs.IDT, 0, IDT, 0xFFF, 0)
        pcpu.set_ldtr(LDT_SELECTOR, LDT, LIMIT)
        pcpu.set_segment(cs.TR, TASK_SELECTOR, TASK, 0x67, 0x8B00)

    # -- keeping up ----------------------------------------------------------------------------------------------------
    def loaded(self) -> None:
        """Make the copy again: the guest loaded GDTR, or its descriptors mean something else now."""
        self._stores = 0
        self._copy()

    def moved(self) -> None:
        """The guest's page tables changed: the GDT's pages may be other frames now."""
        if self._stores <= MOST_STORES and [gfn for _, gfn in self._places()] != self._traced:
            self._copy()

    def wrote(self, gpa: int, size: int) -> None:
        """The monitor wrote to guest memory: bring the copy up to date if that is in the GDT."""
        if self._traced and any(gfn in self._traced for gfn in range(gpa >> 12, (gpa + size - 1 >> 12) + 1)):
            self._stores += 1
            if self._stores <= MOST_STORES:
                self._copy()
            else:
                self._release()
                self._clear()

    def _places(self) -> list[tuple[int, int]]:
        """(page of the GDT, guest frame) for each page of the GDT that is mapped."""
        base, limit = self.cpu.gdtr
        places = []
        at = base & ~0xFFF
        while limit and at <= base + limit:
            try:
                there = walk(self.cpu.physical, self.cpu, at & (1 << 64) - 1, set_bits=False)
                if self.cpu.physical.mfn(there.gpa >> 12) is not None:
                    places.append((at, there.gpa >> 12))
            except (PageFault, PagingModeUnsupported):
                pass
            at += PAGE_SIZE
        return places

    def _release(self) -> None:
        traced, self._traced = self._traced, []
        for gfn in traced:
            self.shadow.unprotect(gfn)

    def _clear(self) -> None:
        for mfn in self._copies.values():
            self.ram.frame(mfn)[:] = bytes(PAGE_SIZE)

    def _copy(self) -> None:
        self._release()
        places = self._places()
        base, limit = self.cpu.gdtr
        image = bytearray(2 * PAGES * PAGE_SIZE)
        for at, gfn in places:
            skip, start = max(base - at, 0), max(at - base, 0)
            image[start : start + PAGE_SIZE - skip] = self.cpu.physical.read(gfn << 12, PAGE_SIZE)[skip:]
        count = (limit + 1) // 8
        long_mode = self.cpu.long_mode
        table = [copied(each, long_mode=long_mode) for each in struct.unpack_from(f"<{count}Q", image)] if limit else []
        if table:
            table[0] = 0
        self._clear()
        for first in range(0, len(table), 512):
            page = first // 512
            if page not in self._copies:
                self._copies[page] = self._frames.own_frame()
                self._map(page, self._copies[page])
                self.cpu.pcpu.flush_tlb()
            part = table[first : first + 512]
            start = self._copies[page] << 9
            self.ram.words[start : start + len(part)] = memoryview(struct.pack(f"<{len(part)}Q", *part)).cast("Q")
        for _, gfn in places:
            self.shadow.protect(gfn)
            self._traced.append(gfn)
