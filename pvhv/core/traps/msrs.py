# SPDX-License-Identifier: GPL-2.0-or-later
"""The model-specific registers a PV kernel may read and write, as far as Xen lets it.

The processor pvhv shows is one of AMD's (cpuid.py), so Xen's rules for AMD apply. Beside the segment bases a guest can
change little: EFER, PAT and MISC_ENABLE may be written back as they are, machine checks are Xen's virtual ones (two
banks without errors, a status word that keeps what is written), and registers that steer power or the north bridge read
as zero and take any value without effect. Everything else raises #GP.

0x40000000 is Xen's: a kernel writes the address of one of its pages there, and that page is filled with hypercall
stubs, with or without an ELF note.

Not modelled: performance counters (without a virtual PMU Xen gives #GP as well), machine checks that are injected, the
zero that Xen returns for a read while the guest has no #GP handler yet.

Read beside it: read_msr and write_msr in xen/arch/x86/pv/emul-priv-op.c, guest_rdmsr and guest_wrmsr in
xen/arch/x86/msr.c, xen/arch/x86/cpu/mcheck/vmce.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.core.errors import HypercallError
from pvhv.core.traps import hypercall_page
from pvhv.core.traps.cpuid import XEN_MSR
from pvhv.machine.cpustate import FS_BASE, GS_BASE
from pvhv.machine.ram import PAGE_SIZE
from pvhv.machine.x86 import MASK64

if TYPE_CHECKING:
    from pvhv.core.cpu import Cpu
    from pvhv.core.services import Services
    from pvhv.core.vcpu import VCPU

EFER_VALUE = 0xD01  # SCE LME LMA NX
XEN_PAT = 0x0501_0007_0406

P5_MC_ADDR, P5_MC_TYPE, TSC, APIC_BASE, PATCH_LEVEL = 0x00, 0x01, 0x10, 0x1B, 0x8B
MPERF, APERF = 0xE7, 0xE8
MISC_ENABLE, PAT = 0x1A0, 0x277
PERF_CAPABILITIES, MISC_FEATURES_ENABLES, PLATFORM_INFO = 0x345, 0x140, 0xCE
MCG_CAP, MCG_STATUS, MCG_CTL, MCG_EXT_CTL = 0x179, 0x17A, 0x17B, 0x4D0
MC0_CTL, MC0_CTL2, MCX_END = 0x400, 0x280, 0x480
EFER, FS, GS, SHADOW_GS = 0xC000_0080, 0xC000_0100, 0xC000_0101, 0xC000_0102
K7_HWCR, K7_FID_VID_CTL, K7_FID_VID_STATUS = 0xC001_0015, 0xC001_0041, 0xC001_0042
K8_PSTATES = range(0xC001_0061, 0xC001_006C)  # limit, control, status, and eight states
NB_CFG, DE_CFG = 0xC001_001F, 0xC001_1029

APIC_ENABLED_AT = 0xFEE0_0000 | 1 << 11
APIC_BASE_BSP = 1 << 8
GUEST_MISC_ENABLE = 1 << 11 | 1 << 12 | 1 << 23  # BTS and PEBS unavailable, xTPR messages disabled
DE_CFG_LFENCE_SERIALISE = 1 << 1
MACHINE_CHECK_BANKS = 2
POWER = frozenset((K7_FID_VID_CTL, K7_FID_VID_STATUS, *K8_PSTATES))

# What reads the same for everybody, always.
CONSTANTS = {
    **dict.fromkeys((P5_MC_ADDR, P5_MC_TYPE, MCG_CTL, XEN_MSR, *POWER), 0),
    **dict.fromkeys((PATCH_LEVEL, PERF_CAPABILITIES, MISC_FEATURES_ENABLES, PLATFORM_INFO, NB_CFG, K7_HWCR), 0),
    **dict.fromkeys(range(MC0_CTL2, MC0_CTL2 + 32), 0),
    MCG_CAP: MACHINE_CHECK_BANKS,
    EFER: EFER_VALUE,
    PAT: XEN_PAT,
    MISC_ENABLE: GUEST_MISC_ENABLE,
    DE_CFG: DE_CFG_LFENCE_SERIALISE,
}
# What may be written with any value, and keeps its own; and what may be written with the value it has.
UNHEEDED = frozenset((
    P5_MC_ADDR, P5_MC_TYPE, MCG_CTL, MCG_CAP, MPERF, APERF, NB_CFG, DE_CFG, K7_HWCR, MISC_ENABLE,
    *POWER, *range(MC0_CTL2, MC0_CTL2 + 32), *range(MC0_CTL + 4 * MACHINE_CHECK_BANKS, MCX_END),
))  # fmt: skip
WRITTEN_BACK = {EFER: EFER_VALUE, PAT: XEN_PAT}


def canonical(address: int) -> bool:
    """Whether bits 63..47 are all equal."""
    return address >> 47 in (0, 0x1FFFF)


class Msrs:
    """RDMSR and WRMSR for the vCPU that runs on one pCPU."""

    def __init__(self, hypervisor: Services, cpu: Cpu) -> None:
        self.hypervisor = hypervisor
        self.state = cpu.state

    def read(self, vcpu: VCPU, index: int) -> int | None:
        """The value of MSR `index`, or None for #GP."""
        if index == FS:
            return self.state[FS_BASE]
        if index == GS:
            return self.state[GS_BASE]
        if index == SHADOW_GS:
            return vcpu.gs_base_user
        if index in CONSTANTS:
            return CONSTANTS[index]
        if index == TSC:
            return self.hypervisor.timekeeper.tsc(vcpu.domain.timeline)
        if index == APIC_BASE:
            return APIC_ENABLED_AT | (APIC_BASE_BSP if vcpu.vcpu_id == 0 else 0)
        if index == MCG_STATUS:
            return vcpu.mcg_status
        if MC0_CTL <= index < MC0_CTL + 4 * MACHINE_CHECK_BANKS:
            return MASK64 if index % 4 == 0 else 0
        if MC0_CTL <= index < MCX_END:
            return 0
        return None

    def write(self, vcpu: VCPU, index: int, value: int) -> bool:
        """Write MSR `index`; False for #GP."""
        if index in (FS, GS, SHADOW_GS):
            if not canonical(value):
                return False
            if index == FS:
                self.state[FS_BASE] = value
            elif index == GS:
                self.state[GS_BASE] = value
            else:
                vcpu.gs_base_user = value
            return True
        if index == XEN_MSR:
            return self._hypercall_page(vcpu, value)
        if index in WRITTEN_BACK:
            return value == WRITTEN_BACK[index]
        if index == MCG_STATUS:
            vcpu.mcg_status = value
            return True
        if MC0_CTL <= index < MC0_CTL + 4 * MACHINE_CHECK_BANKS:
            return index % 4 == 0 or value == 0  # a bank's control is all ones; the rest may be cleared
        return index in UNHEEDED

    def _hypercall_page(self, vcpu: VCPU, value: int) -> bool:
        """Fill the frame at machine address `value` with stubs; False if the low bits, the page's number, are not 0."""
        if value % PAGE_SIZE:
            return False
        try:
            hypercall_page.initialise(vcpu.domain, value // PAGE_SIZE)
        except HypercallError:
            return False
        return True
