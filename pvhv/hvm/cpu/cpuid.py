# SPDX-License-Identifier: GPL-2.0-or-later
"""The CPUID of a fully virtualized guest: that of a PV guest, with the features that a native kernel needs, and, if a
monitor answers CPUID, the bit for a hypervisor.

Leaf 0x15 gives the TSC's frequency as a ratio to a clock of 1 kHz: on the virtual clock a TSC tick is one instruction.

Read beside it: AMD's manual volume 3, appendix E; Intel's volume 2A, CPUID, leaf 15H.
"""

from __future__ import annotations

import struct

from pvhv.core.traps import cpuid as pv
from pvhv.core.traps.cpuid import NOTHING, Leaf

__all__ = ["NOTHING", "Leaf", "leaves"]

# On top of the PV policy, EDX of leaf 1: VME PSE MTRR are not there either; PGE (13) and global pages are.
FEATURES_1D = pv.FEATURES_1D | 1 << 13
HYPERVISOR_PRESENT = 1 << 31
_SIGNATURE = struct.unpack("<3I", b"PvhvFullVirt")


def leaves(tsc_khz: int, *, monitor: bool) -> dict[int, Leaf]:
    """All leaves; with `monitor` they are a hypervisor's answer, without it the bare processor's."""
    table = {leaf: value for leaf, value in pv.leaves(0).items() if not 0x4000_0000 <= leaf < 0x5000_0000}
    table[0] = table[0]._replace(eax=0x15)
    one = table[1]
    features = one.ecx | HYPERVISOR_PRESENT if monitor else one.ecx & ~HYPERVISOR_PRESENT
    table[1] = one._replace(ecx=features, edx=FEATURES_1D)
    table[0x15] = Leaf(1, tsc_khz, 1000)
    table[0x8000_0001] = table[0x8000_0001]._replace(edx=table[0x8000_0001].edx | 1 << 13)
    if monitor:
        table[0x4000_0000] = Leaf(0x4000_0000, *_SIGNATURE)
    return table
