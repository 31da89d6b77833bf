# SPDX-License-Identifier: GPL-2.0-or-later
"""What a crash report says of a fully virtualized guest's CPU: the registers as the guest sees them.

The registers come from GuestCpu, so a deprivileged kernel shows CPL 0, and its own CR3 instead of the shadow's. Memory
is read through the guest's own tables, without setting accessed bits.

Read beside it: pvhv/core/crash.py, which does the rest; vmcb_dump in xen/arch/x86/hvm/svm/svmdebug.c.
"""

from __future__ import annotations

from pvhv.core.crash import general_registers
from pvhv.core.errors import DomainCrash
from pvhv.hvm.cpu.guestcpu import (
    FLAG_BIG,
    FLAG_LONG,
    MSR_FS_BASE,
    MSR_GS_BASE,
    MSR_KERNEL_GS_BASE,
    GuestCpu,
)
from pvhv.hvm.cpu.memory import GuestException, walk
from pvhv.machine import cpustate as cs
from pvhv.machine.x86 import CR0_PE, LOWER_END, MASK64


def registers(cpu: GuestCpu) -> list[str]:
    """The lines of the report about registers."""
    code, stack = cpu.segment(cs.CS), cpu.segment(cs.SS)
    base = {name: cpu.read_msr(msr) for name, msr in BASES.items()}
    gdtr, idtr, task = cpu.gdtr, cpu.idtr, cpu.segment(cs.TR)
    return [
        f"vCPU 0 at CPL {cpu.cpl}, {_mode(cpu)}",
        f"rip {cpu.rip:016x}  cs {code.selector:04x}  ss {stack.selector:04x}  rflags {cpu.rflags:08x}",
        *general_registers(cpu.state),
        f"cr0 {cpu.cr0:016x}  cr2 {cpu.cr2:016x}  cr3 {cpu.cr3:016x}  cr4 {cpu.cr4:016x}",
        f"fs  {base['fs']:016x}  gs  {base['gs']:016x}  kernel gs {base['kernel']:016x}  efer {cpu.efer:04x}",
        f"gdt {gdtr.base:x} limit {gdtr.limit:x}, idt {idtr.base:x} limit {idtr.limit:x}, "
        f"tr {task.selector:04x} at {task.base:x} limit {task.limit:x}",
    ]


BASES = {"fs": MSR_FS_BASE, "gs": MSR_GS_BASE, "kernel": MSR_KERNEL_GS_BASE}


def _mode(cpu: GuestCpu) -> str:
    flags = cpu.segment(cs.CS).flags
    if not cpu.cr0 & CR0_PE:
        return "real mode"
    if not cpu.long_mode:
        return "32-bit protected mode" if flags & FLAG_BIG else "16-bit protected mode"
    return "64-bit mode" if flags & FLAG_LONG else "compatibility mode"


def word(cpu: GuestCpu, address: int) -> int | None:
    """The 64-bit word at a linear address; None if it is not mapped, or the guest's paging mode is not supported."""
    if (address + LOWER_END & MASK64) >> 48:
        return None
    try:
        found = walk(cpu.physical, cpu, address, set_bits=False).gpa
    except (GuestException, DomainCrash):
        return None
    return None if cpu.physical.mfn(found >> 12) is None else cpu.physical.word(found & ~7)
