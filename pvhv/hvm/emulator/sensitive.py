# SPDX-License-Identifier: GPL-2.0-or-later
"""The instructions of a deprivileged kernel that a monitor must carry out, and their names in the counts.

Popek and Goldberg call an instruction sensitive if it changes or reveals state that the monitor keeps for itself.
`reason` names every one of them. Whether it also traps outside ring 0 depends on the processor (pvhv/hvm/classify tests
that). A trap-and-emulate monitor sees only those that trap; a translator looks for all of them.

Invariant: an instruction without a reason does the same at ring 1 as at ring 0, or faults as it would there.

Read beside it: system.py, flow.py.
"""

from __future__ import annotations

from typing import Final

from iced_x86 import OpKind, Register

from pvhv.hvm.emulator.decode import Instruction
from pvhv.hvm.emulator.operands import SEGMENTS
from pvhv.hvm.emulator.system import CONTROL, DEBUG

PLAIN: Final = frozenset(
    "cli sti hlt clts lmsw smsw invlpg wbinvd invd wbnoinvd lgdt lidt sgdt sidt lldt ltr sldt str lar lsl verr verw "
    "rdmsr wrmsr swapgs rdtsc rdtscp rdpmc cpuid in out xgetbv xsetbv monitor mwait invpcid invlpga vmrun vmload "
    "vmsave stgi clgi skinit sysexit sysexitq int int3 into".split()
)
# Several mnemonics of one instruction.
ALIKE: Final = {
    "pushfd": "pushf", "pushfq": "pushf", "pushf": "pushf", "popfd": "popf", "popfq": "popf", "popf": "popf",
    "iret": "iret", "iretd": "iret", "iretq": "iret", "sysret": "sysret", "sysretq": "sysret",
    "retf": "ret-far", "retfq": "ret-far",
    "insb": "ins", "insw": "ins", "insd": "ins", "outsb": "outs", "outsw": "outs",
    "lds": "mov-seg", "les": "mov-seg", "lfs": "mov-seg", "lgs": "mov-seg", "lss": "mov-seg",
}  # fmt: skip
_TELLING: Final = frozenset({Register.CS, Register.SS})  # of the others, the selector is as the guest loaded it


def _find(instruction: Instruction) -> str:
    name, of = instruction.name, instruction.iced
    if name in PLAIN:
        return name
    if name in ALIKE:
        return ALIKE[name]
    if name == "outsd":
        return "outs"
    if name == "mov":
        return _move(instruction)
    if name in ("push", "pop") and of.op_kind(0) == OpKind.REGISTER and of.op_register(0) in SEGMENTS:
        if name == "pop":
            return "mov-seg"
        return "mov-seg" if of.op_register(0) in _TELLING else ""
    if of.is_call_far or of.is_call_far_indirect:
        return "call-far"
    if of.is_jmp_far or of.is_jmp_far_indirect:
        return "jmp-far"
    return ""


def _move(instruction: Instruction) -> str:
    of = instruction.iced
    first = of.op_register(0) if of.op_kind(0) == OpKind.REGISTER else Register.NONE
    second = of.op_register(1) if of.op_kind(1) == OpKind.REGISTER else Register.NONE
    if first in CONTROL:
        return f"mov-to-cr{CONTROL[first]}"
    if second in CONTROL:
        return f"mov-from-cr{CONTROL[second]}"
    if first in DEBUG or second in DEBUG:
        return "mov-to-dr" if first in DEBUG else "mov-from-dr"
    if first in SEGMENTS or second in _TELLING:
        return "mov-seg"
    return ""


_reasons: dict[Instruction, str] = {}


def reason(instruction: Instruction) -> str:
    """The name under which it is counted; empty, if the guest can execute it itself."""
    found = _reasons.get(instruction)
    if found is None:
        if len(_reasons) > 1 << 14:
            _reasons.clear()
        found = _reasons[instruction] = _find(instruction)
    return found
