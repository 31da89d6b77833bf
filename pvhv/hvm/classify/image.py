# SPDX-License-Identifier: GPL-2.0-or-later
"""A row as a micro guest: its code and its descriptor tables, in six pages that run anywhere below 2 GiB.

| page | what |
|------|------|
| 0    | code: the prologue, the row's `before`, its body, the ending; handlers at HANDLERS |
| 1    | GDT |
| 2    | IDT: #UD, #GP, int 0x80 and int 0x82 |
| 3    | TSS at 0, a second TSS at 0x100, LDT at 0x200 |
| 4, 5 | stack |

Contract with the caller: it enters the guest at its first byte, in 64-bit mode at ring 0 (or the guest's ring 0), IF
clear, IOPL 0, its pages mapped present, writable, executable and user at virtual = loaded address. It sets up
everything else it needs. When the `ending` (the caller's bytes, valid in 64-bit and in 32-bit code) runs, the registers
are to be compared with the row's `wants`; the ring may be 1, and the mode compatibility mode.

Invariant: only the code differs from row to row. It does not know rings or monitors. Read beside it: AMD64 manual,
volume 2, chapter 4 (descriptors), 8.9 (the long-mode IDT), 12.2.5 (the 64-bit TSS).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pvhv.hvm.classify.row import FAULT, INVALID, SYSTEM_CALL, Row, assemble, listing
from pvhv.machine.ram import PAGE_SIZE
from pvhv.machine.x86 import FLAT_CODE32, FLAT_CODE64, FLAT_DATA

PAGES: Final = 6
GDT, IDT, SYSTEM, STACK_TOP = PAGE_SIZE, 2 * PAGE_SIZE, 3 * PAGE_SIZE, 6 * PAGE_SIZE - 0x400
TSS, TSS_2, LDT = SYSTEM, SYSTEM + 0x100, SYSTEM + 0x200
RING0_STACK: Final = 5 * PAGE_SIZE  # in the TSS: where an interrupt of ring 1 or 3 puts its frame
HANDLERS: Final = 0x800

# Selectors of the guest's GDT, in the order SYSCALL and SYSRET ask for.
KERNEL_CS, KERNEL_DS, KERNEL_CS32 = 0x08, 0x10, 0x18
RING1_CS, RING1_DS, USER_DS, USER_CS = 0x21, 0x29, 0x33, 0x3B
LDT_SELECTOR, TSS_SELECTOR, TSS_2_SELECTOR = 0x40, 0x50, 0x60
GDT_LIMIT, IDT_LIMIT, TSS_LIMIT, LDT_LIMIT = 0x6F, 0x82 * 16 + 15, 0x67, 0x0F

INT_CLOSED, INT_OPEN = 0x80, 0x82
"""The guest's own IDT opens both to ring 3; bench.py's monitor opens only the second."""

CODE64, CODE32, DATA = FLAT_CODE64, FLAT_CODE32, FLAT_DATA


def flat(flags: int, dpl: int) -> int:
    """A segment descriptor with base 0 and a limit of 4 GiB."""
    return (flags | dpl << 13 | 0xF0000) << 32 | 0xFFFF


def system(kind: int, base: int, limit: int) -> list[int]:
    """A 16-byte descriptor of an LDT (2) or an available TSS (9), DPL 0."""
    low = limit | (base & 0xFFFFFF) << 16 | (0x80 | kind) << 40 | (base >> 24 & 0xFF) << 56
    return [low, base >> 32]


def gate(selector: int, offset: int, dpl: int) -> list[int]:
    """A 64-bit interrupt gate."""
    low = offset & 0xFFFF | selector << 16 | (0x8E | dpl << 5) << 40 | (offset >> 16 & 0xFFFF) << 48
    return [low, offset >> 32]


def descriptors(base: int) -> list[int]:
    """The guest's GDT."""
    return [
        0, flat(CODE64, 0), flat(DATA, 0), flat(CODE32, 0), flat(CODE64, 1), flat(DATA, 1), flat(DATA, 3),
        flat(CODE64, 3), *system(2, base + LDT, LDT_LIMIT), *system(9, base + TSS, TSS_LIMIT),
        *system(9, base + TSS_2, TSS_LIMIT),
    ]  # fmt: skip


def task(ring0_stack: int) -> bytes:
    """A 64-bit TSS without I/O permissions: the map would begin behind its limit."""
    return struct.pack("<IQ", 0, ring0_stack).ljust(0x66, b"\0") + struct.pack("<H", TSS_LIMIT + 1)


@dataclass(frozen=True)
class Image:
    base: int
    data: bytes
    body: int
    """Address of the body's first instruction, ..."""
    ending: int
    """... of the ending, ..."""
    marked: tuple[int, ...]
    """... and of the instructions the row is about."""
    wants: dict[str, int]


def _prologue(base: int) -> str:
    def u32(value: int) -> str:
        return value.to_bytes(4, "little").hex()

    def u64(value: int) -> str:
        return value.to_bytes(8, "little").hex()

    def table(opcode: str, address: int, limit: int) -> str:
        return f"""
            66c70424{limit.to_bytes(2, "little").hex()}  mov word ptr [rsp], {limit:#x}
            48b8{u64(address)}  movabs rax, {address:#x}
            4889442402  mov qword ptr [rsp + 2], rax
            {opcode}  {"lgdt" if opcode == "0f011424" else "lidt"} [rsp]"""

    return f"""
        48bc{u64(base + STACK_TOP)}  movabs rsp, {base + STACK_TOP:#x}
        4883ec10  sub rsp, 0x10
        {table("0f011424", base + GDT, GDT_LIMIT)}
        {table("0f011c24", base + IDT, IDT_LIMIT)}
        4883c410  add rsp, 0x10
        6a08  push 8
        68{{inside}}  push inside
        48cb  retfq
        inside:
        b810000000  mov eax, 0x10
        8ed0  mov ss, eax
        8ed8  mov ds, eax
        8ec0  mov es, eax
        31c0  xor eax, eax
        8ee0  mov fs, eax
        8ee8  mov gs, eax
        b8{u32(LDT_SELECTOR)}  mov eax, 0x40
        0f00d0  lldt ax
        b8{u32(TSS_SELECTOR)}  mov eax, 0x50
        0f00d8  ltr ax
        """


_ZERO = """
    31c0  xor eax, eax
    31db  xor ebx, ebx
    31c9  xor ecx, ecx
    31d2  xor edx, edx
    """
_ENTER_32 = f"""
    6a{KERNEL_CS32:02x}  push 0x18
    68{{narrow}}  push narrow
    48cb  retfq
    narrow:
    """


def image(row: Row, base: int, ending: bytes = b"\x0f\x0b") -> Image:
    """The micro guest of a row, to be loaded at `base`."""
    if base % PAGE_SIZE or not 0 < base < 0x7FFF_0000:
        raise ValueError(f"a micro guest lies on a page below 2 GiB, not at {base:#x}")
    enter = _ENTER_32 if row.mode == 32 else ""
    slots = {n: base + HANDLERS + 16 * at for at, n in enumerate((INVALID, FAULT, INT_CLOSED, INT_OPEN, SYSTEM_CALL))}
    known = {"gdt": base + GDT, "idt": base + IDT, "entry": slots[SYSTEM_CALL]}
    before, _ = assemble(listing(_prologue(base) + row.before + _ZERO + enter), base, known)
    body = base + len(before)
    code, marked = assemble(listing(row.body), body, known)
    end = body + len(code)
    data = bytearray(PAGES * PAGE_SIZE)
    data[: len(before) + len(code) + len(ending)] = before + code + ending
    assert end + len(ending) <= base + HANDLERS
    for number, at in slots.items():
        handler = (b"\x5b" if number == FAULT else b"") + b"\xb9" + struct.pack("<I", number)  # pop rbx; mov ecx, n
        handler += b"\xe9" + struct.pack("<i", end - (at + len(handler) + 5))  # jmp ending
        data[at - base : at - base + len(handler)] = handler
    table = descriptors(base)
    struct.pack_into(f"<{len(table)}Q", data, GDT, *table)
    for vector, dpl in ((INVALID, 0), (FAULT, 0), (INT_CLOSED, 3), (INT_OPEN, 3)):
        struct.pack_into("<2Q", data, IDT + 16 * vector, *gate(KERNEL_CS, slots[vector], dpl))
    for offset in (TSS, TSS_2):
        data[offset : offset + TSS_LIMIT + 1] = task(base + RING0_STACK)
    struct.pack_into("<Q", data, LDT + 8, flat(DATA, 0))
    wants = {name: known[value] if isinstance(value, str) else value for name, value in row.wants.items()}
    return Image(base, bytes(data), body, end, tuple(marked), wants)
