# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions that read and write memory, for pages that the guest cannot access itself.

Most are stores to traced page tables. core/mm/stores.py computes the result and the flags of an operation.

Read beside it: emulate.py, core/mm/stores.py; AMD's manual volumes 1 and 3.

Not modelled: shifts and rotates of memory, multiplications and divisions by it, x87, FXSAVE, conversions; the atomicity
of locked operations (there is one CPU).
"""

from __future__ import annotations

from typing import Final

from iced_x86 import OpKind

from pvhv.core.mm.stores import OPERATIONS, judged, ones, subtract
from pvhv.hvm.cpu.memory import GeneralProtection
from pvhv.hvm.emulator.context import Context, handles
from pvhv.hvm.emulator.flow import far_call, far_jump, pop_segment, push_segment, special_move
from pvhv.hvm.emulator.io import advance, count_down
from pvhv.hvm.emulator.operands import GENERAL, SEGMENTS, canonical
from pvhv.hvm.emulator.vector import move_vector
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import CF, DF, RAX, RBX, RCX, RDX, RSP, ZF

FAR_KINDS: Final = (OpKind.FAR_BRANCH16, OpKind.FAR_BRANCH32)
NEAR_KINDS: Final = (OpKind.NEAR_BRANCH16, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH64)
ITERATIONS: Final = 1 << 16
PAGE_OFFSET: Final = 0xFFF
CONDITIONS: Final = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")


# -- moves -------------------------------------------------------------------------------------------------------------
@handles("mov", "movnti")
def _mov(context: Context) -> None:
    if not special_move(context):
        context.write(0, context.read(1))


@handles("movzx")
def _movzx(context: Context) -> None:
    context.write(0, context.read(1))


@handles("movsx", "movsxd")
def _movsx(context: Context) -> None:
    size = context.size(1)
    value = context.read(1)
    context.write(0, value - (1 << 8 * size) if value >> 8 * size - 1 else value)


@handles("xchg")
def _xchg(context: Context) -> None:
    first, second = context.read(0), context.read(1)
    if context.is_memory(1):
        context.write(1, first)
        context.write(0, second)
    else:
        context.write(0, second)
        context.write(1, first)


# -- read, compute, write ----------------------------------------------------------------------------------------------
@handles("add", "adc", "sub", "sbb", "and", "or", "xor", "inc", "dec", "neg", "not")
def _compute(context: Context) -> None:
    size = context.size(0)
    source = context.read(1) if context.iced.op_count > 1 else 0
    result, flags = OPERATIONS[context.instruction.name](context.read(0), source, 8 * size, context.cpu.rflags)
    context.write(0, result)
    context.cpu.rflags = flags


@handles("cmp", "test")
def _compare(context: Context) -> None:
    size, old, source = context.size(0), context.read(0), context.read(1)
    if context.instruction.name == "cmp":
        context.cpu.rflags = subtract(old, source, 8 * size, context.cpu.rflags)[1]
    else:
        context.cpu.rflags = judged(old & source, 8 * size, context.cpu.rflags)


@handles("bt", "bts", "btr", "btc")
def _bit(context: Context) -> None:
    size, source, name = context.size(0), context.read(1), context.instruction.name
    if context.iced.op_kind(1) == OpKind.REGISTER and context.is_memory(0):
        # The bit may be anywhere: so many operands before or behind the one that is addressed.
        signed = source - (1 << 8 * size) if source >> 8 * size - 1 else source
        offset = context.offset() + signed // (8 * size) * size & (1 << 64) - 1
        address = context.linear(SEGMENTS[context.iced.memory_segment], offset, size)
        old = context.load(address, size)
    else:
        address, old = -1, context.read(0)
    if name == "bt":
        context.cpu.rflags = context.cpu.rflags & ~CF | old >> (source & 8 * size - 1) & 1
        return
    result, flags = OPERATIONS[name](old, source, 8 * size, context.cpu.rflags)
    if address < 0:
        context.write(0, result)
    else:
        context.store(address, size, result)
    context.cpu.rflags = flags


@handles("xadd")
def _xadd(context: Context) -> None:
    size, old, source = context.size(0), context.read(0), context.read(1)
    result, flags = OPERATIONS["xadd"](old, source, 8 * size, context.cpu.rflags)
    if context.is_memory(0):
        context.write(0, result)
        context.write(1, old)
    else:
        context.write(1, old)
        context.write(0, result)
    context.cpu.rflags = flags


@handles("cmpxchg")
def _cmpxchg(context: Context) -> None:
    size, old, source = context.size(0), context.read(0), context.read(1)
    expected = context.state[RAX] & ones(size)
    flags = subtract(expected, old, 8 * size, context.cpu.rflags)[1]
    context.write(0, source if old == expected else old)
    if old != expected:
        number = next(register for register, where in GENERAL.items() if where == (RAX, 0, size))
        context.set_register(number, old)
    context.cpu.rflags = flags


@handles("cmpxchg8b", "cmpxchg16b")
def _compare_pair(context: Context) -> None:
    state = context.state
    size = 8 if context.instruction.name == "cmpxchg8b" else 16
    half, mask = 4 * size, ones(size // 2)
    address = context.address(size)
    if size == 16 and address & 15:
        raise GeneralProtection
    old = context.load(address, size)
    if old == (state[RAX] & mask | (state[RDX] & mask) << half):
        context.store(address, size, state[RBX] & mask | (state[RCX] & mask) << half)
        context.cpu.rflags |= ZF
    else:
        context.store(address, size, old)
        state[RAX], state[RDX] = old & mask, old >> half
        context.cpu.rflags &= ~ZF


def condition(number: int, flags: int) -> bool:
    """Whether one of the sixteen conditions holds for these flags."""
    carry, zero, sign = bool(flags & CF), bool(flags & ZF), bool(flags & cs.SF)
    over, parity = bool(flags & cs.OF), bool(flags & cs.PF)
    truth = (over, carry, zero, carry or zero, sign, parity, sign != over, zero or sign != over)[number >> 1]
    return truth != bool(number & 1)


@handles(*("set" + name for name in CONDITIONS))
def _set(context: Context) -> None:
    number = CONDITIONS.index(context.instruction.name[3:])
    context.write(0, int(condition(number, context.cpu.rflags)))


# -- strings -----------------------------------------------------------------------------------------------------------
@handles("stosb", "stosw", "stosd", "stosq", "movsb", "movsw", "movsd", "movsq")
def _string(context: Context) -> bool | None:
    if context.iced.op_kind(0) == OpKind.REGISTER or context.iced.op_kind(1) == OpKind.MEMORY or context.is_memory(0):
        return move_vector(context)  # MOVSD is an SSE instruction as well
    state, of = context.state, context.iced
    size = context.size(0)
    target, mask = context.string_offset(of.op_kind(0))
    moves = context.instruction.name.startswith("movs")
    repeated = of.has_rep_prefix or of.has_repne_prefix
    step = -size if context.cpu.rflags & DF else size
    behind = context.next_rip()
    for _ in range(ITERATIONS if repeated else 1):
        if repeated and not state[RCX] & mask:
            break
        value = state[RAX]
        if moves:
            source, _mask = context.string_offset(of.op_kind(1))
            value = context.load(context.linear(SEGMENTS[of.memory_segment], state[source] & mask, size), size)
        context.store(context.linear(cs.ES, state[target] & mask, size), size, value)
        if moves:
            advance(context, source, mask, step)
        advance(context, target, mask, step)
        if repeated:
            count_down(context, mask)
        if not state[target] & PAGE_OFFSET:
            break  # the page behind may be one that the guest can store to by itself
    if not (repeated and state[RCX] & mask):
        state[cs.RIP] = behind
    return True


# -- the stack ---------------------------------------------------------------------------------------------------------
@handles("push")
def _push(context: Context) -> None:
    of = context.iced
    if of.op_kind(0) == OpKind.REGISTER and of.op_register(0) in SEGMENTS:
        push_segment(context)
        return
    size = abs(of.stack_pointer_increment)
    context.push(context.read(0, size), size)


@handles("pop")
def _pop(context: Context) -> None:
    of = context.iced
    if of.op_kind(0) == OpKind.REGISTER and of.op_register(0) in SEGMENTS:
        pop_segment(context)
        return
    size = of.stack_pointer_increment
    value, before = context.peek(0, size), context.state[RSP]
    context.move_stack(size)  # an address by RSP is computed with the new one
    try:
        context.write(0, value, size)
    except Exception:
        context.state[RSP] = before
        raise


def _near_target(context: Context) -> int:
    of = context.iced
    if of.op_kind(0) in NEAR_KINDS:
        target = of.near_branch_target + context.state[cs.RIP]
    else:
        target = context.read(0)
    target &= ones(8 if context.bits == 64 else 4)
    if context.bits == 64 and not canonical(target):
        raise GeneralProtection
    return int(target)


def _is_far(context: Context) -> bool:
    of = context.iced
    return bool(of.is_call_far or of.is_call_far_indirect or of.is_jmp_far or of.is_jmp_far_indirect)


@handles("call")
def _call(context: Context) -> bool:
    if _is_far(context):
        return far_call(context)
    target = _near_target(context)
    context.push(context.next_rip(), abs(context.iced.stack_pointer_increment))
    context.state[cs.RIP] = target
    return True


@handles("jmp")
def _jmp(context: Context) -> bool:
    if _is_far(context):
        return far_jump(context)
    context.state[cs.RIP] = _near_target(context)
    return True


@handles("ret")
def _ret(context: Context) -> bool:
    extra = context.read(0) & 0xFFFF if context.iced.op_count else 0
    size = context.iced.stack_pointer_increment - extra
    target = context.peek(0, size)
    if context.bits == 64 and not canonical(target):
        raise GeneralProtection
    context.move_stack(size + extra)
    context.state[cs.RIP] = target
    return True


@handles("leave")
def _leave(context: Context) -> None:
    size = 8 if context.bits == 64 else 4
    state = context.state
    value = context.load(context.linear(cs.SS, state[cs.RBP] & context.stack_mask, size), size)
    state[RSP] = state[cs.RBP]
    context.move_stack(size)
    state[cs.RBP] = value


