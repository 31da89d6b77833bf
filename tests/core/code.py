# SPDX-License-Identifier: GPL-2.0-or-later
"""Machine code of a few instructions, written as one would write it in assembly.

A test that needs a dozen guest instructions says which, here, instead of carrying a C kernel:

    code = Code(at=0x1000)
    code.mov(RBX, 0)
    again = code.here
    code.inc_memory(COUNTER).jmp(again)

Every method is an instruction, appends its bytes and returns the Code; jumps take addresses, `here` is the next one.
Instructions without a method go in as `raw("0f 30")`, with the mnemonic beside them.
"""

from __future__ import annotations

import struct

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)


class Code:
    """Instructions one after another, beginning at address `at`."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.bytes = bytearray()

    @property
    def here(self) -> int:
        """Where the next instruction goes."""
        return self.at + len(self.bytes)

    def raw(self, code: str | bytes) -> Code:
        """Bytes, as hexadecimal text or as they are."""
        self.bytes += bytes.fromhex(code) if isinstance(code, str) else code
        return self

    def align(self, size: int) -> Code:
        """nops up to a multiple of `size`."""
        return self.raw(b"\x90" * (-len(self.bytes) % size))

    def mov(self, register: int, value: int) -> Code:
        """mov $value, %register (64 bits)"""
        value &= 0xFFFF_FFFF_FFFF_FFFF
        return self.raw(struct.pack("<BBQ", 0x48 | register >> 3, 0xB8 | register & 7, value))

    def move(self, to: int, of: int) -> Code:
        """mov %of, %to (64 bits)"""
        return self.raw(bytes((0x48 | of >> 3 << 2 | to >> 3, 0x89, 0xC0 | (of & 7) << 3 | to & 7)))

    def store(self, address: int, register: int) -> Code:
        """mov %register, (address), by way of %r15"""
        self.mov(R15, address)
        return self.raw(bytes((0x49 | register >> 3 << 2, 0x89, 0x07 | (register & 7) << 3)))

    def load(self, register: int, address: int) -> Code:
        """mov (address), %register, by way of %r15"""
        self.mov(R15, address)
        return self.raw(bytes((0x49 | register >> 3 << 2, 0x8B, 0x07 | (register & 7) << 3)))

    def inc(self, register: int) -> Code:
        """inc %register"""
        return self.raw(bytes((0x48 | register >> 3, 0xFF, 0xC0 | register & 7)))

    def inc_memory(self, address: int) -> Code:
        """incq (address), by way of %r15"""
        return self.mov(R15, address).raw("49 ff 07")

    def add(self, register: int, value: int) -> Code:
        """add $value, %register"""
        return self.raw(struct.pack("<BBBi", 0x48 | register >> 3, 0x81, 0xC0 | register & 7, value))

    def cmp(self, register: int, value: int) -> Code:
        """cmp $value, %register"""
        return self.raw(struct.pack("<BBBi", 0x48 | register >> 3, 0x81, 0xF8 | register & 7, value))

    def push(self, register: int) -> Code:
        """push %register"""
        return self.raw(bytes((0x40 | register >> 3, 0x50 | register & 7)))

    def pop(self, register: int) -> Code:
        """pop %register"""
        return self.raw(bytes((0x40 | register >> 3, 0x58 | register & 7)))

    def jmp(self, target: int) -> Code:
        """jmp target"""
        return self.raw(struct.pack("<Bi", 0xE9, target - self.here - 5))

    def jne(self, target: int) -> Code:
        """jne target"""
        return self.raw(struct.pack("<BBi", 0x0F, 0x85, target - self.here - 6))

    def call(self, target: int) -> Code:
        """call target"""
        return self.raw(struct.pack("<Bi", 0xE8, target - self.here - 5))

    def ret(self) -> Code:
        """ret"""
        return self.raw("c3")

    def syscall(self) -> Code:
        """syscall"""
        return self.raw("0f 05")

    def ud2(self) -> Code:
        """ud2"""
        return self.raw("0f 0b")

    def hypercall(self, number: int, *arguments: int) -> Code:
        """A hypercall with constant arguments; the result is in %rax."""
        for register, value in zip((RDI, RSI, RDX, R10, R8, R9), arguments, strict=False):
            self.mov(register, value)
        return self.mov(RAX, number).syscall()
