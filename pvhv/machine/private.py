# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypervisor's own pages of a pCPU: far above RAM, in no table a guest can run on.

They hold the VMCB and its MSR permission map, a page of code that proof.py runs before any guest, and page tables with
an identity map of all RAM and of these pages (1 GiB pages, supervisor only). On the stock engine `forget_code` uses the
map, because it must name a frame by a virtual address that does not depend on a guest's tables.

Invariant: physical addresses here begin at `BASE`, beyond any mfn a validated entry can hold.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

from pvhv.machine import paging, svm
from pvhv.machine.engine import Engine
from pvhv.machine.ram import PAGE_SIZE, Ram

BASE: Final = 1 << 39  # the engine has 40 physical address bits
_PML4, _PDPT_RAM, _PDPT_PRIVATE, _VMCB, _CODE, _DATA, _MSRPM, _, _NOTHING, PAGES = range(10)
_TABLE: Final = paging.PTE_PRESENT | paging.PTE_RW | paging.PTE_ACCESSED | paging.PTE_DIRTY


class Private:
    """The pages of one pCPU. `cr3` is the identity map's root; `nothing` is a root that maps nothing.

    `code` and `data` are the memory at `code_address` and `data_address`.
    """

    def __init__(self, engine: Engine, ram: Ram) -> None:
        if ram.size > 512 << 30:
            raise ValueError("more than 512 GiB of RAM")
        memory = self._memory = mmap.mmap(-1, PAGES * PAGE_SIZE)
        whole = memoryview(memory)
        words = whole.cast("Q")
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        engine.map(BASE, PAGES * PAGE_SIZE, address)
        self.cr3: Final = BASE + _PML4 * PAGE_SIZE
        self.nothing: Final = BASE + _NOTHING * PAGE_SIZE
        words[_PML4 * 512 + 0] = BASE + _PDPT_RAM * PAGE_SIZE | _TABLE
        words[_PML4 * 512 + (BASE >> 39)] = BASE + _PDPT_PRIVATE * PAGE_SIZE | _TABLE
        for gib in range((ram.size + (1 << 30) - 1) >> 30):
            words[_PDPT_RAM * 512 + gib] = gib << 30 | _TABLE | paging.PTE_PSE
        words[_PDPT_PRIVATE * 512 + (BASE >> 30 & 511)] = BASE | _TABLE | paging.PTE_PSE
        self.vmcb_address: Final = BASE + _VMCB * PAGE_SIZE
        self.vmcb: Final = words[_VMCB * 512 : (_VMCB + 1) * 512]
        self.code_address: Final = BASE + _CODE * PAGE_SIZE
        self.code: Final = whole[_CODE * PAGE_SIZE : (_CODE + 1) * PAGE_SIZE]
        self.data_address: Final = BASE + _DATA * PAGE_SIZE
        self.data: Final = words[_DATA * 512 : (_DATA + 1) * 512]
        self.msr_permissions: Final = whole[_MSRPM * PAGE_SIZE : _NOTHING * PAGE_SIZE]
        self.vmcb[svm.MSRPM_BASE // 8] = BASE + _MSRPM * PAGE_SIZE
        assert svm.EXITINFO2 < PAGE_SIZE
