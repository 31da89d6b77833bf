# SPDX-License-Identifier: GPL-2.0-or-later
"""Loading segment registers from the guest's own descriptor tables, with every check the processor makes.

Each function checks first and changes the CPU last. It uses the privilege level, tables and descriptors as the guest
sees them.

Read beside it: AMD's manual volume 2, 4.7 to 4.12; volume 3, MOV, POP, LAR, LSL, VERR, VERW, LLDT, LTR.

Not modelled: call gates and task gates (a far transfer through one is #GP), stack faults of expand-down segments.
"""

from __future__ import annotations

from typing import Final

from pvhv.hvm.cpu.guestcpu import (
    FLAG_BIG,
    FLAG_LONG,
    FLAG_PRESENT,
    FLAT_LIMIT,
    SYSTEM_FLAG,
    TYPE_CODE,
    GuestCpu,
    Segment,
    unpack_descriptor,
)
from pvhv.hvm.cpu.memory import GeneralProtection, GuestException
from pvhv.machine import cpustate as cs
from pvhv.machine.x86 import CONFORMING, FLAT_DATA, NOT_PRESENT, STACK_FAULT

READABLE, WRITABLE, ACCESSED = 1 << 9, 1 << 9, 1 << 8
TYPE_SHIFT: Final = 8
LDT_TYPE, TSS_AVAILABLE, TSS_BUSY = 2, 9, 11
# System types LAR and LSL accept, in long mode and in legacy mode (AMD's volume 3, LAR).
LAR_LONG, LSL_LONG = frozenset({2, 9, 11, 12}), frozenset({2, 9, 11})
LAR_LEGACY, LSL_LEGACY = frozenset({1, 2, 3, 4, 5, 9, 11, 12}), frozenset({1, 2, 3, 9, 11})


def not_present(selector: int) -> GuestException:
    return GuestException(NOT_PRESENT, selector & ~3)


def mark_accessed(cpu: GuestCpu, selector: int, segment: Segment) -> Segment:
    """Set the accessed bit in the table, if it is not set."""
    if segment.flags & ACCESSED:
        return segment
    table = cpu.segment(cs.LDT).base if selector & 4 else cpu.gdtr.base
    cpu.memory.write(table + (selector & ~7) + 5, bytes([(segment.flags | ACCESSED) >> 8 & 0xFF]))
    return segment._replace(flags=segment.flags | ACCESSED)


def load_data(cpu: GuestCpu, register: int, selector: int) -> None:
    """Load DS, ES, FS or GS. Raises GuestException."""
    if not selector & ~3:
        cpu.set_segment(register, Segment(selector, 0, 0, 0))
        return
    segment = unpack_descriptor(selector, cpu.descriptor(selector))
    flags = segment.flags
    code = bool(flags & TYPE_CODE)
    if not flags & SYSTEM_FLAG or (code and not flags & READABLE):
        raise GeneralProtection(selector & ~3)
    if not (code and flags & CONFORMING) and max(selector & 3, cpu.cpl) > segment.dpl:
        raise GeneralProtection(selector & ~3)
    if not flags & FLAG_PRESENT:
        raise not_present(selector)
    cpu.set_segment(register, mark_accessed(cpu, selector, segment))


def stack_segment(cpu: GuestCpu, selector: int, level: int, *, wide: bool) -> Segment:
    """The checked SS for privilege `level`; with `wide` (64-bit code) null is allowed outside ring 3."""
    if not selector & ~3:
        if not wide or level == 3 or selector & 3 != level:
            raise GeneralProtection
        return Segment(selector, 0, FLAT_LIMIT, FLAT_DATA | level << 13)
    if selector & 3 != level:
        raise GeneralProtection(selector & ~3)
    segment = unpack_descriptor(selector, cpu.descriptor(selector))
    flags = segment.flags
    if not flags & SYSTEM_FLAG or flags & TYPE_CODE or not flags & WRITABLE or segment.dpl != level:
        raise GeneralProtection(selector & ~3)
    if not flags & FLAG_PRESENT:
        raise GuestException(STACK_FAULT, selector & ~3)
    return segment


def load_stack(cpu: GuestCpu, selector: int, *, wide: bool) -> None:
    """Load SS by MOV or POP. Raises GuestException."""
    segment = stack_segment(cpu, selector, cpu.cpl, wide=wide)
    if selector & ~3:
        segment = mark_accessed(cpu, selector, segment)
    cpu.set_segment(cs.SS, segment)


def code_segment(cpu: GuestCpu, selector: int) -> Segment:
    """The code descriptor a far transfer names, present or not. Raises GeneralProtection."""
    if not selector & ~3:
        raise GeneralProtection
    segment = unpack_descriptor(selector, cpu.descriptor(selector))
    flags = segment.flags
    if not flags & SYSTEM_FLAG or not flags & TYPE_CODE:
        raise GeneralProtection(selector & ~3)
    if cpu.long_mode and flags & FLAG_LONG and flags & FLAG_BIG:
        raise GeneralProtection(selector & ~3)
    return segment


def jump_target(cpu: GuestCpu, selector: int) -> Segment:
    """The checked CS for a far jump or call to the same level. Raises GuestException."""
    segment, cpl = code_segment(cpu, selector), cpu.cpl
    if segment.flags & CONFORMING:
        refused = segment.dpl > cpl
    else:
        refused = selector & 3 > cpl or segment.dpl != cpl
    if refused:
        raise GeneralProtection(selector & ~3)
    if not segment.flags & FLAG_PRESENT:
        raise not_present(selector)
    return mark_accessed(cpu, selector, segment)._replace(selector=selector & ~3 | cpl)


def return_target(cpu: GuestCpu, selector: int) -> Segment:
    """The checked CS for a far return or IRET, to the level of its RPL. Raises GuestException."""
    if not selector & ~3:
        raise GeneralProtection
    level = selector & 3
    if level < cpu.cpl:
        raise GeneralProtection(selector & ~3)
    segment = code_segment(cpu, selector)
    if segment.dpl > level if segment.flags & CONFORMING else segment.dpl != level:
        raise GeneralProtection(selector & ~3)
    if not segment.flags & FLAG_PRESENT:
        raise not_present(selector)
    return segment


def leave_data_segments(cpu: GuestCpu, level: int) -> None:
    """On a return to an outer ring: make data segments null that this ring may not use."""
    for register in (cs.ES, cs.DS, cs.FS, cs.GS):
        segment = cpu.segment(register)
        conforming = segment.flags & TYPE_CODE and segment.flags & CONFORMING
        if segment.selector & ~3 and not conforming and segment.dpl < level:
            cpu.set_segment(register, Segment(0, 0, 0, 0))


# -- system segments ---------------------------------------------------------------------------------------------------
def _system(cpu: GuestCpu, selector: int, kinds: tuple[int, ...]) -> tuple[Segment, int]:
    """A 16-byte (in legacy mode, 8-byte) descriptor in the GDT, and its lower word."""
    if selector & 4:
        raise GeneralProtection(selector & ~3)
    descriptor = cpu.descriptor(selector)
    segment = unpack_descriptor(selector, descriptor)
    if segment.flags & SYSTEM_FLAG or segment.flags >> TYPE_SHIFT & 15 not in kinds:
        raise GeneralProtection(selector & ~3)
    if cpu.long_mode:
        base, limit = cpu.gdtr
        if (selector | 7) + 8 > limit:
            raise GeneralProtection(selector & ~3)
        high = cpu.memory.word(base + (selector & ~7) + 8)
        segment = segment._replace(base=segment.base | (high & 0xFFFF_FFFF) << 32)
    if not segment.flags & FLAG_PRESENT:
        raise not_present(selector)
    return segment, descriptor


def load_ldt(cpu: GuestCpu, selector: int) -> None:
    """LLDT."""
    if not selector & ~3:
        cpu.set_segment(cs.LDT, Segment(selector, 0, 0, 0))
        return
    segment, _ = _system(cpu, selector, (LDT_TYPE,))
    cpu.set_segment(cs.LDT, segment)


def load_task(cpu: GuestCpu, selector: int) -> None:
    """LTR: the TSS becomes busy."""
    if not selector & ~3:
        raise GeneralProtection
    segment, descriptor = _system(cpu, selector, (TSS_AVAILABLE,))
    busy = descriptor | 2 << 40
    cpu.memory.write(cpu.gdtr.base + (selector & ~7), busy.to_bytes(8, "little"))
    cpu.set_segment(cs.TR, segment._replace(flags=segment.flags | 2 << TYPE_SHIFT))


# -- questions ---------------------------------------------------------------------------------------------------------
def _visible(cpu: GuestCpu, selector: int, kinds: frozenset[int]) -> tuple[int, Segment] | None:
    """The descriptor that LAR or LSL may read, or None."""
    if not selector & ~3:
        return None
    try:
        descriptor = cpu.descriptor(selector)
    except GeneralProtection:
        return None
    segment = unpack_descriptor(selector, descriptor)
    flags = segment.flags
    if not flags & SYSTEM_FLAG and flags >> TYPE_SHIFT & 15 not in kinds:
        return None
    conforming = flags & SYSTEM_FLAG and flags & TYPE_CODE and flags & CONFORMING
    if not conforming and max(cpu.cpl, selector & 3) > segment.dpl:
        return None
    return descriptor, segment


def access_rights(cpu: GuestCpu, selector: int) -> int | None:
    """LAR."""
    found = _visible(cpu, selector, LAR_LONG if cpu.long_mode else LAR_LEGACY)
    return None if found is None else found[0] >> 32 & 0x00FF_FF00


def limit(cpu: GuestCpu, selector: int) -> int | None:
    """LSL."""
    found = _visible(cpu, selector, LSL_LONG if cpu.long_mode else LSL_LEGACY)
    return None if found is None else found[1].limit


def verify(cpu: GuestCpu, selector: int, *, write: bool) -> bool:
    """VERR and VERW."""
    found = _visible(cpu, selector, frozenset())
    if found is None:
        return False
    flags = found[1].flags
    if flags & TYPE_CODE:
        return not write and bool(flags & READABLE)
    return not write or bool(flags & WRITABLE)
