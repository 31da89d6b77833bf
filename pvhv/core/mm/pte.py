# SPDX-License-Identifier: GPL-2.0-or-later
"""The bits of a page-table entry: which of them a guest may set, and which of them the hypervisor adds.

A 64-bit PV guest runs at CPL 3, kernel and users alike, so its kernel reaches only pages with the U bit. Xen sets that
bit in every entry. An L1 entry that the guest wrote without the U bit gets a mark that says it was meant for the
kernel. An L1 entry written with it is made global, because Xen's switch between guest kernel and user mode keeps global
mappings in the TLB.

Read beside it: L1_DISALLOW_MASK and base_disallow_mask in xen/arch/x86/mm.c, FASTPATH_FLAG_WHITELIST in
xen/arch/x86/include/asm/mm.h, adjust_guest_l1e and its kin in xen/arch/x86/pv/mm.h.
"""

from __future__ import annotations

from pvhv.machine.paging import (
    PTE_ACCESSED,
    PTE_ADDRESS,
    PTE_DIRTY,
    PTE_GLOBAL,
    PTE_NX,
    PTE_PCD,
    PTE_PRESENT,
    PTE_PSE,
    PTE_PWT,
    PTE_RW,
    PTE_USER,
)
from pvhv.machine.x86 import MASK64

# The processor's bits (machine/paging.py), by shorter names: all of this room is about entries.
PRESENT, RW, USER, PWT, PCD = PTE_PRESENT, PTE_RW, PTE_USER, PTE_PWT, PTE_PCD
ACCESSED, DIRTY, PAT_PSE, GLOBAL, NX = PTE_ACCESSED, PTE_DIRTY, PTE_PSE, PTE_GLOBAL, PTE_NX
ADDRESS = PTE_ADDRESS
GUEST_KERNEL = 1 << 52  # of those that are free for software: Xen's own note in a guest's L1 entries

# Xen's L1_DISALLOW_MASK for a domain without device memory, and base_disallow_mask for the levels above.
L1_DISALLOW = PWT | PCD | PAT_PSE
UPPER_DISALLOW = PWT | PCD | PAT_PSE | GLOBAL
# Bits that may change in a present entry without revalidating it (FASTPATH_FLAG_WHITELIST).
AVAILABLE = 0xE00 | 0x7FF0_0000_0000_0000
FREELY_CHANGED = NX | AVAILABLE | GLOBAL | DIRTY | ACCESSED | USER
REVALIDATED = ~FREELY_CHANGED & MASK64

L4_GETS = USER | ACCESSED  # every present entry (adjust_guest_l4e)
UPPER_GETS = USER  # and of an L2 or L3


def adjust(entry: int) -> int:
    """A present L1 entry with the bits that the hypervisor adds. (adjust_guest_l1e)"""
    if not entry & USER:
        return entry | USER | GUEST_KERNEL
    return entry if entry & GUEST_KERNEL else entry | GLOBAL
