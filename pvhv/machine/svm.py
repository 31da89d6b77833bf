# SPDX-License-Identifier: GPL-2.0-or-later
"""AMD-V as the engine implements it: #VMEXIT codes, intercept bits, and offsets in a VMCB.

The engine carries QEMU's emulated AMD-V.  PV guests run with its exception intercepts on, so
every exception is a #VMEXIT whose code reaches the interrupt hook as 0x100 + code, with the
guest's state live.  Read beside it: AMD's manual volume 2, appendix B and C; in Xen,
xen/arch/x86/include/asm/hvm/svm/vmcb.h.
"""

from __future__ import annotations

from typing import Final

# What the interrupt hook is given for a #VMEXIT; below this it is the vector of `int n`.
EXIT_BASE: Final = 0x100

VMEXIT_CR0_READ, VMEXIT_CR0_WRITE = 0x00, 0x10
VMEXIT_DR0_READ, VMEXIT_DR0_WRITE = 0x20, 0x30
VMEXIT_EXCEPTION = 0x40  # + vector
VMEXIT_INTR, VMEXIT_VINTR = 0x60, 0x64
VMEXIT_IDTR_WRITE, VMEXIT_GDTR_WRITE, VMEXIT_LDTR_WRITE, VMEXIT_TR_WRITE = 0x6A, 0x6B, 0x6C, 0x6D
VMEXIT_RDTSC, VMEXIT_RDPMC = 0x6E, 0x6F
VMEXIT_PUSHF, VMEXIT_POPF = 0x70, 0x71
VMEXIT_CPUID, VMEXIT_RSM, VMEXIT_IRET, VMEXIT_SWINT, VMEXIT_INVD = 0x72, 0x73, 0x74, 0x75, 0x76
VMEXIT_PAUSE, VMEXIT_HLT, VMEXIT_INVLPG, VMEXIT_INVLPGA = 0x77, 0x78, 0x79, 0x7A
VMEXIT_IOIO = 0x7B
VMEXIT_MSR, VMEXIT_SHUTDOWN = 0x7C, 0x7F
VMEXIT_VMRUN, VMEXIT_VMMCALL, VMEXIT_VMLOAD, VMEXIT_VMSAVE = 0x80, 0x81, 0x82, 0x83
VMEXIT_STGI, VMEXIT_CLGI, VMEXIT_SKINIT = 0x84, 0x85, 0x86
VMEXIT_RDTSCP, VMEXIT_ICEBP, VMEXIT_WBINVD = 0x87, 0x88, 0x89
VMEXIT_NPF = 0x400
VMEXIT_WATCH = 0x401  # the corrected engine's own: behind an instruction that reached what a debugger watches


def intercept_bit(code: int) -> int:
    """The bit of the `intercept` word that makes instruction exit `code` (0x60..0x9f) happen."""
    return 1 << code - VMEXIT_INTR


# Byte offsets in the VMCB page (its control area).
MSRPM_BASE = 0x48
EXITCODE, EXITINFO1, EXITINFO2 = 0x70, 0x78, 0x80

# Vectors, as the manuals abbreviate them (x86.py spells some out).
DE, DB, NMI, BP, OF, BR, UD, NM, DF = range(9)
TS, NP, SS, GP, PF = range(10, 15)
MF, AC, MC, XF = range(16, 20)

# #PF error code.
PFEC_PRESENT, PFEC_WRITE, PFEC_USER, PFEC_RESERVED, PFEC_FETCH = 1, 2, 4, 8, 16
