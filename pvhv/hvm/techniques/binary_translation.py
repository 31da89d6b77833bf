# SPDX-License-Identifier: GPL-2.0-or-later
"""`binary-translation`: the software virtual machine monitor that made the x86 virtualizable.

The guest is deprivileged as under trap-emulate, but its kernel does not run as it is: translator.py decodes it block by
block, and replaces privileged instructions, and sensitive ones that would not trap, by callouts. So every instruction
shows the kernel the state of its own virtual machine, and there are fewer traps. User code runs directly: at ring 3 it
behaves as on a machine of its own, as long as interrupts are enabled and IOPL is 0. If a kernel enters user mode
otherwise, user code is translated as well from then on.

A callout is work of the monitor inside translated code; it is counted as a callout, not as an exit. Exits remain for
events that cannot be known from the code: page faults, other exceptions, interrupts, system calls from user code, and
stores to the kernel's own code.

The translator is adaptive, as the paper's: if a store of the kernel faults again and again because it hits page tables,
it becomes a callout as well ("trace"), and no longer faults.

Read beside it: monitor.py, translator.py; Adams and Agesen (2006), sections 3 and 4.

Not modelled: going back from an adapted store to a plain one; adapting stores of strings, calls and pushes; the exits
of stores to a page of code that is stored to again and again (npt.py lets these through, and watches them).
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, Final

from pvhv.hvm import names
from pvhv.hvm.cpu.memory import GuestException
from pvhv.hvm.emulator import decode
from pvhv.hvm.emulator.decode import Instruction
from pvhv.hvm.emulator.sensitive import reason
from pvhv.hvm.monitor.deprivileged import REAL_USER, VIRTUAL_FLAGS
from pvhv.hvm.monitor.monitor import SoftwareMonitor
from pvhv.hvm.monitor.translator import Translator
from pvhv.hvm.technique import Carried
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import HFLAGS, IF

FAULTS_BEFORE: Final = 3  # at the same instruction, until it is adapted
MOST_COUNTED: Final = 4096  # instructions whose faults are counted: then they are counted anew
TRACE: Final = "trace"
ADAPTABLE: Final = frozenset(
    "mov movnti xchg add adc sub sbb and or xor inc dec neg not bts btr btc xadd cmpxchg cmpxchg8b cmpxchg16b".split()
)


class BinaryTranslation(SoftwareMonitor):
    """Dynamic binary translation."""

    name: ClassVar[str] = names.BINARY_TRANSLATION
    counted = SoftwareMonitor.counted | {"translated_blocks"}
    answers_cpuid = True

    def __init__(self, guest: Carried) -> None:
        super().__init__(guest)
        self.translator = Translator(self.cpu, self.pcpu, lambda: self.counts.add("translated_blocks"))
        self._faults: Counter[int] = Counter()  # of stores to page tables, by RIP
        self._adapted: set[int] = set()

    def install(self) -> None:
        super().install()
        self.pcpu.on_break = self._break

    def reset(self, entry: int, rbx: int) -> None:
        self.translator.reset()
        super().reset(entry, rbx)

    # -- callouts ------------------------------------------------------------------------------------------------------
    def _break(self) -> None:
        """Called between two instructions: a block that lacks callouts was translated, or RIP is at a callout."""
        if self.translator.refresh():
            return
        rip = self.cpu.rip
        try:
            instruction = decode.fetch(self.cpu)
        except GuestException:
            self.pcpu.pass_once()  # it will say so itself
            return
        what = reason(instruction) or (TRACE if rip in self._adapted and instruction.name in ADAPTABLE else "")
        if not what:
            self.pcpu.pass_once()  # the code has changed
            return
        if not self.time_for_the_cpu(what):
            self.counts.callout(what, str(instruction))  # which was decoded at translation: nothing is interpreted
        self.emulate(instruction)

    def traced_store(self, instruction: Instruction) -> None:
        rip = self.cpu.rip
        if self.cpu.cpl == 3 or rip in self._adapted or instruction.name not in ADAPTABLE:
            return
        if len(self._faults) >= MOST_COUNTED:
            self._faults.clear()
        self._faults[rip] += 1
        if self._faults[rip] >= FAULTS_BEFORE:
            self._adapted.add(rip)
            del self._faults[rip]
            self.translator.add(rip)

    def carry_out(self, instruction: Instruction) -> None:
        super().carry_out(instruction)
        if self.translator.users or self.state[HFLAGS] & cs.HF_CPL != REAL_USER:
            return
        if self.cpu.rflags & VIRTUAL_FLAGS != IF:
            self.translator.translate_users(self.nested.guarded())

    # -- code that changes ---------------------------------------------------------------------------------------------
    def code_written(self, address: int) -> None:
        if self.translator.written(address >> 12):
            self.left("code-write")
        else:
            super().code_written(address)
