# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU whose kernel runs at CPL 1 although it was written for ring 0; its users run at CPL 3.

This class keeps the guest's own registers, which its properties return; the engine has the monitor's:

                    the guest believes            the CPU has
    CPL             0, 1, 2                       1 (ring compression); 3 is 3
    CS, SS          the selector's RPL is its CPL the RPL is the real one
    RFLAGS          IF and IOPL as it set them    IF 1, IOPL 0
    CR0, 3, 4, EFER as it set them                PG, WP, PE set; the shadow's root; TSD; long mode
    GDTR            its own table                 the monitor's copy of it (shadow_gdt.py)
    IDTR, LDTR, TR  as it loaded them             the monitor's
    debug registers as it set them                none

So an instruction that traps shows the guest the left column, and one that does not (SGDT, PUSHF, MOV from CS ...) shows
the right one. This is the violation of Popek and Goldberg's condition, and it is not hidden here.

A kernel may change CS without a trap (a far jump to a copied descriptor, which CPL 1 may do). Then its level is that of
its own descriptor.

Read beside it: control_shadow.py, which keeps the control registers; shadow_gdt.py; Robin and Irvine, "Analysis of
the Intel Pentium's ability to support a secure virtual machine monitor" (2000).

Not modelled: a guest's rings 1 and 2 protected from each other, or ring 0 from them; debug breakpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pvhv.hvm.cpu.control_shadow import ControlShadowCpu
from pvhv.hvm.cpu.guestcpu import (
    FLAG_PRESENT,
    FLAT_LIMIT,
    MSR_CSTAR,
    MSR_FS_BASE,
    MSR_GS_BASE,
    MSR_KERNEL_GS_BASE,
    MSR_LSTAR,
    SYSTEM_FLAG,
    NativeCpu,
    Segment,
    Table,
    set_code_flags,
    set_stack_flags,
)
from pvhv.hvm.cpu.memory import GeneralProtection, GuestException, GuestPhysical
from pvhv.hvm.emulator.operands import canonical
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import EFLAGS, HFLAGS, IF, IOPL, VM
from pvhv.machine.pcpu import PCPU
from pvhv.machine.x86 import CR4_TSD

REAL_KERNEL, REAL_USER = 1, 3  # the CPLs they really run at
VIRTUAL_FLAGS: Final = IF | IOPL
DPL: Final = 3 << 13
ADDRESSES: Final = frozenset({MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_LSTAR, MSR_CSTAR})


def real_level(level: int) -> int:
    """The real ring for a ring of the guest's."""
    return REAL_USER if level == REAL_USER else REAL_KERNEL


class DeprivilegedCpu(ControlShadowCpu):
    """`tables_changed` is called when GDTR, or the memory it points to, may have changed; `interrupts_changed` when the
    guest's IF changed."""

    def __init__(self, pcpu: PCPU, physical: GuestPhysical) -> None:
        super().__init__(pcpu, physical)
        self.tables_changed: Callable[[], object] = lambda: None
        self.root_changed: Callable[[], object] = lambda: None
        self.interrupts_changed: Callable[[], object] = lambda: None
        self._flags = 0
        self._ring, self._real_cs = 0, -1
        self._gdtr = self._idtr = Table(0, 0)
        self._ldt = self._tr = Segment(0, 0, 0, 0)
        self._long_mode = False

    def reset(self, entry: int, rbx: int) -> None:
        self._flags, self._gdtr, self._idtr = 0, Table(0, 0), Table(0, 0)
        self._ldt, self._tr = Segment(0, 0, 0, 0), Segment(0, 0, 0x67, 0x8B00)
        self._long_mode = False
        self.debug[:] = [0, 0, 0, 0, 0, 0, 0xFFFF_0FF0, 0x400]
        super().reset(entry, rbx)
        self.state[EFLAGS] = 2 | IF
        self.set_segment(cs.CS, Segment(8, 0, FLAT_LIMIT, 0x00CF_9B00))
        for register in (cs.SS, cs.DS, cs.ES):
            self.set_segment(register, Segment(16, 0, FLAT_LIMIT, 0x00CF_9300))
        self.tables_changed()

    # -- privilege -----------------------------------------------------------------------------------------------------
    @property
    def cpl(self) -> int:
        if self.state[HFLAGS] & cs.HF_CPL == REAL_USER:
            return REAL_USER
        selector = self.state[cs.CS] & 0xFFFF
        if selector != self._real_cs:  # the guest went there by itself
            try:
                level = self.descriptor(selector) >> 45 & 3
            except GuestException:
                level = 0
            self._ring, self._real_cs = min(level, 2), selector
        return self._ring

    @property
    def rflags(self) -> int:
        return int(self.state[EFLAGS] & ~VIRTUAL_FLAGS | self._flags)

    @rflags.setter
    def rflags(self, value: int) -> None:
        before, self._flags = self._flags, value & VIRTUAL_FLAGS
        self.state[EFLAGS] = value & 0x3F_7FD5 & ~(IOPL | VM) | IF | 2
        if (before ^ self._flags) & IF:
            self.interrupts_changed()

    # -- segments ------------------------------------------------------------------------------------------------------
    def segment(self, register: int) -> Segment:
        if register == cs.LDT:
            return self._ldt
        if register == cs.TR:
            return self._tr
        segment = super().segment(register)
        if register in (cs.CS, cs.SS):
            level = self.cpl
            return segment._replace(selector=segment.selector & ~3 | level, flags=segment.flags & ~DPL | level << 13)
        if segment.dpl == REAL_KERNEL:
            return segment._replace(flags=segment.flags & ~DPL)
        return segment

    def set_segment(self, register: int, segment: Segment) -> None:
        selector, base, limit, flags = segment
        if register == cs.LDT:
            self._ldt = segment
        elif register == cs.TR:
            self._tr = segment
        elif register in (cs.CS, cs.SS):
            level = real_level(selector & 3)
            real = selector & ~3 | level
            self.pcpu.set_segment(register, real, base, limit, flags & ~DPL | level << 13)
            if register == cs.CS:
                self._ring, self._real_cs = selector & 3, real
                set_code_flags(self.pcpu, segment, self.long_mode, level)
            set_stack_flags(self.pcpu, NativeCpu.segment(self, cs.SS))
        else:
            if flags & FLAG_PRESENT and flags & SYSTEM_FLAG and segment.dpl < REAL_KERNEL:
                flags |= REAL_KERNEL << 13
            self.pcpu.set_segment(register, selector, base, limit, flags)

    @property
    def gdtr(self) -> Table:
        return self._gdtr

    @gdtr.setter
    def gdtr(self, value: Table) -> None:
        self._gdtr = value
        self.tables_changed()

    @property
    def idtr(self) -> Table:
        return self._idtr

    @idtr.setter
    def idtr(self, value: Table) -> None:
        self._idtr = value

    # -- control registers and MSRs ------------------------------------------------------------------------------------
    def _publish(self) -> None:
        super()._publish()
        if self.pcpu.virtual:
            self.state[cs.CR4] |= CR4_TSD
        if self._long_mode != self.long_mode:
            self._long_mode = self.long_mode
            self.tables_changed()

    def _load_root(self) -> None:
        super()._load_root()
        self.root_changed()

    def write_msr(self, number: int, value: int) -> None:
        if number in ADDRESSES and not canonical(value):
            raise GeneralProtection
        super().write_msr(number, value)
