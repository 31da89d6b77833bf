# SPDX-License-Identifier: GPL-2.0-or-later
"""What CPUID tells a PV guest: the engine's CPU as far as it is real, and Xen's own leaves.

The policy is fixed, so that a guest sees the same processor on every host: an x86-64 with SSE4.2 and nothing the engine
lacks (AVX, XSAVE, FSGSBASE, PCID, SMAP), nothing Xen hides from PV guests (VME, PSE36, MTRR, superpages of 1 GiB) and
nothing that would make a run depend on chance (RDRAND, RDSEED). Leaves 0x40000000 to 5 are Xen's own.

Read beside it: guest_cpuid in xen/arch/x86/cpuid.c, cpuid_hypervisor_leaves in xen/arch/x86/traps.c,
xen/include/public/arch-x86/cpuid.h.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pvhv.abi.arch_x86 import (
    XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD,
    XEN_CPUID_FIRST_LEAF,
    XEN_CPUID_MAX_NUM_LEAVES,
)
from pvhv.core.sched.pvclock import Scale
from pvhv.machine.ram import PAGE_SHIFT


class Leaf(NamedTuple):
    """The answer for one leaf: EAX, EBX, ECX, EDX."""

    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


def _text(text: str) -> tuple[int, ...]:
    return struct.unpack("<12I", text.encode().ljust(48, b"\0"))


XEN_MAJOR, XEN_MINOR = 4, 17
XEN_MSR = 0x4000_0000  # where a guest writes the address of a page that is to be its hypercall page
TSC_EMULATED, TSC_SAFE = 1 << 0, 1 << 1
TSC_MODE_DEFAULT = 0
INCARNATION = 1  # of a domain's clock, which a migration would change

# leaf 1 EDX: FPU DE TSC MSR PAE MCE CX8 APIC SEP MCA CMOV PAT CLFSH MMX FXSR SSE SSE2
FEATURES_1D = _bits(0, 2, 4, 5, 6, 7, 8, 9, 11, 14, 15, 16, 19, 23, 24, 25, 26)
# leaf 1 ECX: SSE3 SSSE3 CX16 SSE4.1 SSE4.2 MOVBE POPCNT HYPERVISOR
FEATURES_1C = _bits(0, 9, 13, 19, 20, 22, 23, 31)
# leaf 0x80000001 EDX: those of leaf 1 that AMD repeats, SYSCALL NX LM
FEATURES_E1D = FEATURES_1D & _bits(0, 2, 4, 5, 6, 7, 8, 9, 14, 15, 16, 23, 24) | _bits(11, 20, 29)
# leaf 0x80000001 ECX: LAHF
FEATURES_E1C = _bits(0)

_VENDOR = struct.unpack("<3I", b"AuthenticAMD")
_XEN = struct.unpack("<3I", b"XenVMMXenVMM")
_BRAND = _text("pvhv virtual processor")
_CACHE_LINE = 64


class Tsc(NamedTuple):
    """The time stamp counter of a domain: how fast it counts, and whether reading it traps."""

    khz: int
    scale: Scale
    emulated: bool


def subleaves(tsc: Tsc, frames: int) -> dict[tuple[int, int], Leaf]:
    """The leaves that depend on ECX, by (leaf, subleaf); other subleaves of these leaves are zero."""
    return {
        (0x40000003, 0): Leaf(TSC_EMULATED if tsc.emulated else TSC_SAFE, TSC_MODE_DEFAULT, tsc.khz, INCARNATION),
        (0x40000003, 1): Leaf(0, 0, tsc.scale.mul, tsc.scale.shift & 0xFFFF_FFFF),
        (0x40000003, 2): Leaf(tsc.khz),
        (0x40000005, 0): Leaf(0, (frames - 1).bit_length() + PAGE_SHIFT),
    }


def leaves(vcpu_id: int) -> dict[int, Leaf]:
    """The leaves of one vCPU that do not depend on ECX, by leaf."""
    brand = _BRAND
    return {
        0: Leaf(7, _VENDOR[0], _VENDOR[2], _VENDOR[1]),
        1: Leaf(0x00000F61, vcpu_id << 24 | (_CACHE_LINE // 8) << 8, FEATURES_1C, FEATURES_1D),
        0x40000000: Leaf(XEN_CPUID_FIRST_LEAF + XEN_CPUID_MAX_NUM_LEAVES, *_XEN),
        0x40000001: Leaf(XEN_MAJOR << 16 | XEN_MINOR),
        0x40000002: Leaf(1, XEN_MSR, XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD),  # one hypercall page
        0x80000000: Leaf(0x80000008, _VENDOR[0], _VENDOR[2], _VENDOR[1]),
        0x80000001: Leaf(0x00000F61, 0, FEATURES_E1C, FEATURES_E1D),
        0x80000002: Leaf(*brand[0:4]),
        0x80000003: Leaf(*brand[4:8]),
        0x80000004: Leaf(*brand[8:12]),
        0x80000008: Leaf(48 << 8 | 40),
    }


NOTHING = Leaf()
