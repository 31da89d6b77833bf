# SPDX-License-Identifier: GPL-2.0-or-later
"""The second line: a paravirtual guest that got where the engine should never let it get is found, and stopped.

Its kernel and its users run at CPL 3 (rings.py), so no privileged instruction of theirs runs. Should the engine let one
through all the same, two things see it:

  - the privileged instructions are intercepted by the engine's AMD-V. At CPL 3 they fault before that is looked at,
    so it costs nothing; at CPL 0 they leave the guest. (Not RSM and SKINIT: these are #UD, but looked at first.)
  - at every exit, and when a run ends, the pacer compares CPL, CR0, CR3, CR4, EFER and the descriptor-table registers
    with what they were when the guest was entered: no guest changes one of them without an exit. With
    CPL goes the flag that tells its kernel from its users. (On the stock engine the kernel is at CPL 1, and may IRET to
    CPL 3; 0 and 2 are nobody's.)

Invariant: of a guarded pCPU, no handler sees a state that the guest came to in such a way. The run ends with Escaped,
the machine's registers are put right, and whoever ran the guest knows why.

It does not know what becomes of the domain. Read beside it: has_escaped in pacer_exits.h; AMD's manual volume 2, 15.9.
"""

from __future__ import annotations

from typing import Final

from pvhv.machine import cpustate as cs
from pvhv.machine import pacer as pace
from pvhv.machine import svm
from pvhv.machine.exits import Exits

# In the order of the bits in words[ESCAPED].
_CHANGED: Final = ("CPL", "CR0", "CR3", "CR4", "EFER", "GDTR", "LDTR", "IDTR", "TR")

_PRIVILEGED: Final = {
    svm.VMEXIT_IDTR_WRITE: "LIDT",
    svm.VMEXIT_GDTR_WRITE: "LGDT",
    svm.VMEXIT_LDTR_WRITE: "LLDT",
    svm.VMEXIT_TR_WRITE: "LTR",
    svm.VMEXIT_INVD: "INVD",
    svm.VMEXIT_HLT: "HLT",
    svm.VMEXIT_INVLPG: "INVLPG",
    svm.VMEXIT_INVLPGA: "INVLPGA",
    svm.VMEXIT_MSR: "RDMSR or WRMSR",
    svm.VMEXIT_SHUTDOWN: "a shutdown",
    svm.VMEXIT_VMRUN: "VMRUN",
    svm.VMEXIT_VMLOAD: "VMLOAD",
    svm.VMEXIT_VMSAVE: "VMSAVE",
    svm.VMEXIT_STGI: "STGI",
    svm.VMEXIT_CLGI: "CLGI",
    svm.VMEXIT_WBINVD: "WBINVD",
}


class Escaped(RuntimeError):
    """The guest was found where the engine should never have let it get."""


class Guard:
    """The second line of one pCPU."""

    def __init__(self, pcpu: Exits) -> None:
        self._pcpu = pcpu
        names = dict(_PRIVILEGED)
        for n in range(16):
            names[svm.VMEXIT_CR0_READ + n] = names[svm.VMEXIT_CR0_WRITE + n] = f"MOV CR{n}"
            names[svm.VMEXIT_DR0_READ + n] = names[svm.VMEXIT_DR0_WRITE + n] = f"MOV DR{n}"
        for code, name in names.items():
            pcpu.on_exit(code, lambda name=name: self._executed(name))  # type: ignore[misc]
        pcpu.msr_permissions[:] = b"\xff" * len(pcpu.msr_permissions)
        pcpu._words[pace.GUARDED] = 1
        self.intercept()

    def intercept(self) -> None:
        """Have the privileged instructions leave the guest: again after the machine's registers were reset."""
        state, aux = self._pcpu.state, self._pcpu.aux
        state[cs.INTERCEPT] |= sum(svm.intercept_bit(code) for code in _PRIVILEGED)
        aux[cs.INTERCEPT_CR], aux[cs.INTERCEPT_DR] = 0xFFFF_FFFE, 0xFFFF_FFFF  # anybody may SMSW, which reads CR0

    def _executed(self, name: str) -> None:
        raise Escaped(f"it executed {name} at CPL {self._pcpu.state[cs.HFLAGS] & cs.HF_CPL}")

    def found(self) -> Escaped | None:
        """What the pacer found, if anything: once."""
        words = self._pcpu._words
        changed = words[pace.ESCAPED]
        if not changed:
            return None
        words[pace.ESCAPED] = 0
        names = ", ".join(name for n, name in enumerate(_CHANGED) if changed >> n & 1)
        now, before = _ring(self._pcpu.state[cs.HFLAGS]), _ring(words[pace.ENTERED_MODE])
        return Escaped(f"it changed {names} without leaving guest code ({now}, entered at {before})")


def _ring(hflags: int) -> str:
    return f"CPL {hflags & cs.HF_CPL}" + (" as the kernel" if hflags & cs.HF_PV_KERNEL else "")
