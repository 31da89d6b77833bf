# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that loads a selector, with every selector there is: segment loads, far transfers, IRET, and their kin.

This is how code would change its own privilege. At CPL 3 the processor is asked as well, with the descriptors that
Linux has; at CPL 1 (where no processor would have us) only the law is looked at: that CPL does not become lower, and
that nothing else changes which a guest may not change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

from tests.engine import records as r
from tests.engine.bench import LINUX_LIMIT, SELECTOR_OF
from tests.engine.compare import RF, undefined_flags
from tests.engine.opcode_map import MAP_FX, OPERAND, REGS32, REGS64
from tests.engine.records import Task

TARGET = r.CODE + 0x400
# What the selector is taken from: RDX, memory at [rbx] behind 2, 4 or 8 bytes of offset, or the stack.
_LOADS64 = {
    "mov es,dx": "8ec2", "mov ss,dx": "8ed2", "mov ds,dx": "8eda", "mov fs,dx": "8ee2", "mov gs,dx": "8eea",
    "mov cs,dx": "8eca", "mov ss,rdx": "488ed2", "lar": "0f02c2", "lsl": "0f03c2", "verr": "0f00e2", "verw": "0f00ea",
    "lldt": "0f00d2", "ltr": "0f00da", "lss16": "660fb243", "lss32": "0fb203", "lss64": "480fb203", "lfs32": "0fb403",
    "lgs64": "480fb503", "pop fs": "0fa1", "pop gs": "0fa9", "jmp far32": "ff2b", "jmp far64": "48ff2b",
    "jmp far16": "66ff2b", "call far32": "ff1b", "call far64": "48ff1b", "call far16": "66ff1b", "retf32": "cb",
    "retf64": "48cb", "retf16": "66cb", "retf64 n": "48ca0800", "iret32": "cf", "iret64": "48cf", "iret16": "66cf",
}  # fmt: skip
_LOADS32 = {
    "mov es,dx": "8ec2", "mov ss,dx": "8ed2", "mov ds,dx": "8eda", "mov fs,dx": "8ee2", "mov gs,dx": "8eea",
    "lar": "0f02c2", "verr": "0f00e2", "lss32": "0fb203", "les32": "c403", "lds32": "c503", "lfs32": "0fb403",
    "pop es": "07", "pop ss": "17", "pop ds": "1f", "pop fs": "0fa1", "pop gs": "0fa9", "jmp far32": "ff2b",
    "call far32": "ff1b", "jmp far16": "66ff2b", "retf32": "cb", "retf16": "66cb", "iret32": "cf", "iret16": "66cf",
}  # fmt: skip
_PRIVILEGED = {
    "sysret32": "0f07", "sysret64": "480f07", "sysexit32": "0f35", "sysexit64": "480f35", "swapgs": "0f01f8",
    "vmrun": "0f01d8", "vmload": "0f01da", "vmsave": "0f01db", "stgi": "0f01dc", "clgi": "0f01dd", "skinit": "0f01de",
    "invlpga": "0f01df", "vmmcall": "0f01d9", "rsm": "0faa", "lmsw": "0f01f2", "mov cr0": "0f22c2", "mov cr3": "0f22da",
    "mov cr4": "0f22e2", "mov cr8": "440f22c2", "lgdt": "0f0113", "lidt": "0f011b", "wrmsr": "0f30", "rdmsr": "0f32",
    "clts": "0f06", "mov dr7": "0f23fa", "xsetbv": "0f01d1", "clac": "0f01ca", "stac": "0f01cb",
    "sti": "fb", "cli": "fa",
}  # fmt: skip
# CPUID hides SVM and others; and a processor in a virtual machine would ask its monitor.
_OF_A_MONITOR = ("vm", "stgi", "clgi", "skinit", "invlpga", "xsetbv", "clac", "stac")
# Flags that an IRET or POPF might take from the stack.
_FLAGS = {
    "CF": 1, "TF": 0x100, "IF clear": 0, "DF": 0x400, "IOPL": 0x3000, "NT": 0x4000, "RF": 0x1_0000, "VM": 0x2_0000,
    "AC": 0x4_0000, "VIF": 0x8_0000, "VIP": 0x10_0000, "ID": 0x20_0000, "all": 0x3F_7FD5, "VM only": 0x2_0002,
}  # fmt: skip


def selectors(cpl: int) -> dict[str, int]:
    """Null ones, those of Linux's GDT (but 0x78, whose limit is the CPU's number), and at CPL 1 all of ours: each with
    every RPL."""
    named = {f"{n * 8:#x}": n * 8 for n in range((LINUX_LIMIT + 1) // 8 + 1) if n != 15}
    named |= {"ldt 0x14": 0x14, "far out": 0xFFF8}
    if cpl == 1:
        named |= SELECTOR_OF
    return {f"{name} rpl{rpl}": at | rpl for name, at in named.items() for rpl in range(4)}


def _task(
    name: str, code: str, mode32: bool, cpl: int, selector: int, flags: int = 0x202, ss: int | None = None
) -> Task:
    at = code.removeprefix("66").removeprefix("48")[:2]
    size = 2 if code.startswith("66") else 8 if code.startswith("48") else 4
    data = (0x2B if cpl == 3 else SELECTOR_OF["data-1"] | 1) if ss is None else ss
    words = [selector] if at in ("07", "17", "1f") or code.startswith("0fa") else [TARGET, selector, flags]
    words += [r.STACK + 0x20, data] if len(words) > 1 else []
    stack = b"".join((word & (1 << 8 * size) - 1).to_bytes(size, "little") for word in words)
    if at == "ca":  # the stack outside lies behind what it drops
        stack = stack[:16] + bytes(8) + struct.pack("<QQ", r.STACK + 0x20, data)
    regs = list(REGS32 if mode32 else REGS64)
    regs[r.RDX] = selector
    far = (TARGET & (1 << 8 * size) - 1).to_bytes(size, "little") + struct.pack("<H", selector & 0xFFFF)
    raw = bytes.fromhex(code)
    return Task(
        name=f"{'32' if mode32 else '64'} cpl{cpl} {name}", code=raw, regs=tuple(regs), mode32=mode32, cpl=cpl,
        fx=MAP_FX, operand=far + OPERAND[len(far) :], stack=stack[:64],
        unmasked=~(RF | undefined_flags(raw + b"\xf4" * 8, mode32)), native=cpl == 3,
    )  # fmt: skip


def enumerate_descriptors(mode32: bool, cpl: int) -> Iterator[Task]:
    """Every task of a mode and a ring."""
    for load, code in (_LOADS32 if mode32 else _LOADS64).items():
        for name, selector in selectors(cpl).items():
            yield _task(f"{load}, {name}", code, mode32, cpl, selector)
    own = {(False, 3): 0x33, (True, 3): 0x23}.get((mode32, cpl), SELECTOR_OF["code32-1" if mode32 else "code64-1"] | 1)
    outer = SELECTOR_OF["code64-3"] | 3
    for load, code in {"iret32": "cf", "iret64": "48cf", "iret16": "66cf"}.items():
        if mode32 and load == "iret64":
            continue
        for name, flags in _FLAGS.items():
            yield _task(f"{load} with {name}", code, mode32, cpl, own, flags | 2)
            if cpl == 1:
                yield _task(f"{load} outwards with {name}", code, mode32, cpl, outer, flags | 2, 0x2B)
        for name, selector in selectors(cpl).items():
            yield _task(f"{load}, SS {name}", code, mode32, cpl, own, ss=selector)
            if cpl == 1:
                yield _task(f"{load} outwards, SS {name}", code, mode32, cpl, outer, ss=selector)
    for name, flags in _FLAGS.items():
        for load, code in {"popf": "9d", "popf16": "669d"}.items():
            task = _task(f"{load} with {name}", code, mode32, cpl, own)
            yield replace(task, stack=struct.pack("<Q", flags | 2))
    for load, code in {"iret": "cf", "iret16": "66cf"}.items():
        task = _task(f"{load} under NT", code, mode32, cpl, own)
        yield replace(task, rflags=0x4202)
    for load, code in _PRIVILEGED.items():
        task = _task(load, code, mode32, cpl, 0x8005_0013)
        yield replace(task, native=task.native and not load.startswith(_OF_A_MONITOR))
