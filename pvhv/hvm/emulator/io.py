# SPDX-License-Identifier: GPL-2.0-or-later
"""IN, OUT and their string forms, and HLT: the instructions that reach devices. cpu/arch.py checks the privilege of
I/O.

A repeated string instruction is done page by page: a device with a data register gives or takes all the elements of a
page at once (platform/bus.py). So it is one exit for a page, and not one for an element.

Read beside it: emulate.py; AMD's manual volume 1, 3.8; volume 3, IN, INS, OUT, OUTS, HLT.

Not modelled: a device that is asked for a word and answers two halves.
"""

from __future__ import annotations

from iced_x86 import OpKind

from pvhv.hvm.cpu import arch
from pvhv.hvm.cpu.memory import GeneralProtection
from pvhv.hvm.emulator.context import Context, handles
from pvhv.hvm.emulator.operands import SEGMENTS
from pvhv.hvm.emulator.system import privileged
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import DF, RCX, RDX
from pvhv.machine.ram import PAGE_SIZE


def _permit(context: Context, port: int, size: int) -> None:
    if not arch.may_do_io(context.cpu, port, size):
        raise GeneralProtection


def _port(context: Context, n: int) -> int:
    if context.iced.op_kind(n) == OpKind.REGISTER:
        return context.state[RDX] & 0xFFFF
    return int(context.iced.immediate(n)) & 0xFF


@handles("in")
def _in(context: Context) -> None:
    size, port = context.size(0), _port(context, 1)
    _permit(context, port, size)
    context.write(0, context.monitor.port_read(port, size))


@handles("out")
def _out(context: Context) -> None:
    size, port = context.size(1), _port(context, 0)
    _permit(context, port, size)
    context.monitor.port_write(port, size, context.register(context.iced.op_register(1)))


@handles("insb", "insw", "insd", "outsb", "outsw", "outsd")
def _string_port(context: Context) -> bool:
    """One element; if it is repeated, all that there are in this page, or as many as the device does in one go. What is
    left is done when it is tried again."""
    state, of = context.state, context.iced
    reads = context.instruction.name.startswith("ins")
    size = context.size(0 if reads else 1)  # the other operand is DX
    port = state[RDX] & 0xFFFF
    _permit(context, port, size)
    register, mask = context.string_offset(of.op_kind(0 if reads else 1))
    segment = cs.ES if reads else SEGMENTS[of.memory_segment]
    repeated = of.has_rep_prefix or of.has_repne_prefix
    behind = context.next_rip()
    left = state[RCX] & mask if repeated else 1
    if left:
        backwards = bool(context.cpu.rflags & DF)
        offset = state[register] & mask
        count = 1 if backwards else _in_page(context, segment, offset, mask, size, left)
        address = context.linear(segment, offset, size * count)
        if reads:
            context.require_writable(address, size * count)  # before the device is asked
            data = context.monitor.port_read_string(port, size, count)
            count = len(data) // size
            context.cpu.memory.write(address, data, user=context.user)
        else:
            data = context.cpu.memory.read(address, size * count, user=context.user)
            count = context.monitor.port_write_string(port, size, data)
        advance(context, register, mask, -size if backwards else size * count)
        if repeated:
            count_down(context, mask, count)
            left -= count
    if not (repeated and left):
        state[cs.RIP] = behind
    return True


def _in_page(context: Context, segment: int, offset: int, mask: int, size: int, left: int) -> int:
    """How many of `left` elements there are before the end of the page, of the segment and of the offsets."""
    room = PAGE_SIZE - context.linear(segment, offset, size) % PAGE_SIZE
    highest = mask if context.bits == 64 else min(mask, context.cpu.segment(segment).limit)
    return max(min(left, room // size, (highest - offset + 1) // size), 1)


def advance(context: Context, register: int, mask: int, step: int) -> None:
    """Move RSI or RDI of a string instruction."""
    _partly(context, register, mask, context.state[register] + step)


def count_down(context: Context, mask: int, by: int = 1) -> None:
    _partly(context, RCX, mask, context.state[RCX] - by)


def _partly(context: Context, register: int, mask: int, value: int) -> None:
    """Set a register of which only `mask` is used: 32 bits clear the upper half, 16 keep the rest."""
    state = context.state
    state[register] = value & mask if mask != 0xFFFF else state[register] & ~0xFFFF | value & mask


@handles("hlt")
def _hlt(context: Context) -> bool:
    privileged(context)
    state = context.state
    state[cs.RIP] = context.next_rip()
    state[cs.HFLAGS] &= ~cs.HF_INHIBIT_IRQ  # an STI just before: from now on interrupts come
    context.monitor.halt()
    return True


