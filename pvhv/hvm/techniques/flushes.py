# SPDX-License-Identifier: GPL-2.0-or-later
"""Counting the TLB flushes by the guest's own MOV CR3 and INVLPG, where these make no exit.

The engine executes both by itself, unseen. On the virtual clock, where runs are measured, they are intercepted and done
here for the CPU: assists, not exits. (On the wall clock the engine executes them, which is faster.)

Not modelled: flushes by other means (CR0.PG, CR4.PGE); they are a kernel's first steps.
"""

from __future__ import annotations

import iced_x86 as iced

from pvhv.hvm.emulator import decode
from pvhv.hvm.techniques.native import NativeTechnique
from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.x86 import MASK32

WRITE_CR3 = svm.VMEXIT_CR0_WRITE + 3


class FlushesCounted(NativeTechnique):
    """A technique under which the guest flushes its TLB itself."""

    counted = NativeTechnique.counted | {"tlb_flushes", "tlb_page_flushes"}

    def install(self) -> None:
        super().install()
        if self.pcpu.virtual:
            self.pcpu.aux[cs.INTERCEPT_CR] |= 1 << WRITE_CR3
            self.pcpu.on_exit(WRITE_CR3, self.guarded(self._write_cr3))
            self.state[cs.INTERCEPT] |= svm.intercept_bit(svm.VMEXIT_INVLPG)
            self.pcpu.on_exit(svm.VMEXIT_INVLPG, self.guarded(self._invlpg))

    def _write_cr3(self) -> None:
        instruction = decode.fetch(self.cpu)
        self.counts.assist("tlb-flush", "mov cr3")
        self.counts.add("tlb_flushes")
        if instruction.bitness == 64:
            self.cpu.cr3 = self.state[instruction.iced.op1_register - iced.Register.RAX]
        else:
            self.cpu.cr3 = self.state[instruction.iced.op1_register - iced.Register.EAX] & MASK32
        self.skip(instruction.length)

    def _invlpg(self) -> None:
        instruction = decode.fetch(self.cpu)
        self.counts.assist("tlb-flush", "invlpg")
        self.counts.add("tlb_page_flushes")
        self.pcpu.flush_tlb()
        self.skip(instruction.length)
