# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine-to-physical table: for every machine frame, the pseudo-physical number its domain gave it.

The hypervisor writes it (MMU_MACHPHYS_UPDATE) and every guest's kernel reads it, at 0xffff800000000000, through 2 MiB
read-only mappings behind L4 slot 256, the same for all domains. Any code that runs on an L4 with this slot can read the
table, and user code must not. So the slot is filled when a kernel begins to run on an L4. With the assist m2p_strict
all L4s of a guest have the slot from the beginning, and it is cleared in an L4 that user code will run on.

Read beside it: xen/arch/x86/x86_64/mm.c (subarch_init_memory, m2p), fill_ro_mpt and zap_ro_mpt in xen/arch/x86/mm.c,
MACH2PHYS_VIRT_START in the public headers.
"""

from __future__ import annotations

from pvhv.abi.xen import DOMID_XEN
from pvhv.core.mm.pagetables import PageTables
from pvhv.core.mm.pte import NX, PRESENT, USER
from pvhv.machine.paging import PTE_PSE

FRAMES_PER_GIB = 1 << 18
L4_SLOT = 256


class MachineToPhysical:
    """`table[mfn]` is the pfn; `l4_entry` is the entry for slot 256 of guests' L4s."""

    def __init__(self, tables: PageTables) -> None:
        frames = tables.frames
        words = frames.ram.words
        size = (frames.count + 511) // 512
        first = frames.allocate_run(DOMID_XEN, size + -size % 512)  # 2 MiB mappings want it aligned, as so many are
        self.table = words[first << 9 : (first << 9) + frames.count]
        l3 = frames.allocate(DOMID_XEN)
        for gib in range((size + FRAMES_PER_GIB - 1) // FRAMES_PER_GIB):
            l2 = frames.allocate(DOMID_XEN)
            words[(l3 << 9) + gib] = l2 << 12 | PRESENT | USER
            for index in range(512):
                mfn = first + gib * FRAMES_PER_GIB + index * 512
                if mfn < first + size:
                    words[(l2 << 9) + index] = mfn << 12 | PRESENT | USER | PTE_PSE | NX
        self.l3 = l3
        self.l4_entry = tables.m2p_entry = l3 << 12 | PRESENT | USER
