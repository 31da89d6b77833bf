# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends an instruction: single steps, software interrupts, system calls with prefixes, far branches, RF in
frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.engine import opcode_map as om
from tests.engine import records as r
from tests.engine.records import Task

TF, RF = 0x100, 0x1_0000
_STEPPED = {
    "nop": "90", "inc": "48ffc0", "rep movsb": "f3a4", "rep stosq": "f348ab", "mov ss": "8ed2 90 90",
    "pop fs": "0fa1 90", "popf": "9d 90", "pushf": "9c", "jmp": "eb00", "int 0x80": "cd80", "int3": "cc",
    "ud2": "0f0b", "div": "48f7f1", "syscall": "0f05", "lahf": "9f", "cmpxchg": "480fb103", "movaps": "0f28c1",
    "fadd": "d8c1", "load": "488b03",
}  # fmt: skip
_PREFIXED = ["66", "48", "67", "f2", "f3", "2e", "6666666666", "6648", "f366"]
_ENTRIES = {"syscall": "0f05", "sysenter": "0f34", "int3": "cc", "int 0x80": "cd80", "int 3": "cd03", "int 4": "cd04",
            "int 1": "cd01", "icebp": "f1", "cpuid-like ud2": "0f0b", "int 0xff": "cdff", "int 6": "cd06"}  # fmt: skip
_BRANCHES = {"jmp": "ffe2", "call": "ffd2", "jmp mem": "ff23", "call mem": "ff13", "ret": "c3", "ret n": "c20800"}
_TARGETS = {"not canonical": 1 << 63, "just not canonical": 1 << 47, "absent": r.HOLE, "no-execute": r.DATA + 0x100,
            "top": (1 << 64) - 1}  # fmt: skip
_FAULTS = {"ud2": "0f0b", "load": "488b02", "store": "488902", "div": "48f7f6", "hlt": "f4", "mov ss": "8ed0"}


def generate() -> Iterator[Task]:
    """All of them."""
    plain = om.task(b"", 1, 0x90, None, False)
    for name, code in _STEPPED.items():
        stepped = replace(plain, code=bytes.fromhex(code), rflags=0x202 | TF)
        yield replace(stepped, name=f"traps 64 cpl3 TF, {name}")
    for flags in (0x302, 0x202, 0x602, 0x1_0302):
        yield replace(plain, name=f"traps 64 cpl3 popf of {flags:#x}", code=bytes.fromhex("9d 90 90"),
                      stack=flags.to_bytes(8, "little"))  # fmt: skip
    for name, code in _ENTRIES.items():
        for prefix in ("", *_PREFIXED):
            yield replace(plain, name=f"traps 64 cpl3 {prefix or '-'} {name}", code=bytes.fromhex(prefix + code))
    for name, code in _BRANCHES.items():
        for place, target in _TARGETS.items():
            word = target.to_bytes(8, "little")
            regs = list(plain.regs)
            regs[r.RDX] = target
            yield replace(plain, name=f"traps 64 cpl3 {name} to {place}", code=bytes.fromhex(code), regs=tuple(regs),
                          operand=word + bytes(56), stack=word + bytes(56))  # fmt: skip
    for name, code in _FAULTS.items():
        yield replace(plain, name=f"traps 64 cpl3 RF in the frame, {name}", code=bytes.fromhex(code), unmasked=~0x8D5)
