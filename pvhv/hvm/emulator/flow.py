# SPDX-License-Identifier: GPL-2.0-or-later
"""Transfers that change the code segment, interrupts by instruction, and loads of segment registers.

Read beside it: emulate.py, descriptors.py; AMD's manual volume 3, IRET, SYSRET, CALL/JMP/RET (Far), INT; volume 2, 4.7
and 8.9.

Not modelled: call gates, task switches, IRET to virtual-8086 mode.
"""

from __future__ import annotations

from pvhv.core.mm.stores import ones
from pvhv.hvm.cpu import descriptors
from pvhv.hvm.cpu.guestcpu import FLAG_LONG, FLAT_LIMIT, MSR_EFER, MSR_STAR, Segment
from pvhv.hvm.cpu.memory import GeneralProtection, InvalidOpcode
from pvhv.hvm.emulator.context import Context, handles
from pvhv.hvm.emulator.operands import SEGMENTS, canonical
from pvhv.hvm.emulator.system import CONTROL, DEBUG, loaded_flags, move_control, move_debug, privileged
from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import NT, RCX, RF, RSP, VM
from pvhv.machine.x86 import EFER_SCE, FLAT_USER_CODE32, FLAT_USER_CODE64, FLAT_USER_DATA, MASK32

R11 = cs.R11


def _far_target(context: Context, segment: Segment, offset: int) -> int:
    """The RIP to go to in a code segment. Raises GeneralProtection."""
    if context.cpu.long_mode and segment.flags & FLAG_LONG:
        if not canonical(offset):
            raise GeneralProtection
        return offset
    offset &= MASK32
    if offset > segment.limit:
        raise GeneralProtection
    return offset


# -- returns -----------------------------------------------------------------------------------------------------------
def _return(context: Context, segment: Segment, rip: int, stack: tuple[int, int] | None, release: int) -> None:
    """Return to `segment`:`rip`. `stack` is (RSP, SS), for an outer ring and always for IRET in 64-bit code."""
    cpu, state = context.cpu, context.state
    level = segment.selector & 3
    rip = _far_target(context, segment, rip)
    outer = level > cpu.cpl
    if stack is None:
        cpu.set_segment(cs.CS, descriptors.mark_accessed(cpu, segment.selector, segment))
        context.move_stack(release)
    else:
        wide = bool(cpu.long_mode and segment.flags & FLAG_LONG)
        new_stack = descriptors.stack_segment(cpu, stack[1], level, wide=wide)
        segment = descriptors.mark_accessed(cpu, segment.selector, segment)
        cpu.set_segment(cs.SS, new_stack)
        cpu.set_segment(cs.CS, segment)
        state[RSP] = stack[0]
        if outer:
            descriptors.leave_data_segments(cpu, level)
    state[cs.RIP] = rip


@handles("iret", "iretd", "iretq")
def _iret(context: Context) -> bool:
    cpu = context.cpu
    size = {"iret": 2, "iretd": 4, "iretq": 8}[context.instruction.name]
    if cpu.rflags & NT:
        raise GeneralProtection
    rip, selector, flags = (context.peek(n * size, size) for n in range(3))
    selector &= 0xFFFF
    segment = descriptors.return_target(cpu, selector)
    stack = None
    if context.bits == 64 or selector & 3 > cpu.cpl:
        stack = context.peek(3 * size, size), context.peek(4 * size, size) & 0xFFFF
    before, cpl = cpu.rflags, cpu.cpl
    _return(context, segment._replace(selector=selector), rip, stack, 3 * size)
    after = loaded_flags(before, flags, cpl, size)
    if size >= 4:
        after = after & ~RF | flags & RF
    cpu.rflags = after & ~VM
    return True


@handles("retf", "retfq")
def _retf(context: Context) -> bool:
    extra = context.read(0) & 0xFFFF if context.iced.op_count else 0
    size = (context.iced.stack_pointer_increment - extra) // 2
    rip, selector = context.peek(0, size), context.peek(size, size) & 0xFFFF
    segment = descriptors.return_target(context.cpu, selector)._replace(selector=selector)
    stack, release = None, 2 * size + extra
    if selector & 3 > context.cpu.cpl:
        stack = context.peek(release, size), context.peek(release + size, size) & 0xFFFF
        stack = stack[0] + extra, stack[1]
    _return(context, segment, rip, stack, release)
    return True


@handles("sysret", "sysretq")
def _sysret(context: Context) -> bool:
    cpu, state = context.cpu, context.state
    if not cpu.read_msr(MSR_EFER) & EFER_SCE:
        raise InvalidOpcode
    privileged(context)
    base = cpu.read_msr(MSR_STAR) >> 48
    to_64 = context.instruction.name == "sysretq"
    selector = (base + 16 if to_64 else base) & 0xFFFC | 3
    flags = state[R11]
    rip = state[RCX] if to_64 else state[RCX] & MASK32
    cpu.set_segment(cs.SS, Segment(base + 8 & 0xFFFC | 3, 0, FLAT_LIMIT, FLAT_USER_DATA))
    cpu.set_segment(cs.CS, Segment(selector, 0, FLAT_LIMIT, FLAT_USER_CODE64 if to_64 else FLAT_USER_CODE32))
    cpu.rflags = flags & ~(RF | VM)
    state[cs.RIP] = rip
    return True


# -- far calls and jumps -----------------------------------------------------------------------------------------------
def _far_operand(context: Context) -> tuple[int, int, int]:
    """The operand of a far transfer: (operand size, selector, offset)."""
    of = context.iced
    if context.is_memory(0):
        size = context.size(0) - 2
        address = context.address(size + 2)
        return size, context.load(address + size, 2), context.load(address, size)
    size = 2 if of.op_kind(0) == 4 else 4  # FAR_BRANCH16, FAR_BRANCH32
    return size, of.far_branch_selector, of.far_branch16 if size == 2 else of.far_branch32


def far_jump(context: Context) -> bool:
    _size, selector, offset = _far_operand(context)
    segment = descriptors.jump_target(context.cpu, selector)
    rip = _far_target(context, segment, offset)
    context.cpu.set_segment(cs.CS, segment)
    context.state[cs.RIP] = rip
    return True


def far_call(context: Context) -> bool:
    size, selector, offset = _far_operand(context)
    segment = descriptors.jump_target(context.cpu, selector)
    rip = _far_target(context, segment, offset)
    frame = context.next_rip() & ones(size) | context.cpu.segment(cs.CS).selector << 8 * size
    context.push(frame, 2 * size)
    context.cpu.set_segment(cs.CS, segment)
    context.state[cs.RIP] = rip
    return True


# -- interrupts by instruction -----------------------------------------------------------------------------------------
@handles("int", "int3", "into")
def _int(context: Context) -> bool | None:
    name = context.instruction.name
    if name == "into" and not context.cpu.rflags & cs.OF:
        return None
    vector = {"int3": svm.BP, "into": svm.OF}.get(name)
    context.monitor.software_interrupt(
        int(context.iced.immediate8) if vector is None else vector, context.length
    )
    return True


# -- segment registers -------------------------------------------------------------------------------------------------
def load_segment(context: Context, register: int, selector: int) -> None:
    if register == cs.CS:
        raise InvalidOpcode
    if register == cs.SS:
        descriptors.load_stack(context.cpu, selector, wide=context.bits == 64)
        context.shadow = True
    else:
        descriptors.load_data(context.cpu, register, selector)


def move_segment(context: Context) -> None:
    """MOV to or from a segment register."""
    of = context.iced
    if not context.is_memory(0) and of.op_register(0) in SEGMENTS:
        load_segment(context, SEGMENTS[of.op_register(0)], context.read(1, 2) & 0xFFFF)
        return
    context.write(0, context.cpu.segment(SEGMENTS[of.op_register(1)]).selector, 2 if context.is_memory(0) else None)


def push_segment(context: Context) -> None:
    size = abs(context.iced.stack_pointer_increment)
    context.push(context.cpu.segment(SEGMENTS[context.iced.op_register(0)]).selector, size)


def pop_segment(context: Context) -> None:
    size = context.iced.stack_pointer_increment
    load_segment(context, SEGMENTS[context.iced.op_register(0)], context.peek(0, size) & 0xFFFF)
    context.move_stack(size)


@handles("lds", "les", "lfs", "lgs", "lss")
def _load_far_pointer(context: Context) -> None:
    size = context.size(0)
    address = context.address(size + 2)
    offset, selector = context.load(address, size), context.load(address + size, 2)
    registers = {"lds": cs.DS, "les": cs.ES, "lfs": cs.FS, "lgs": cs.GS, "lss": cs.SS}
    load_segment(context, registers[context.instruction.name], selector)
    context.shadow = False
    context.write(0, offset)


def special_move(context: Context) -> bool:
    """A MOV of control, debug or segment registers; False if it is another MOV."""
    of = context.iced
    for n in (0, 1):
        if of.op_kind(n) == 0:
            register = of.op_register(n)
            if register in CONTROL:
                move_control(context)
            elif register in DEBUG:
                move_debug(context)
            elif register in SEGMENTS:
                move_segment(context)
            else:
                continue
            return True
    return False
