# SPDX-License-Identifier: GPL-2.0-or-later
"""Privileged and sensitive instructions that do not transfer control: flags, control registers, MSRs, tables.

Read beside it: emulate.py; AMD's manual volume 3, chapter 4 (system instructions); volume 2, 3.1 and 3.2.

Not modelled: hardware breakpoints (debug registers only hold what was written), performance counters, XSAVE.
"""

from __future__ import annotations

from typing import Final

from iced_x86 import Register

from pvhv.core.mm.stores import ones
from pvhv.hvm.cpu import descriptors
from pvhv.hvm.cpu.guestcpu import MSR_GS_BASE, MSR_KERNEL_GS_BASE, Table
from pvhv.hvm.cpu.memory import GeneralProtection, InvalidOpcode
from pvhv.hvm.emulator.context import Context, handles
from pvhv.hvm.emulator.operands import SEGMENTS, canonical
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import IF, IOPL, RAX, RBX, RCX, RDX, VM, ZF
from pvhv.machine.x86 import CR0_TS, CR4_DE, CR4_TSD, DR6_DEFAULT, DR7_DEFAULT, MASK32

CONTROL: Final = {Register.CR0 + n: n for n in range(16)}
DEBUG: Final = {Register.DR0 + n: n for n in range(16)}
LMSW_BITS: Final = 0xF
FLAGS_32: Final = 0x24_7FD5  # ID AC NT IOPL OF DF IF TF SF ZF AF PF CF


def privileged(context: Context) -> None:
    """Check the privilege of a ring 0 instruction. Raises GeneralProtection."""
    if context.cpu.cpl:
        raise GeneralProtection


# -- flags -------------------------------------------------------------------------------------------------------------
def _may_change_interrupts(context: Context) -> None:
    if context.cpu.cpl > (context.cpu.rflags & IOPL) >> 12:
        raise GeneralProtection


@handles("cli")
def _cli(context: Context) -> None:
    _may_change_interrupts(context)
    context.cpu.rflags &= ~IF


@handles("sti")
def _sti(context: Context) -> None:
    _may_change_interrupts(context)
    context.shadow = not context.cpu.rflags & IF
    context.cpu.rflags |= IF


def operand_size(context: Context) -> int:
    """The operand size, in bytes, of a push or pop of flags."""
    return abs(context.iced.stack_pointer_increment)


@handles("pushf", "pushfd", "pushfq")
def _pushf(context: Context) -> None:
    context.push(context.cpu.rflags & ~(VM | cs.RF), operand_size(context))


@handles("popf", "popfd", "popfq")
def _popf(context: Context) -> None:
    cpu, size = context.cpu, operand_size(context)
    value = context.peek(0, size)
    context.move_stack(size)
    cpu.rflags = loaded_flags(cpu.rflags, value, cpu.cpl, size)


def loaded_flags(before: int, value: int, cpl: int, size: int) -> int:
    """The flags as POPF and IRET set them, by privilege."""
    changed = FLAGS_32 & ones(size)
    if cpl:
        changed &= ~IOPL
        if cpl > (before & IOPL) >> 12:
            changed &= ~IF
    return before & ~changed | value & changed


# -- control and debug registers ---------------------------------------------------------------------------------------
def special_registers(context: Context) -> tuple[bool, int]:
    """Of MOV CR/DR: whether it writes the special register, and which that is."""
    first = context.iced.op_register(0)
    if first in CONTROL or first in DEBUG:
        return True, first
    return False, context.iced.op_register(1)


def move_control(context: Context) -> None:
    privileged(context)
    cpu = context.cpu
    writes, register = special_registers(context)
    number = CONTROL[register]
    if number not in (0, 2, 3, 4, 8):
        raise InvalidOpcode
    name = f"cr{number}"
    if not writes:
        context.write(0, getattr(cpu, name))
        return
    value = context.read(1)
    if number == 8 and value >> 4:
        raise GeneralProtection
    setattr(cpu, name, value)


def move_debug(context: Context) -> None:
    cpu = context.cpu
    writes, register = special_registers(context)
    number = DEBUG[register]
    if number > 7 or (number in (4, 5) and cpu.cr4 & CR4_DE):
        raise InvalidOpcode
    privileged(context)
    number = {4: 6, 5: 7}.get(number, number)
    if not writes:
        context.write(0, cpu.debug[number])
        return
    value = context.read(1)
    if number >= 6 and value >> 32:
        raise GeneralProtection
    if number < 4 and not canonical(value):
        raise GeneralProtection
    if number == 6:
        value = value & 0xE00F | DR6_DEFAULT
    elif number == 7:
        value = value & 0xFFFF_23FF | DR7_DEFAULT
    cpu.debug[number] = value


@handles("clts")
def _clts(context: Context) -> None:
    privileged(context)
    context.cpu.cr0 &= ~CR0_TS


@handles("lmsw")
def _lmsw(context: Context) -> None:
    privileged(context)
    cpu = context.cpu
    cpu.cr0 = cpu.cr0 & ~LMSW_BITS | context.read(0, 2) & LMSW_BITS | cpu.cr0 & 1


@handles("smsw")
def _smsw(context: Context) -> None:
    context.write(0, context.cpu.cr0, 2 if context.is_memory(0) else None)


@handles("invlpg")
def _invlpg(context: Context) -> None:
    privileged(context)
    of = context.iced
    segment = SEGMENTS[of.memory_segment]
    context.monitor.forget_page(context.offset() + context.cpu.segment(segment).base & (1 << 64) - 1)


@handles("wbinvd", "invd", "wbnoinvd")
def _caches(context: Context) -> None:
    privileged(context)


# -- descriptor tables and what they name ------------------------------------------------------------------------------
@handles("lgdt", "lidt")
def _load_table(context: Context) -> None:
    privileged(context)
    width = 8 if context.bits == 64 else 4
    address = context.address(2 + width)
    value = context.load(address, 2 + width)
    base = value >> 16
    if width == 8 and not canonical(base):
        raise GeneralProtection
    table = Table(base, value & 0xFFFF)
    if context.instruction.name == "lgdt":
        context.cpu.gdtr = table
    else:
        context.cpu.idtr = table


@handles("sgdt", "sidt")
def _store_table(context: Context) -> None:
    width = 8 if context.bits == 64 else 4
    table = context.cpu.gdtr if context.instruction.name == "sgdt" else context.cpu.idtr
    context.store(context.address(2 + width), 2 + width, table.base << 16 | table.limit & 0xFFFF)


@handles("sldt", "str")
def _store_selector(context: Context) -> None:
    register = cs.LDT if context.instruction.name == "sldt" else cs.TR
    context.write(0, context.cpu.segment(register).selector, 2 if context.is_memory(0) else None)


@handles("lldt")
def _lldt(context: Context) -> None:
    privileged(context)
    descriptors.load_ldt(context.cpu, context.read(0, 2) & 0xFFFF)


@handles("ltr")
def _ltr(context: Context) -> None:
    privileged(context)
    descriptors.load_task(context.cpu, context.read(0, 2) & 0xFFFF)


def _set_zero_flag(context: Context, on: bool) -> None:
    flags = context.cpu.rflags
    context.cpu.rflags = flags | ZF if on else flags & ~ZF


@handles("lar", "lsl")
def _lar_lsl(context: Context) -> None:
    ask = descriptors.access_rights if context.instruction.name == "lar" else descriptors.limit
    answer = ask(context.cpu, context.read(1, 2) & 0xFFFF)
    if answer is not None:
        context.write(0, answer)
    _set_zero_flag(context, answer is not None)


@handles("verr", "verw")
def _verify(context: Context) -> None:
    selector = context.read(0, 2) & 0xFFFF
    _set_zero_flag(context, descriptors.verify(context.cpu, selector, write=context.instruction.name == "verw"))


# -- MSRs and what tells of the processor ------------------------------------------------------------------------------
@handles("rdmsr")
def _rdmsr(context: Context) -> None:
    privileged(context)
    value = context.cpu.read_msr(context.state[RCX] & MASK32)
    context.state[RAX], context.state[RDX] = value & MASK32, value >> 32


@handles("wrmsr")
def _wrmsr(context: Context) -> None:
    privileged(context)
    state = context.state
    context.cpu.write_msr(state[RCX] & MASK32, (state[RDX] & MASK32) << 32 | state[RAX] & MASK32)


@handles("swapgs")
def _swapgs(context: Context) -> None:
    if context.bits != 64:
        raise InvalidOpcode
    privileged(context)
    cpu = context.cpu
    inner, outer = cpu.read_msr(MSR_GS_BASE), cpu.read_msr(MSR_KERNEL_GS_BASE)
    cpu.write_msr(MSR_GS_BASE, outer)
    cpu.write_msr(MSR_KERNEL_GS_BASE, inner)


@handles("rdtsc")
def _rdtsc(context: Context) -> None:
    if context.cpu.cr4 & CR4_TSD and context.cpu.cpl:
        raise GeneralProtection
    now = context.monitor.timestamp()
    context.state[RAX], context.state[RDX] = now & MASK32, now >> 32 & MASK32


@handles("rdtscp")
def _rdtscp(context: Context) -> None:
    _rdtsc(context)
    context.state[RCX] = 0  # TSC_AUX, which nobody can write


@handles("cpuid")
def _cpuid(context: Context) -> None:
    state = context.state
    answer = context.monitor.cpuid(state[RAX] & MASK32, state[RCX] & MASK32)
    state[RAX], state[RBX], state[RCX], state[RDX] = answer


# CPUID offers none of these.
@handles("xgetbv", "xsetbv", "monitor", "mwait", "vmrun", "vmmcall", "vmload", "vmsave", "stgi", "clgi",
         "skinit", "invlpga", "invpcid", "sysenter", "sysexit", "sysexitq", "rsm")  # fmt: skip
def _undefined(context: Context) -> None:
    raise InvalidOpcode


@handles("rdpmc")
def _rdpmc(context: Context) -> None:
    raise GeneralProtection  # there are no counters
