# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of the architecture that the engine does not implement: delivery through the guest's IDT, SYSCALL, and I/O
privilege.

The engine reports every exception and every `syscall` to pvhv and never reads the guest's IDT, and it has no external
interrupts. So these are done here *for the CPU*, step by step as in the manual, on the registers as the guest sees them
(GuestCpu). None of it is an exit of a technique; the caller counts it as an assist.

Invariant: a delivery that faults has changed nothing; the fault takes its place, by the rules of double faults.

Read beside it: AMD's manual volume 2, 8.2.9 (#DF), 8.9 (long-mode interrupt control transfers), 12.2.5 (TSS); volume 3,
SYSCALL; volume 1, 3.8 (I/O protection).

Not modelled: delivery outside long mode (a kernel that faults earlier and has no IDT yet: triple fault; one that has an
IDT: the domain crashes with a message), SYSCALL outside long mode (#UD), shadow stacks, debug exceptions by DR7.
"""

from __future__ import annotations

from pvhv.core.errors import DomainCrash
from pvhv.hvm.cpu.guestcpu import (
    FLAG_LONG,
    FLAG_PRESENT,
    FLAT_LIMIT,
    MSR_CSTAR,
    MSR_LSTAR,
    MSR_SFMASK,
    MSR_STAR,
    SYSTEM_FLAG,
    TYPE_CODE,
    GuestCpu,
    Segment,
    unpack_descriptor,
)
from pvhv.hvm.cpu.memory import GeneralProtection, GuestException, InvalidOpcode, PageFault
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import IF, IOPL, NT, RF, RSP, TF, VM
from pvhv.machine.svm import BP, DB, DE, DF, GP, NP, OF, PF, SS, TS
from pvhv.machine.x86 import CONFORMING, EFER_SCE, FLAT_CODE64, FLAT_DATA, HAS_ERROR_CODE, LOWER_END, MASK64

CONTRIBUTORY = frozenset({DE, TS, NP, SS, GP})
TRAPS = frozenset({DB, BP, OF})  # their frames do not show RF

INTERRUPT_GATE, TRAP_GATE = 14, 15
EXTERNAL, FROM_IDT = 1, 2
TSS_RSP0, TSS_IST1, TSS_IOMAP = 4, 36, 102


class TripleFault(DomainCrash):
    """A double fault could not be delivered: the processor shuts down."""

    def __init__(self) -> None:
        super().__init__("triple fault")


def raise_exception(cpu: GuestCpu, exception: GuestException) -> None:
    """Deliver an exception, or the double fault if its delivery faults. Raises TripleFault."""
    while True:
        if isinstance(exception, PageFault):
            cpu.cr2 = exception.va
        try:
            code = exception.code
            if code is None and exception.vector in HAS_ERROR_CODE:
                code = 0
            deliver(cpu, exception.vector, code)
            return
        except GuestException as second:
            exception = _after(exception, second)


def _after(first: GuestException, second: GuestException) -> GuestException:
    if first.vector == DF:
        raise TripleFault
    if first.vector == PF and (second.vector == PF or second.vector in CONTRIBUTORY):
        return GuestException(DF, 0)
    if first.vector in CONTRIBUTORY and second.vector in CONTRIBUTORY:
        return GuestException(DF, 0)
    return second


def deliver(
    cpu: GuestCpu, vector: int, code: int | None = None, *, software: bool = False, hardware: bool = False
) -> None:
    """Deliver a vector through the guest's IDT: `software` for INT n (RIP behind it), `hardware` for an interrupt.
    Raises GuestException if a descriptor or the stack is invalid; then nothing has changed."""
    if not cpu.long_mode:
        if vector * 8 + 7 > cpu.idtr.limit:
            raise TripleFault
        raise DomainCrash(f"vector {vector} came outside long mode, where nothing is delivered here")
    external = 0 if software else EXTERNAL
    selector_of_gate = vector << 3 | FROM_IDT
    base, limit = cpu.idtr
    if vector * 16 + 15 > limit:
        raise GeneralProtection(selector_of_gate | external)
    memory = cpu.memory
    gate = int.from_bytes(memory.read(base + vector * 16, 16), "little")
    kind, dpl, present = gate >> 40 & 31, gate >> 45 & 3, gate >> 47 & 1
    if kind not in (INTERRUPT_GATE, TRAP_GATE) or (software and dpl < cpu.cpl):
        raise GeneralProtection(selector_of_gate | external)
    if not present:
        raise GuestException(NP, selector_of_gate | external)
    target = gate & 0xFFFF | gate >> 32 & 0xFFFF_0000 | gate >> 32 & 0xFFFF_FFFF_0000_0000
    code_segment, level = _gate_target(cpu, gate >> 16 & 0xFFFF, external)
    if (target + LOWER_END & MASK64) >> 48:
        raise GeneralProtection(external)
    old_stack, rflags = cpu.segment(cs.SS), cpu.rflags
    ist = gate >> 32 & 7
    if ist:
        top = _tss_word(cpu, TSS_IST1 + (ist - 1) * 8)
    elif level < cpu.cpl:
        top = _tss_word(cpu, TSS_RSP0 + level * 8)
    else:
        top = cpu.state[RSP]
    top &= ~15
    shown = rflags if software or hardware or vector in TRAPS else rflags | RF
    frame = [cpu.rip, cpu.segment(cs.CS).selector, shown, cpu.state[RSP], old_stack.selector]
    if code is not None:
        frame.insert(0, code)
    top = top - 8 * len(frame) & MASK64
    try:
        memory.write(top, b"".join(value.to_bytes(8, "little") for value in frame))
    except GeneralProtection:  # not canonical
        raise GuestException(SS, external) from None
    if level < cpu.cpl:
        cpu.set_segment(cs.SS, Segment(level, 0, FLAT_LIMIT, FLAT_DATA))
    cpu.set_segment(cs.CS, code_segment)
    cpu.rip = target
    cpu.state[RSP] = top
    cleared = TF | NT | RF | VM | (IF if kind == INTERRUPT_GATE else 0)
    cpu.rflags = rflags & ~cleared


def _gate_target(cpu: GuestCpu, selector: int, external: int) -> tuple[Segment, int]:
    """The code segment a gate names, its selector with the new CPL in it; and that level."""
    if not selector & ~3:
        raise GeneralProtection(external)
    try:
        descriptor = cpu.descriptor(selector)
    except GeneralProtection:
        raise GeneralProtection(selector & ~3 | external) from None
    segment = unpack_descriptor(selector, descriptor)
    flags = segment.flags
    if not flags & SYSTEM_FLAG or not flags & TYPE_CODE or segment.dpl > cpu.cpl or not flags & FLAG_LONG:
        raise GeneralProtection(selector & ~3 | external)
    if not flags & FLAG_PRESENT:
        raise GuestException(NP, selector & ~3 | external)
    level = cpu.cpl if flags & CONFORMING else segment.dpl
    return segment._replace(selector=selector & ~3 | level, base=0, limit=FLAT_LIMIT), level


def _tss_word(cpu: GuestCpu, offset: int) -> int:
    task = cpu.segment(cs.TR)
    if offset + 7 > task.limit:
        raise GuestException(TS, task.selector & ~3)
    return cpu.memory.word(task.base + offset)


def syscall(cpu: GuestCpu) -> None:
    """The rest of SYSCALL: RCX, R11 and RIP are set already (PCPU.on_syscall). Raises InvalidOpcode."""
    if not cpu.efer & EFER_SCE or not cpu.long_mode:
        raise InvalidOpcode
    star = cpu.read_msr(MSR_STAR)
    from_64 = cpu.segment(cs.CS).flags & FLAG_LONG
    selector = star >> 32 & 0xFFFC
    mask = cpu.read_msr(MSR_SFMASK)
    cpu.set_segment(cs.CS, Segment(selector, 0, FLAT_LIMIT, FLAT_CODE64))
    cpu.set_segment(cs.SS, Segment(selector + 8, 0, FLAT_LIMIT, FLAT_DATA))
    cpu.rip = cpu.read_msr(MSR_LSTAR if from_64 else MSR_CSTAR)
    cpu.rflags &= ~(mask | RF)


def may_do_io(cpu: GuestCpu, port: int, size: int) -> bool:
    """Whether IOPL, or else the permission bitmap of the TSS, permits IN or OUT. Raises PageFault."""
    if cpu.cpl <= (cpu.rflags & IOPL) >> 12:
        return True
    task = cpu.segment(cs.TR)
    if not task.flags & FLAG_PRESENT or task.limit < TSS_IOMAP + 1:
        return False
    at = int.from_bytes(cpu.memory.read(task.base + TSS_IOMAP, 2), "little") + port // 8
    if at + 1 > task.limit:
        return False
    bits = int.from_bytes(cpu.memory.read(task.base + at, 2), "little")
    return not bits >> port % 8 & (1 << size) - 1
