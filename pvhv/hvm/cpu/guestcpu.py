# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU as its guest sees it: architectural registers, descriptor tables, and linear memory.

The engine's registers may differ, depending on the technique. `NativeCpu` is a guest that has the engine's registers
itself (`bare` and the `hw-` techniques run it at CPL 0, though some control registers may be shadowed). deprivileged.py
has the guest whose kernel runs at CPL 1. Everything that acts for the CPU or emulates an instruction (arch.py,
emulate.py, shadow.py) uses the interface here, and so works for both.

Read beside it: AMD's manual volume 2, chapters 3 (system resources) and 4 (segmentation).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, NamedTuple

from pvhv.hvm.cpu.memory import GeneralProtection, GuestPhysical, walk
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import CR3, EFLAGS, HFLAGS, RIP
from pvhv.machine.pcpu import PCPU
from pvhv.machine.ram import PAGE_SIZE
from pvhv.machine.x86 import (
    CR0_PG,
    CR4_DE,
    CR4_MCE,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    CR4_PAE,
    CR4_PGE,
    CR4_PSE,
    CR4_TSD,
    EFER_LMA,
    EFER_LME,
    EFER_SCE,
    EFER_SVME,
    LOWER_END,
    MASK64,
)

# Descriptor flags, as bits 8..23 of a descriptor's high word.
TYPE_CODE, SYSTEM_FLAG, FLAG_PRESENT, FLAG_LONG, FLAG_BIG, FLAG_GRANULAR = (
    1 << 11, 1 << 12, 1 << 15, 1 << 21, 1 << 22, 1 << 23,
)  # fmt: skip
FLAT_LIMIT: Final = 0xFFFF_FFFF

MSR_TSC, MSR_APIC_BASE, MSR_PAT, MSR_MISC_ENABLE = 0x10, 0x1B, 0x277, 0x1A0
MSR_EFER, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK = 0xC000_0080, 0xC000_0081, 0xC000_0082, 0xC000_0083, 0xC000_0084
MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE = 0xC000_0100, 0xC000_0101, 0xC000_0102

CR4_KNOWN: Final = CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT


class Segment(NamedTuple):
    """A selector and the hidden part of the segment register. `flags`: bits 8..23 of a descriptor's high word."""

    selector: int
    base: int
    limit: int
    flags: int

    @property
    def dpl(self) -> int:
        """Descriptor privilege level."""
        return self.flags >> 13 & 3


class Table(NamedTuple):
    """The value of GDTR or IDTR."""

    base: int
    limit: int


class GuestCpu(ABC):
    """The architecture's registers. `state` holds the live GPRs and RIP, by cpustate's names."""

    def __init__(self, pcpu: PCPU, physical: GuestPhysical) -> None:
        self.pcpu = pcpu
        self.state = pcpu.state
        self.physical = physical
        self.memory = LinearMemory(self)
        self.debug = [0, 0, 0, 0, 0, 0, 0xFFFF_0FF0, 0x400]  # DR0..7, of a technique that keeps them itself

    # -- what a technique decides ----------------------------------------------------------------------------------
    @property
    @abstractmethod
    def cr2(self) -> int: ...

    @cr2.setter
    @abstractmethod
    def cr2(self, value: int) -> None: ...

    @property
    @abstractmethod
    def rflags(self) -> int:
        """RFLAGS as the guest sees them."""

    @rflags.setter
    @abstractmethod
    def rflags(self, value: int) -> None: ...

    @property
    @abstractmethod
    def cpl(self) -> int:
        """The privilege level as the guest sees it."""

    @property
    @abstractmethod
    def cr0(self) -> int: ...

    @cr0.setter
    @abstractmethod
    def cr0(self, value: int) -> None: ...

    @property
    @abstractmethod
    def cr3(self) -> int: ...

    @cr3.setter
    @abstractmethod
    def cr3(self, value: int) -> None: ...

    @property
    @abstractmethod
    def cr4(self) -> int: ...

    @cr4.setter
    @abstractmethod
    def cr4(self, value: int) -> None: ...

    @property
    @abstractmethod
    def cr8(self) -> int: ...

    @cr8.setter
    @abstractmethod
    def cr8(self, value: int) -> None: ...

    @property
    @abstractmethod
    def efer(self) -> int: ...

    @efer.setter
    @abstractmethod
    def efer(self, value: int) -> None: ...

    @property
    @abstractmethod
    def gdtr(self) -> Table: ...

    @gdtr.setter
    @abstractmethod
    def gdtr(self, value: Table) -> None: ...

    @property
    @abstractmethod
    def idtr(self) -> Table: ...

    @idtr.setter
    @abstractmethod
    def idtr(self, value: Table) -> None: ...

    @abstractmethod
    def segment(self, register: int) -> Segment:
        """ES..GS, LDT or TR (cpustate's numbers)."""

    @abstractmethod
    def set_segment(self, register: int, segment: Segment) -> None:
        """Set a segment register with its hidden part. For CS, the selector's RPL is the new CPL."""

    @abstractmethod
    def read_msr(self, number: int) -> int:
        """The value of an MSR. Raises GeneralProtection."""

    @abstractmethod
    def write_msr(self, number: int, value: int) -> None:
        """Set an MSR. Raises GeneralProtection."""

    # -- common ----------------------------------------------------------------------------------------------------
    @property
    def long_mode(self) -> bool:
        """EFER.LMA."""
        return bool(self.efer & EFER_LMA)

    @property
    def rip(self) -> int:
        """The instruction pointer."""
        return self.state[RIP]

    @rip.setter
    def rip(self, value: int) -> None:
        self.state[RIP] = value & (1 << 64) - 1

    def descriptor(self, selector: int) -> int:
        """The eight bytes a selector names in the guest's GDT or LDT. Raises GeneralProtection(selector), PageFault."""
        if selector & 4:
            table = self.segment(cs.LDT)
            base, limit = table.base, table.limit if table.selector & ~3 else 0
        else:
            base, limit = self.gdtr
        if (selector | 7) > limit:
            raise GeneralProtection(selector & ~3)
        return self.memory.word(base + (selector & ~7))


def unpack_descriptor(selector: int, descriptor: int) -> Segment:
    """A code or data descriptor, as the value of a segment register."""
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF_0000
    flags = descriptor >> 32 & 0x00F0_FF00
    if flags & FLAG_GRANULAR:
        limit = limit << 12 | 0xFFF
    base = descriptor >> 16 & 0xFF_FFFF | descriptor >> 32 & 0xFF00_0000
    return Segment(selector, base, limit, flags)


class LinearMemory:
    """Linear addresses, through the guest's tables. With `user`, an access has the rights of user mode; accesses to
    descriptors and to the stack of a delivery are supervisor accesses. All may raise PageFault, or GeneralProtection
    for an address that is not canonical; then nothing was written."""

    def __init__(self, cpu: GuestCpu) -> None:
        self.cpu = cpu
        # The technique's: somebody may have translations or shadows of what was written at (gpa, size).
        self.wrote: Callable[[int, int], object] = lambda gpa, size: None

    def _pieces(self, va: int, size: int, *, write: bool, user: bool, fetch: bool = False) -> list[tuple[int, int]]:
        """(guest-physical address, bytes) of each page's part."""
        pieces = []
        paged = self.cpu.cr0 & CR0_PG
        while size:
            if paged and (va + LOWER_END & MASK64) >> 48:
                raise GeneralProtection
            step = min(size, PAGE_SIZE - va % PAGE_SIZE)
            translation = walk(self.cpu.physical, self.cpu, va, write=write, user=user, fetch=fetch)
            pieces.append((translation.gpa, step))
            va, size = va + step & (1 << 64) - 1, size - step
        return pieces

    def read(self, va: int, size: int, *, user: bool = False) -> bytes:
        """`size` bytes of data."""
        physical = self.cpu.physical
        return b"".join(physical.read(gpa, step) for gpa, step in self._pieces(va, size, write=False, user=user))

    def fetch(self, va: int, size: int, *, user: bool = False) -> bytes:
        """`size` bytes of code."""
        pieces = self._pieces(va, size, write=False, user=user, fetch=True)
        return b"".join(self.cpu.physical.read(gpa, step) for gpa, step in pieces)

    def write(self, va: int, data: bytes, *, user: bool = False) -> None:
        """Write bytes, all or none."""
        done = 0
        for gpa, step in self._pieces(va, len(data), write=True, user=user):
            self.cpu.physical.write(gpa, data[done : done + step])
            self.wrote(gpa, step)
            done += step

    def require_writable(self, va: int, size: int, *, user: bool = False) -> None:
        """Raise what `write` would raise."""
        self._pieces(va, size, write=True, user=user)

    def word(self, va: int, *, user: bool = False) -> int:
        """The 64-bit word at an address."""
        return int.from_bytes(self.read(va, 8, user=user), "little")


class NativeCpu(GuestCpu):
    """A guest that has the engine's own registers."""

    def __init__(self, pcpu: PCPU, physical: GuestPhysical) -> None:
        super().__init__(pcpu, physical)
        self.msrs: dict[int, int] = {MSR_APIC_BASE: 0xFEE0_0900, MSR_PAT: 0x0007_0406_0007_0406, MSR_MISC_ENABLE: 1}
        self._places = pcpu.msr_words()

    def reset(self, entry: int, rbx: int) -> None:
        """Set the state in which PVH enters a kernel: 32-bit protected mode, paging off, flat segments, RBX given."""
        state, pcpu = self.state, self.pcpu
        for n in range(16):
            state[n] = 0
        state[cs.RBX] = rbx
        state[RIP] = entry
        state[EFLAGS] = 2
        state[cs.CR0], state[cs.CR2], state[CR3], state[cs.CR4] = 0x11, 0, 0, 0
        state[cs.EFER] = EFER_SVME  # the engine's, not the guest's
        pcpu.set_segment(cs.CS, 8, 0, FLAT_LIMIT, 0x00CF_9B00)
        for register in (cs.DS, cs.ES, cs.SS):
            pcpu.set_segment(register, 16, 0, FLAT_LIMIT, 0x00CF_9300)
        for register in (cs.FS, cs.GS, cs.LDT):
            pcpu.set_segment(register, 0, 0, 0, 0)
        pcpu.set_segment(cs.TR, 0, 0, 0x67, 0x8B00)
        pcpu.set_gdtr(0, 0)
        pcpu.set_segment(cs.IDT, 0, 0, 0, 0)
        state[HFLAGS] = cs.HF_PE | cs.HF_CS32 | cs.HF_SS32 | cs.HF_SVME | cs.HF_GUEST | cs.HF_IOBPT
        pcpu.flush_tlb()

    @property
    def rflags(self) -> int:
        return self.state[EFLAGS]

    @rflags.setter
    def rflags(self, value: int) -> None:
        self.state[EFLAGS] = value & 0x3F_7FD5 | 2

    @property
    def cpl(self) -> int:
        return self.state[HFLAGS] & 3

    @property
    def cr0(self) -> int:
        return self.state[cs.CR0]

    @cr0.setter
    def cr0(self, value: int) -> None:
        raise NotImplementedError("the engine writes CR0 itself")

    @property
    def cr2(self) -> int:
        return self.state[cs.CR2]

    @cr2.setter
    def cr2(self, value: int) -> None:
        self.state[cs.CR2] = value

    @property
    def cr3(self) -> int:
        return self.state[CR3]

    @cr3.setter
    def cr3(self, value: int) -> None:
        self.state[CR3] = value
        self.pcpu.flush_tlb()

    @property
    def cr4(self) -> int:
        return self.state[cs.CR4]

    @cr4.setter
    def cr4(self, value: int) -> None:
        # The engine would take bits that our CPUID does not offer.
        if value & ~CR4_KNOWN or (self.long_mode and not value & CR4_PAE):
            raise GeneralProtection
        state = self.state
        state[cs.CR4] = value
        state[HFLAGS] = state[HFLAGS] & ~cs.HF_OSFXSR | (cs.HF_OSFXSR if value & CR4_OSFXSR else 0)
        self.pcpu.flush_tlb()

    @property
    def cr8(self) -> int:
        return self.msrs.get(-8, 0)

    @cr8.setter
    def cr8(self, value: int) -> None:
        self.msrs[-8] = value & 15

    @property
    def efer(self) -> int:
        return self.state[cs.EFER] & ~EFER_SVME

    @efer.setter
    def efer(self, value: int) -> None:
        kept = self.state[cs.EFER] & EFER_LMA
        self.state[cs.EFER] = value & ~EFER_LMA | kept | EFER_SVME
        self.pcpu.flush_tlb()

    @property
    def gdtr(self) -> Table:
        return Table(self.state[cs.GDT + cs.BASE], self.state[cs.GDT + cs.LIMIT_FLAGS] & 0xFFFF_FFFF)

    @gdtr.setter
    def gdtr(self, value: Table) -> None:
        self.pcpu.set_gdtr(*value)

    @property
    def idtr(self) -> Table:
        return Table(self.state[cs.IDT + cs.BASE], self.state[cs.IDT + cs.LIMIT_FLAGS] & 0xFFFF_FFFF)

    @idtr.setter
    def idtr(self, value: Table) -> None:
        self.pcpu.set_segment(cs.IDT, 0, value.base, value.limit, 0)

    def segment(self, register: int) -> Segment:
        state = self.state
        hidden = state[register + cs.LIMIT_FLAGS]
        return Segment(state[register] & 0xFFFF, state[register + cs.BASE], hidden & 0xFFFF_FFFF, hidden >> 32)

    def set_segment(self, register: int, segment: Segment) -> None:
        self.pcpu.set_segment(register, *segment)
        if register == cs.CS:
            set_code_flags(self.pcpu, segment, self.long_mode, segment.selector & 3)
        elif register == cs.SS:
            set_stack_flags(self.pcpu, segment)

    def read_msr(self, number: int) -> int:
        if number == MSR_EFER:
            return self.efer
        if number == MSR_FS_BASE:
            return self.state[cs.FS_BASE]
        if number == MSR_GS_BASE:
            return self.state[cs.GS_BASE]
        place = self._places.get(number)
        if place is not None:
            return self.state[place]
        if number in self.msrs:
            return self.msrs[number]
        raise GeneralProtection

    def write_msr(self, number: int, value: int) -> None:
        if number == MSR_EFER:
            if value & ~(EFER_SCE | EFER_LME | EFER_LMA | 1 << 11) or (
                self.cr0 & CR0_PG and (value ^ self.efer) & EFER_LME
            ):
                raise GeneralProtection
            self.efer = value
        elif number == MSR_FS_BASE:
            self.state[cs.FS_BASE] = value
        elif number == MSR_GS_BASE:
            self.state[cs.GS_BASE] = value
        elif number in self._places:
            self.state[self._places[number]] = value
        elif number in self.msrs:
            self.msrs[number] = value
        else:
            raise GeneralProtection


def set_code_flags(pcpu: PCPU, segment: Segment, long_mode: bool, cpl: int) -> None:
    """The engine's hidden flags for a CS: CPL and code size."""
    hflags = pcpu.state[HFLAGS] & ~(cs.HF_CPL | cs.HF_CS64 | cs.HF_CS32)
    if long_mode and segment.flags & FLAG_LONG:
        hflags |= cs.HF_CS64 | cs.HF_CS32 | cs.HF_SS32
    elif segment.flags & FLAG_BIG:
        hflags |= cs.HF_CS32
    pcpu.state[HFLAGS] = hflags | cpl


def set_stack_flags(pcpu: PCPU, segment: Segment) -> None:
    """The engine's hidden flag for an SS: stack size (in 64-bit code it is always large)."""
    hflags = pcpu.state[HFLAGS]
    if hflags & cs.HF_CS64 or segment.flags & FLAG_BIG:
        pcpu.state[HFLAGS] = hflags | cs.HF_SS32
    else:
        pcpu.state[HFLAGS] = hflags & ~cs.HF_SS32
