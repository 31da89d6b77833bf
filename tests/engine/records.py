# SPDX-License-Identifier: GPL-2.0-or-later
"""A case and what came of it: the same two records for the processor and for the engine.

A task is up to 64 bytes of code and everything it can see: registers, flags, floating point, a few lines of memory.
An outcome is how it ended, and all of that afterwards. Code is surrounded by HLT, which no user may execute: the case
that ran to its end shows as #GP(0) with RIP behind it, so nobody need know how long an instruction is.

| address    | what                                                                | may   |
|------------|---------------------------------------------------------------------|-------|
| CODE       | the code at CODE + AT, HLT before and behind it                     | r-x   |
| DATA       | two pages of a pattern; OPERAND and STACK are the case's own lines  | rw-   |
| READ_ONLY  | zeroes                                                              | r--   |
| SUPERVISOR | in the engine a page of the kernel's; natively nothing              | ---   |
| HOLE       | nothing                                                             | ---   |

Both structures are those of processor.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

CODE, DATA, READ_ONLY, HOLE, SUPERVISOR = 0x10_0000, 0x14_0000, 0x14_2000, 0x14_3000, 0x14_6000
AT: Final = 0x800  # where on its page the code is
OPERAND, STACK = DATA + 0x800, DATA + 0x1800
DATA_BYTES: Final = 8192
PATTERN: Final = bytes((n * 7 + (n >> 8)) & 0xFF for n in range(DATA_BYTES))
FX_BYTES: Final = 416  # of FXSAVE's 512: x87 and SSE, without what is reserved

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)
REGISTERS: Final = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
SELECTORS: Final = "es cs ss ds fs gs".split()

# How a case ended: below 32 the vector of an exception; else one of these.
SYSCALL, INT80, DIED, ENDLESS = 0x100, 0x180, 0x200, 0x300
# Only the engine's side: code got where none may get (`breach` says how), or the engine gave up.
BREACH, GAVE_UP = 0x400, 0x500
BREACHES: Final = (
    "CPL is lower", "hidden flags are others", "virtual-8086 mode", "a ring that is not CS's",
    "another CR0", "another CR3", "another CR4",
    "another EFER", "another GDTR", "another GDTR", "another IDTR", "another IDTR", "another LDTR", "another LDTR",
    "another TR", "another TR", "another DR7", "another VMCB", "other intercepts",
)  # fmt: skip

_TASK = struct.Struct("<64sI2H16QQ2Q416s128s64s")
_OUTCOME = struct.Struct("<2I2Q16QQ2Q6HI416s32Q")
TASK_BYTES, OUTCOME_BYTES = _TASK.size, _OUTCOME.size

DEFAULT_FX: Final = struct.pack("<HHBBHQQII", 0x37F, 0, 0, 0, 0, 0, 0, 0x1F80, 0xFFFF) + bytes(FX_BYTES - 32)


@dataclass(frozen=True)
class Task:
    """One case. `name` is for people and for the patterns in differences.toml; it is unique in a suite."""

    name: str
    code: bytes
    regs: tuple[int, ...]
    rflags: int = 0x202
    mode32: bool = False
    cpl: int = 3
    fx: bytes = DEFAULT_FX
    operand: bytes = bytes(128)
    stack: bytes = bytes(64)
    bases: tuple[int, int] = (0, 0)
    unmasked: int = 0xFFFF_FFFF_FFFF_FFFF  # the bits of RFLAGS that are compared
    blind: tuple[int, int] = (0, 0)  # from and to where of the data nothing is compared
    native: bool = True  # whether the processor is to be asked: not of what CPUID hides
    tags: frozenset[str] = field(default=frozenset())

    def pack(self) -> bytes:
        return _TASK.pack(
            self.code.ljust(64, b"\xf4"), AT, self.mode32, self.cpl, *self.regs, self.rflags, *self.bases,
            self.fx, self.operand.ljust(128, b"\0"), self.stack.ljust(64, b"\0"),
        )  # fmt: skip

    def at(self, cpl: int) -> Task:
        """The same on another ring."""
        return replace(self, cpl=cpl, name=self.name.replace(f"cpl{self.cpl}", f"cpl{cpl}"))


class Outcome(NamedTuple):
    """What came of a task."""

    kind: int
    error: int
    cr2: int
    rip: int
    regs: tuple[int, ...]
    rflags: int
    bases: tuple[int, int]
    selectors: tuple[int, ...]
    changes: int
    fx: bytes
    changed: tuple[tuple[int, int], ...]

    def pack(self) -> bytes:
        flat = [word for pair in self.changed[:16] for word in pair]
        return _OUTCOME.pack(
            self.kind, self.error, self.cr2, self.rip, *self.regs, self.rflags, *self.bases, *self.selectors,
            self.changes, self.fx, *flat, *[0] * (32 - len(flat)),
        )  # fmt: skip

    @property
    def ended(self) -> bool:
        """Whether it ran to an HLT of ours."""
        return self.kind == 13 and self.error == 0 and CODE <= self.rip < CODE + 4096 and self.rip != CODE + AT


def unpack(data: bytes | memoryview, index: int) -> Outcome:
    """Outcome number `index` of a batch."""
    w = _OUTCOME.unpack_from(data, index * OUTCOME_BYTES)
    changes = w[29]
    pairs = w[31:]
    changed = tuple((pairs[2 * n], pairs[2 * n + 1]) for n in range(min(changes, 16)))
    kind, error, cr2, rip = w[:4]
    return Outcome(kind, error, cr2, rip, w[4:20], w[20], w[21:23], w[23:29], changes, w[30], changed)


class Raw(NamedTuple):
    """A task as the engine's side has it."""

    code: bytes
    mode32: bool
    cpl: int
    regs: tuple[int, ...]
    rflags: int
    bases: tuple[int, int]
    fx: bytes
    operand: bytes
    stack: bytes


def unpack_task(data: bytes | memoryview, index: int) -> Raw:
    """Task number `index` of a batch."""
    w = _TASK.unpack_from(data, index * TASK_BYTES)
    return Raw(w[0], bool(w[2]), w[3], w[4:20], w[20], w[21:23], *w[23:])


def describe(kind: int, error: int = 0) -> str:
    """An ending in words."""
    names = {0: "DE", 1: "DB", 3: "BP", 4: "OF", 5: "BR", 6: "UD", 7: "NM", 8: "DF", 10: "TS", 11: "NP", 12: "SS"}
    names |= {13: "GP", 14: "PF", 16: "MF", 17: "AC", 19: "XF"}
    if kind < 32:
        name = names.get(kind, str(kind))
        return f"#{name}({error:#x})" if kind in (8, 10, 11, 12, 13, 14, 17) else f"#{name}"
    if kind & ~0xFF == DIED:
        return f"died of signal {kind & 0xFF}" if kind & 0xFF else "died and said so"
    words = {SYSCALL: "a system call", INT80: "int 0x80", ENDLESS: "no end", GAVE_UP: "the engine gave up"}
    if kind & ~0xFF == BREACH:
        return f"a breach: {BREACHES[kind - BREACH]}, without an exit"
    return words.get(kind, f"kind {kind:#x}")
