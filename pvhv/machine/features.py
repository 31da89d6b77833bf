# SPDX-License-Identifier: GPL-2.0-or-later
"""The instruction sets of the machine's processor, as CPUID bits: other instructions raise #UD.

The engine's own model (a Haswell) has more: instructions whose results depend on chance (RDRAND, RDSEED), that need
state which is not saved (AVX, MPX), or that belong to a kernel that is not the guest's (FSGSBASE, SMAP, MONITOR).
pvhv.core.traps.cpuid hides these from guests, and a hidden instruction must raise #UD. CPUID bits that enable no
instruction are not listed here.

Read beside it: keep_features in corrections/seam.c; AMD's manual volume 3, appendix D (instruction subsets and CPUID).
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Features(NamedTuple):
    """The words of CPUID that the translator checks."""

    leaf_1_edx: int
    leaf_1_ecx: int
    leaf_7_ebx: int
    leaf_80000001_edx: int
    leaf_80000001_ecx: int
    leaf_d_eax: int


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


VENDOR: Final = (0x68747541, 0x69746E65, 0x444D4163)  # AuthenticAMD: EBX, EDX, ECX

FEATURES: Final = Features(
    leaf_1_edx=0xFFFF_FFFF,  # all that is old: CMOV, CX8, FXSR, SSE, SSE2
    leaf_1_ecx=_bits(0, 9, 13, 19, 20, 22, 23),  # SSE3 SSSE3 CX16 SSE4.1 SSE4.2 MOVBE POPCNT
    leaf_7_ebx=0,
    leaf_80000001_edx=_bits(11, 20, 29) | 0x183_F3FF,  # SYSCALL NX LM, and what AMD repeats of leaf 1
    leaf_80000001_ecx=_bits(0, 2),  # LAHF SVM
    leaf_d_eax=0,
)

# For a guest that has the whole machine: `classify` and its micro guests show what RDTSCP does outside ring 0.
WHOLE_MACHINE: Final = FEATURES._replace(leaf_80000001_edx=FEATURES.leaf_80000001_edx | _bits(27))
