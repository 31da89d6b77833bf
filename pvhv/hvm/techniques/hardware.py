# SPDX-License-Identifier: GPL-2.0-or-later
"""The exits that both generations of AMD-V share: I/O, HLT, CPUID, MSRs that are not passed through, physical and
virtual interrupts. Exits are named by AMD's #VMEXIT codes.

The engine raises these exits by the real intercept bits, all but two: I/O, which it does not intercept (the permission
bitmap is checked here, as the processor would), and interrupts, which it does not implement.

Read beside it: AMD's manual volume 2, 15.9 to 15.11 (intercepts), 15.21 (virtual interrupts); Linux'
arch/x86/kvm/svm/svm.c (init_vmcb) for what is usually intercepted and which MSRs pass through.
"""

from __future__ import annotations

from pvhv.hvm.technique import Carried
from pvhv.hvm.techniques.native import NativeTechnique
from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import RCX
from pvhv.machine.x86 import IO_PORTS, MASK32


class HardwareAssisted(NativeTechnique):
    """AMD-V. `io_permissions`: a bit for each port, and the three a wide access at the last may reach: does it exit?"""

    def __init__(self, guest: Carried) -> None:
        super().__init__(guest)
        self.io_permissions = bytearray(b"\xff" * (IO_PORTS // 8 + 1))

    def install(self) -> None:
        super().install()
        pcpu, state = self.pcpu, self.state
        state[cs.INTERCEPT] |= svm.intercept_bit(svm.VMEXIT_CPUID)
        pcpu.on_exit(svm.VMEXIT_CPUID, self._cpuid)
        pcpu.on_exit(svm.VMEXIT_MSR, self.guarded(self._msr_exit))

    # -- exits ---------------------------------------------------------------------------------------------------------
    def _cpuid(self) -> None:
        self.counts.exit("CPUID", f"leaf {self.state[cs.RAX] & MASK32:#x}")
        self.answer_cpuid()
        self.skip(2)

    def _msr_exit(self) -> None:
        write = self.pcpu.aux[cs.ERROR_CODE] & 1
        self.counts.exit("MSR", f"{'wrmsr' if write else 'rdmsr'} {self.state[RCX] & MASK32:#x}")
        self.access_msr()

    def io_exit(self, port: int, size: int, write: bool, value: int) -> None:
        at = port >> 3
        permissions = int.from_bytes(self.io_permissions[at : at + 2], "little") >> (port & 7)
        detail = f"{'out' if write else 'in'} {port:#x}"
        if permissions & (1 << size) - 1:
            self.counts.exit("IOIO", detail)
        else:
            self.counts.assist("io", detail)

    def hlt_exit(self) -> None:
        self.counts.exit("HLT")

    def interrupted(self) -> None:
        self.counts.exit("INTR")

    def window_opened(self) -> None:
        self.counts.exit("VINTR")
