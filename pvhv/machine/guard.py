# SPDX-License-Identifier: GPL-2.0-or-later
"""The second line of defence: detect and stop a paravirtual guest that gained a privilege the engine must not give it.

The guest's kernel and users run at CPL 3 (rings.py), so their privileged instructions fault. If an error in the engine
lets one through, two checks detect it:

  - the privileged instructions are intercepted by the engine's AMD-V. At CPL 3 they fault before the intercept is
    checked, so it costs nothing; at CPL 0 the intercept makes an exit. (RSM and SKINIT are not intercepted: they are
    #UD, and their intercept is checked first.)
  - at every exit, and when a run ends, the pacer compares CPL, CR0, CR3, CR4, EFER and the descriptor-table registers
    with their values at the guest's entry, as no guest may change one of them without an exit. With CPL the flag that
    tells kernel from users is compared. (On the stock engine the kernel is at CPL 1, and may IRET to CPL 3; CPL 0 and 2
    are never allowed.)

Invariant: on a guarded pCPU no handler runs with a state that the guest reached in such a way. The run ends with the
exception Escaped, and the machine's registers are reset.

It does not know what happens to the domain. Read beside it: has_escaped in pacer_exits.h; AMD's manual volume 2, 15.9.
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
    """The guest gained a privilege that the engine must not give it."""


class Guard:
    """The checks of one pCPU."""

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
        """Intercept the privileged instructions; called again after a reset of the machine's registers."""
        state, aux = self._pcpu.state, self._pcpu.aux
        state[cs.INTERCEPT] |= sum(svm.intercept_bit(code) for code in _PRIVILEGED)
        aux[cs.INTERCEPT_CR], aux[cs.INTERCEPT_DR] = 0xFFFF_FFFE, 0xFFFF_FFFF  # anybody may SMSW, which reads CR0

    def _executed(self, name: str) -> None:
        raise Escaped(f"it executed {name} at CPL {self._pcpu.state[cs.HFLAGS] & cs.HF_CPL}")

    def found(self) -> Escaped | None:
        """The escape that the pacer found, or None; the record is cleared."""
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
