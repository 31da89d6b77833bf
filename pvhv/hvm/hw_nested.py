# SPDX-License-Identifier: GPL-2.0-or-later
"""`hw-nested`: hardware assistance with nested paging, on the engine's own AMD-V.

The guest keeps its page tables, its control registers and its exceptions to itself. It leaves for the monitor only
where an intercept says so: I/O, HLT, CPUID, MSRs that are not passed through, physical and virtual interrupts, and
guest-physical pages that the nested tables do not have yet. Exits are named by AMD's #VMEXIT codes.

Read beside it: AMD's manual volume 2, 15.9 to 15.11 (intercepts), 15.21 (virtual interrupts), 15.25 (nested paging);
Linux' arch/x86/kvm/svm/svm.c (init_vmcb) for what is usually intercepted and which MSRs pass through.
"""

from __future__ import annotations

from typing import ClassVar

from pvhv.hvm.guestcpu import (
    MSR_CSTAR,
    MSR_FS_BASE,
    MSR_GS_BASE,
    MSR_KERNEL_GS_BASE,
    MSR_LSTAR,
    MSR_SFMASK,
    MSR_STAR,
)
from pvhv.hvm.native import MASK32, NativeTechnique
from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import RCX

PASSED_THROUGH = (MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE)
SYSENTER_MSRS = (0x174, 0x175, 0x176)


class HwNested(NativeTechnique):
    """AMD-V with NPT."""

    name: ClassVar[str] = "hw-nested"

    def install(self) -> None:
        super().install()
        pcpu, state = self.pcpu, self.state
        state[cs.INTERCEPT] |= svm.intercept_bit(svm.VMEXIT_CPUID)
        pcpu.on_exit(svm.VMEXIT_CPUID, self._cpuid)
        pcpu.on_exit(svm.VMEXIT_MSR, self.guarded(self._msr_exit))
        pcpu.msr_permissions[:] = b"\xff" * len(pcpu.msr_permissions)
        for number in (*PASSED_THROUGH, *SYSENTER_MSRS):
            self.intercept_msr(number, False)

    # -- exits ---------------------------------------------------------------------------------------------------------
    def _cpuid(self) -> None:
        self.counts.exit("CPUID", f"leaf {self.state[cs.RAX] & MASK32:#x}")
        self.answer_cpuid()
        self.skip(2)

    def _msr_exit(self) -> None:
        write = self.pcpu.aux[cs.ERROR_CODE] & 1
        self.counts.exit("MSR", f"{'wrmsr' if write else 'rdmsr'} {self.state[RCX] & MASK32:#x}")
        self.access_msr()

    def first_touch(self, gpa: int) -> None:
        self.counts.exit("NPF", f"{gpa:#x}")
        self.counts.add("nested_fills")

    def io_exit(self, port: int, size: int, write: bool, value: int) -> None:
        self.counts.exit("IOIO", f"{'out' if write else 'in'} {port:#x}")

    def hlt_exit(self) -> None:
        self.counts.exit("HLT")

    def interrupted(self) -> None:
        self.counts.exit("INTR")

    def window_opened(self) -> None:
        self.counts.exit("VINTR")
