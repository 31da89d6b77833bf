# SPDX-License-Identifier: GPL-2.0-or-later
"""Operands of a decoded instruction on a guest's CPU: registers by part, memory by segment and address.

`Operands` is made for one instruction. Memory is always accessed as the guest would access it: through the segment's
base (and, outside 64-bit code, its limit), at a canonical address, by the guest's own tables with its own privilege.

Invariant: reading or writing a memory operand either does the whole or raises the guest's exception with no effect.

Read beside it: AMD's manual volume 1, 2.2.4 (address calculation) and 3.1.2 (partial registers); volume 2, 4.12
(limits), 5.3.1 (canonical addresses).

Not modelled: expand-down segments, execute-only and read-only segments in 32-bit code, alignment checks.
"""

from __future__ import annotations

from typing import Final

import iced_x86 as iced
from iced_x86 import OpKind, Register

from pvhv.core.mm.stores import ones, set_part
from pvhv.hvm.cpu.guestcpu import GuestCpu
from pvhv.hvm.cpu.memory import GeneralProtection, GuestException
from pvhv.hvm.emulator.decode import Instruction
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import RDI, RIP, RSI, RSP
from pvhv.machine.x86 import MASK32, MASK64, STACK_FAULT

NO_REGISTER: Final = 0
XMM0: Final = 824 // 8  # in the state; eight words each

SEGMENTS: Final[dict[int, int]] = {
    Register.ES: cs.ES, Register.CS: cs.CS, Register.SS: cs.SS,
    Register.DS: cs.DS, Register.FS: cs.FS, Register.GS: cs.GS,
}  # fmt: skip
_IMMEDIATES: Final = frozenset({
    OpKind.IMMEDIATE8, OpKind.IMMEDIATE8_2ND, OpKind.IMMEDIATE16, OpKind.IMMEDIATE32, OpKind.IMMEDIATE64,
    OpKind.IMMEDIATE8TO16, OpKind.IMMEDIATE8TO32, OpKind.IMMEDIATE8TO64, OpKind.IMMEDIATE32TO64,
})  # fmt: skip
# Implicit memory operands: (register, bytes of the address).
_STRINGS: Final[dict[int, tuple[int, int]]] = {
    OpKind.MEMORY_SEG_SI: (RSI, 2), OpKind.MEMORY_SEG_ESI: (RSI, 4), OpKind.MEMORY_SEG_RSI: (RSI, 8),
    OpKind.MEMORY_ESDI: (RDI, 2), OpKind.MEMORY_ESEDI: (RDI, 4), OpKind.MEMORY_ESRDI: (RDI, 8),
}  # fmt: skip


def _general() -> dict[int, tuple[int, int, int]]:
    """The library's register -> (number, shift, size)."""
    table: dict[int, tuple[int, int, int]] = {}
    low = ("AL", "CL", "DL", "BL", "SPL", "BPL", "SIL", "DIL")
    plain = ("AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI")
    registers = vars(Register)
    for n in range(16):
        names = (low[n], plain[n], f"E{plain[n]}", f"R{plain[n]}") if n < 8 else (f"R{n}L", f"R{n}W", f"R{n}D", f"R{n}")
        for name, size in zip(names, (1, 2, 4, 8), strict=True):
            table[registers[name]] = (n, 0, size)
    for n, name in enumerate(("AH", "CH", "DH", "BH")):
        table[registers[name]] = (n, 8, 1)
    return table


GENERAL: Final = _general()
XMM: Final[dict[int, int]] = {Register.XMM0 + n: n for n in range(16)}


def canonical(address: int) -> bool:
    """Whether bits 47 to 63 of an address are equal."""
    return (address + (1 << 47) & MASK64) >> 48 == 0


class Operands:
    """The operands of one instruction, on a CPU."""

    def __init__(self, cpu: GuestCpu, instruction: Instruction) -> None:
        self.cpu = cpu
        self.state = cpu.state
        self.iced = instruction.iced
        self.bits = instruction.bitness
        self.length = instruction.length
        self.user = cpu.cpl == 3

    # -- registers -----------------------------------------------------------------------------------------------------
    def register(self, register: int) -> int:
        """A general register's value."""
        number, shift, size = GENERAL[register]
        return self.state[number] >> shift & ones(size)

    def set_register(self, register: int, value: int) -> None:
        number, shift, size = GENERAL[register]
        set_part(self.state, (number, shift), size, value & ones(size))

    # -- addresses -----------------------------------------------------------------------------------------------------
    def offset(self) -> int:
        """The effective address of the memory operand, without its segment."""
        of = self.iced
        base, index = int(of.memory_base), int(of.memory_index)
        address = of.memory_displacement
        wide = MASK64 if self.bits == 64 else MASK32
        if base in (Register.RIP, Register.EIP):
            address += self.state[RIP]
            wide = MASK64 if base == Register.RIP else MASK32
        elif base != NO_REGISTER:
            address += self.register(base)
            wide = ones(GENERAL[base][2])
        if index != NO_REGISTER:
            address += self.register(index) * of.memory_index_scale
            wide = ones(GENERAL[index][2])
        if base == index == NO_REGISTER and of.memory_displ_size in (2, 4) and self.bits != 64:
            wide = ones(of.memory_displ_size)
        return int(address & wide)

    def string_offset(self, kind: int) -> tuple[int, int]:
        """For an implicit string operand: the register that points to it, and the mask of its bits that are used."""
        register, size = _STRINGS[kind]
        return register, ones(size)

    def linear(self, segment: int, offset: int, size: int) -> int:
        """The linear address of `size` bytes at `offset`. Raises #GP, or #SS for the stack's segment."""
        if self.bits == 64:
            base = self.cpu.segment(segment).base if segment in (cs.FS, cs.GS) else 0
            address = offset + base & MASK64
            if not canonical(address) or not canonical(address + size - 1 & MASK64):
                raise GuestException(STACK_FAULT, 0) if segment == cs.SS else GeneralProtection()
            return address
        register = self.cpu.segment(segment)
        if offset + size - 1 > register.limit:
            raise GuestException(STACK_FAULT, 0) if segment == cs.SS else GeneralProtection()
        return offset + register.base & MASK32

    def address(self, size: int) -> int:
        """The linear address of the memory operand."""
        return self.linear(SEGMENTS[self.iced.memory_segment], self.offset(), size)

    # -- memory --------------------------------------------------------------------------------------------------------
    def load(self, address: int, size: int) -> int:
        """At a linear address."""
        return int.from_bytes(self.cpu.memory.read(address, size, user=self.user), "little")

    def require_writable(self, address: int, size: int) -> None:
        """Raise the exception that a store would raise."""
        self.cpu.memory.require_writable(address, size, user=self.user)

    def store(self, address: int, size: int, value: int) -> None:
        self.cpu.memory.write(address, (value & ones(size)).to_bytes(size, "little"), user=self.user)

    # -- operands by number --------------------------------------------------------------------------------------------
    def is_memory(self, n: int) -> bool:
        return bool(self.iced.op_kind(n) == OpKind.MEMORY)

    def size(self, n: int) -> int:
        """The size of an operand in bytes. An immediate has that of the first operand; if it is the first, two."""
        kind = self.iced.op_kind(n)
        if kind == OpKind.REGISTER:
            register = self.iced.op_register(n)
            return GENERAL[register][2] if register in GENERAL else 2
        if kind in _IMMEDIATES:
            return self.size(0) if n else 2
        return int(iced.MemorySizeExt.size(self.iced.memory_size))

    def read(self, n: int, size: int | None = None) -> int:
        """A register, memory or immediate operand."""
        kind = self.iced.op_kind(n)
        if kind == OpKind.REGISTER:
            register = self.iced.op_register(n)
            if register in SEGMENTS:
                return self.cpu.segment(SEGMENTS[register]).selector
            return self.register(register)
        if kind == OpKind.MEMORY:
            size = size or self.size(n)
            return self.load(self.address(size), size)
        return int(self.iced.immediate(n)) & ones(size or self.size(0))

    def write(self, n: int, value: int, size: int | None = None) -> None:
        """A register or memory operand."""
        if self.iced.op_kind(n) == OpKind.REGISTER:
            self.set_register(self.iced.op_register(n), value)
        else:
            size = size or self.size(n)
            self.store(self.address(size), size, value)

    # -- the stack -----------------------------------------------------------------------------------------------------
    @property
    def stack_mask(self) -> int:
        """The mask of the bits of RSP that are used."""
        if self.bits == 64:
            return MASK64
        return MASK32 if self.cpu.segment(cs.SS).flags >> 22 & 1 else 0xFFFF

    def stack_address(self, offset: int, size: int) -> int:
        """The linear address of `size` bytes, `offset` bytes from the top."""
        return self.linear(cs.SS, self.state[RSP] + offset & self.stack_mask, size)

    def peek(self, offset: int, size: int) -> int:
        return self.load(self.stack_address(offset, size), size)

    def move_stack(self, by: int) -> None:
        mask = self.stack_mask
        self.state[RSP] = self.state[RSP] & ~mask & MASK64 | self.state[RSP] + by & mask

    def push(self, value: int, size: int) -> None:
        self.store(self.stack_address(-size, size), size, value)
        self.move_stack(-size)

    # -- going on ------------------------------------------------------------------------------------------------------
    def next_rip(self) -> int:
        """The RIP behind the instruction."""
        return int(self.state[RIP] + self.length & (MASK64 if self.bits == 64 else MASK32))
