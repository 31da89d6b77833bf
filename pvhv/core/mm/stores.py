# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions that store to memory: decoding them, and what they compute.

`decode` turns the bytes at RIP into a `Store`: which operation, on how many bytes, where, with what other operand.
`OPERATIONS` says what each read-modify-write operation makes of the old value and the arithmetic flags. Flags that the
manuals leave undefined get the values of a real processor.

Addresses are computed without segment bases, as in Xen. So for a store relative to FS or GS the computed address is not
the one that faulted, and the caller does not carry it out.

Not modelled: stores Xen's emulator knows besides these (push and call, pop, shifts and rotates, setcc, x87 and SSE
stores), and with them page tables on a stack.

Read beside it: xen/arch/x86/x86_emulate/x86_emulate.c; the AMD64 manual volume 3, appendix A.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pvhv.machine.cpustate import AF, ARITHMETIC_FLAGS, CF, OF, PF, RAX, RDI, SF, ZF
from pvhv.machine.x86 import MASK32, MASK64

REX_B, REX_X, REX_R, REX_W = 1, 2, 4, 8
IGNORED_PREFIXES = frozenset((0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65, 0xF0))  # segments, lock
OPERAND_SIZE, ADDRESS_SIZE, REPNE, REP = 0x66, 0x67, 0xF2, 0xF3

# -- what is decoded -------------------------------------------------------------------------------------------
# The other operand: a register by ModRM.reg, an immediate (whole or a byte), rAX, none; or none and no ModRM.
REGISTER, IMMEDIATE, BYTE_IMMEDIATE, NOTHING, MOFFS, STRING = range(6)
ALU = ("add", "or", "adc", "sbb", "and", "sub", "xor")
BIT_IMMEDIATE = 0x0FBA

# Opcode -> operation (or operations, by ModRM.reg) and other operand. Even opcodes are those on bytes (but for 0fba).
FORMS: dict[int, tuple[str | tuple[str | None, ...], int]] = {
    0x80: (ALU, BYTE_IMMEDIATE),
    0x81: (ALU, IMMEDIATE),
    0x83: (ALU, BYTE_IMMEDIATE),
    0xA2: ("mov", MOFFS),
    0xA3: ("mov", MOFFS),
    0xC6: (("mov",), BYTE_IMMEDIATE),
    0xC7: (("mov",), IMMEDIATE),
    0x0FAB: ("bts", REGISTER),
    0x0FB3: ("btr", REGISTER),
    0x0FBB: ("btc", REGISTER),
    BIT_IMMEDIATE: ((None, None, None, None, None, "bts", "btr", "btc"), BYTE_IMMEDIATE),
    0x0FC3: ("mov", REGISTER),  # movnti
    0x0FC7: ((None, "cmpxchg8b"), NOTHING),
}
_byte_and_wide: tuple[tuple[int, str | tuple[str | None, ...], int], ...] = (
    *((8 * number, name, REGISTER) for number, name in enumerate(ALU)),
    (0x86, "xchg", REGISTER),
    (0x88, "mov", REGISTER),
    (0xA4, "movs", STRING),
    (0xAA, "stos", STRING),
    (0xF6, (None, None, "not", "neg"), NOTHING),
    (0xFE, ("inc", "dec"), NOTHING),
    (0x0FB0, "cmpxchg", REGISTER),
    (0x0FC0, "xadd", REGISTER),
)
for _opcode, _operation, _other in _byte_and_wide:
    FORMS[_opcode] = FORMS[_opcode | 1] = (_operation, _other)


class Store(NamedTuple):
    """One decoded instruction."""

    operation: str
    size: int  # of what it stores, in bytes
    address: int  # of what it stores, without a segment base
    end: int  # RIP behind it
    source: int  # the other operand's value
    register: tuple[int, int]  # the register that is the other operand: number, and shift of the part that is meant
    address_mask: int  # 32 or 64 bits
    repeated: bool


def decode(code: bytes, rip: int, state: memoryview) -> Store | None:
    """The store instruction at the beginning of `code`, the up to 15 bytes at `rip`; None if it is not a known one."""
    length = len(code)
    code += bytes(16)  # what is read behind the end is refused when the length is known
    at = rex = 0
    size, address_mask, repeated = 4, MASK64, False
    while True:
        byte = code[at]
        if byte & 0xF0 == 0x40:
            rex = byte
        else:
            if byte == OPERAND_SIZE:
                size = 2
            elif byte == ADDRESS_SIZE:
                address_mask = MASK32
            elif byte in (REP, REPNE):
                repeated = True
            elif byte not in IGNORED_PREFIXES:
                break
            rex = 0  # counts only directly before the opcode
        at += 1
    opcode = byte
    at += 1
    if opcode == 0x0F:
        opcode = 0x0F00 | code[at]
        at += 1
    if opcode not in FORMS:
        return None
    operations, other = FORMS[opcode]
    operation = operations if isinstance(operations, str) else None
    if rex & REX_W:
        size = 8
    if not opcode & 1 and opcode != BIT_IMMEDIATE:
        size = 1

    register = (RAX, 0)
    relative = False
    if other == MOFFS:
        width = 8 if address_mask == MASK64 else 4
        address = int.from_bytes(code[at : at + width], "little")
        at += width
    elif other == STRING:
        address = state[RDI]
    else:
        modrm = code[at]
        if modrm >= 0xC0:
            return None  # stores to a register
        number = modrm >> 3 & 7
        if isinstance(operations, str):
            register = part(number | (rex & REX_R) << 1, size, rex)
        elif number < len(operations):
            operation = operations[number]
        address, at, relative = effective_address(code, at, rex, state)
    if operation is None:
        return None
    if operation == "cmpxchg8b":
        size = 16 if rex & REX_W else 8

    source = state[register[0]] >> register[1] & ones(size)
    if other in (IMMEDIATE, BYTE_IMMEDIATE):
        width = 1 if other == BYTE_IMMEDIATE else min(size, 4)
        source = signed(code, at, width) & ones(size)
        at += width
    end = rip + at & MASK64
    if at > length:
        return None
    if relative:
        address += end
    if operation in ("bts", "btr", "btc") and other == REGISTER:
        # The bit may be anywhere: so many operands before or behind the one that is addressed.
        offset = source - (1 << 8 * size) if source >> 8 * size - 1 else source
        address += (offset // (8 * size)) * size
    return Store(operation, size, address & address_mask, end, source, register, address_mask, repeated)


def effective_address(code: bytes, at: int, rex: int, state: memoryview) -> tuple[int, int, bool]:
    """For the ModRM byte at `at`: (address, index in `code` behind the operand, whether it is relative to RIP)."""
    mode, base = code[at] >> 6, code[at] & 7
    at += 1
    address = 0
    relative = no_base = mode == 0 and base == 5
    if base == 4:
        sib = code[at]
        at += 1
        base = sib & 7
        no_base = mode == 0 and base == 5
        index = sib >> 3 & 7 | (rex & REX_X) << 2
        if index != 4:
            address = state[index] << (sib >> 6)
    if not no_base:
        address += state[base | (rex & REX_B) << 3]
    width = 4 if no_base or mode == 2 else mode
    return address + signed(code, at, width), at + width, relative


def part(number: int, size: int, rex: int) -> tuple[int, int]:
    """A register operand: number and shift (AH, CH, DH, BH are the second bytes of registers 0..3)."""
    if size == 1 and not rex and number >= 4:
        return number - 4, 8
    return number, 0


def set_part(state: memoryview, register: tuple[int, int], size: int, value: int) -> None:
    """Write a register operand: four bytes clear the upper half, fewer leave the rest."""
    number, shift = register
    if size < 4:
        value = state[number] & ~(ones(size) << shift) | value << shift
    state[number] = value


def ones(size: int) -> int:
    """So many bytes of set bits."""
    return (1 << 8 * size) - 1


def signed(code: bytes, at: int, width: int) -> int:
    """A displacement or immediate."""
    return int.from_bytes(code[at : at + width], "little", signed=True)


# -- what is computed ------------------------------------------------------------------------------------------
Operation = Callable[[int, int, int, int], tuple[int, int]]
"""operation(old, source, bits, flags) -> (value to store, new flags)."""


def judged(result: int, bits: int, flags: int) -> int:
    """`flags` with SF, ZF and PF of `result`, and the other arithmetic flags clear."""
    flags &= ~ARITHMETIC_FLAGS
    if not result:
        flags |= ZF
    if result >> bits - 1:
        flags |= SF
    return flags if (result & 0xFF).bit_count() & 1 else flags | PF


def add(old: int, source: int, bits: int, flags: int, carry: int = 0) -> tuple[int, int]:
    """old + source + carry."""
    total = old + source + carry
    result = total & (1 << bits) - 1
    flags = judged(result, bits, flags) | (old ^ source ^ result) & AF
    overflows = ((old ^ result) & (source ^ result)) >> bits - 1
    return result, flags | (CF if total >> bits else 0) | (OF if overflows else 0)


def subtract(old: int, source: int, bits: int, flags: int, borrow: int = 0) -> tuple[int, int]:
    """old - source - borrow; also what a comparison does to flags."""
    total = old - source - borrow
    result = total & (1 << bits) - 1
    flags = judged(result, bits, flags) | (old ^ source ^ result) & AF
    overflows = ((old ^ source) & (old ^ result)) >> bits - 1
    return result, flags | (CF if total < 0 else 0) | (OF if overflows else 0)


def keep_carry(operation: Operation) -> Operation:
    """inc and dec: by one, and CF stays."""

    def by_one(old: int, source: int, bits: int, flags: int) -> tuple[int, int]:
        result, after = operation(old, 1, bits, flags)
        return result, after & ~CF | flags & CF

    return by_one


def logic(combine: Callable[[int, int], int]) -> Operation:
    """and, or, xor."""

    def combined(old: int, source: int, bits: int, flags: int) -> tuple[int, int]:
        result = combine(old, source)
        return result, judged(result, bits, flags)

    return combined


def change_bit(change: Callable[[int, int], int]) -> Operation:
    """bts, btr, btc: CF becomes the old bit."""

    def changed(old: int, source: int, bits: int, flags: int) -> tuple[int, int]:
        bit = 1 << (source & bits - 1)
        return change(old, bit), flags | CF if old & bit else flags & ~CF

    return changed


OPERATIONS: dict[str, Operation] = {
    "add": add,
    "adc": lambda old, source, bits, flags: add(old, source, bits, flags, flags & CF),
    "sub": subtract,
    "sbb": lambda old, source, bits, flags: subtract(old, source, bits, flags, flags & CF),
    "inc": keep_carry(add),
    "dec": keep_carry(subtract),
    "neg": lambda old, source, bits, flags: subtract(0, old, bits, flags),
    "not": lambda old, source, bits, flags: (old ^ (1 << bits) - 1, flags),
    "and": logic(lambda old, source: old & source),
    "or": logic(lambda old, source: old | source),
    "xor": logic(lambda old, source: old ^ source),
    "bts": change_bit(lambda old, bit: old | bit),
    "btr": change_bit(lambda old, bit: old & ~bit),
    "btc": change_bit(lambda old, bit: old ^ bit),
    "xchg": lambda old, source, bits, flags: (source, flags),
    "xadd": add,
}
