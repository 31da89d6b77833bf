# SPDX-License-Identifier: GPL-2.0-or-later
"""A page-table entry's bits, and which of them a guest may set.

Read beside it: L1_DISALLOW_MASK and base_disallow_mask in xen/arch/x86/mm.c, FASTPATH_FLAG_WHITELIST in
xen/arch/x86/include/asm/mm.h.
"""

from __future__ import annotations

PRESENT, RW, USER, PWT, PCD, ACCESSED, DIRTY, PAT_PSE, GLOBAL = (1 << bit for bit in range(9))
NX = 1 << 63
ADDRESS = 0x000F_FFFF_FFFF_F000

# Xen's L1_DISALLOW_MASK for a domain without device memory, and base_disallow_mask for the levels above.
L1_DISALLOW = PWT | PCD | PAT_PSE
UPPER_DISALLOW = PWT | PCD | PAT_PSE | GLOBAL
# Bits that may change in a present entry without revalidating it (FASTPATH_FLAG_WHITELIST).
AVAILABLE = 0xE00 | 0x7FF0_0000_0000_0000
FREELY_CHANGED = NX | AVAILABLE | GLOBAL | DIRTY | ACCESSED | USER
REVALIDATED = ~FREELY_CHANGED & 0xFFFF_FFFF_FFFF_FFFF
