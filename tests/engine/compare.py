# SPDX-License-Identifier: GPL-2.0-or-later
"""What is another in two outcomes of one task, said in one short line; and what is not compared.

Where the ending differs (the vector, the error code, the address of a fault), only that is said: everything else
follows. The architecturally undefined flags are iced-x86's table of them, which is the manuals'; they are asked for of
each instruction that the task may execute. Not compared: the pointers to the last x87 instruction and its operand (AMD
stores them only while an exception is pending), reserved bytes of FXSAVE's area, and RF but where a task asks for it.
"""

from __future__ import annotations

import struct

import iced_x86 as iced

from tests.engine import records as r
from tests.engine.records import Outcome, Task, describe

_FLAGS = {1: "CF", 4: "PF", 0x10: "AF", 0x40: "ZF", 0x80: "SF", 0x100: "TF", 0x200: "IF", 0x400: "DF", 0x800: "OF"}
_FLAGS |= {0x3000: "IOPL", 0x4000: "NT", 0x1_0000: "RF", 0x2_0000: "VM", 0x4_0000: "AC", 0x20_0000: "ID"}
_ICED = {
    iced.RflagsBits.CF: 1, iced.RflagsBits.PF: 4, iced.RflagsBits.AF: 0x10, iced.RflagsBits.ZF: 0x40,
    iced.RflagsBits.SF: 0x80, iced.RflagsBits.OF: 0x800,
}  # fmt: skip
RF = 0x1_0000
# Shifts and rotates: by 0 they leave all flags alone.
_MAY_KEEP = {
    getattr(iced.Mnemonic, name) for name in "SHL SAL SHR SAR ROL ROR RCL RCR SHLD SHRD".split()
}  # fmt: skip


def undefined_flags(code: bytes, mode32: bool) -> int:
    """The flags that the manuals leave undefined after this code (of one instruction, or of several in a row)."""
    mask = 0
    for instruction in iced.Decoder(32 if mode32 else 64, code):
        if instruction.code == iced.Code.INVALID:
            break
        undefined = _bits_of(instruction.rflags_undefined)
        if instruction.mnemonic not in _MAY_KEEP:
            mask &= ~_bits_of(instruction.rflags_modified)
        mask |= undefined
        if instruction.mnemonic in _MAY_KEEP and instruction.op_count > 1 and instruction.rflags_modified == 0:
            mask |= _bits_of(iced.RflagsBits.OF)  # a whole turn through the carry
    return mask


def reads_undefined(code: bytes, more: bytes, mode32: bool) -> bool:
    """Whether `more` behind `code` would look at flags that `code` leaves undefined."""
    mask = undefined_flags(code, mode32)
    for instruction in iced.Decoder(32 if mode32 else 64, more):
        return bool(mask & _bits_of(instruction.rflags_read))
    return True


def _bits_of(flags: int) -> int:
    return sum(bit for flag, bit in _ICED.items() if flags & flag)


def difference(task: Task, engine: Outcome, processor: Outcome) -> str | None:
    """The line, or None."""
    error, cs_ss = processor.error, True
    if task.cpl != 3:
        # The processor was asked at CPL 3: the bit of a page fault that says so, and the selectors, are others here.
        cs_ss = False
        if processor.kind == 14:
            error &= ~4
    of_kernel = processor.cr2 >= 0x7FFF_FFFF_F000 or processor.cr2 & ~0xFFF == r.SUPERVISOR
    if processor.kind == engine.kind == 14 and of_kernel:
        error = error & ~1 | engine.error & 1  # what a kernel maps for itself is its own affair
    if (engine.kind, engine.error, engine.cr2) != (processor.kind, error, processor.cr2):
        said = f"{describe(engine.kind, engine.error)}{_place(engine)}"
        right = f"{describe(processor.kind, error)}{_place(processor)}"
        return f"ends {said}, not {right}" if said != right else "another address of a page fault"
    if engine.rip != processor.rip:
        said = f"ends {describe(engine.kind, engine.error)}{_place(engine)}"
        return f"{said}, not {describe(engine.kind, engine.error)}{_place(processor)}"
    if engine.kind >= r.INT80:
        return None  # what a system call's entry of 32-bit code leaves of the registers is the kernel's affair
    parts = [name for name, a, b in zip(r.REGISTERS, engine.regs, processor.regs, strict=True) if a != b]
    flags = (engine.rflags ^ processor.rflags) & task.unmasked
    parts += [name for bit, name in _FLAGS.items() if flags & bit]
    if cs_ss:
        parts += [name for name, a, b in zip(r.SELECTORS, engine.selectors, processor.selectors, strict=True) if a != b]
    parts += [f"{name}.base" for name, a, b in zip(("fs", "gs"), engine.bases, processor.bases, strict=True) if a != b]
    parts += floating(engine.fx, processor.fx)
    if memory(task, engine) != memory(task, processor):
        parts.append("memory")
    return f"another {' '.join(parts)}" if parts else None


def memory(task: Task, outcome: Outcome) -> tuple[int, list[tuple[int, int]]]:
    """How many words have changed, and the first of them, but where the task is blind."""
    low, high = task.blind
    seen = [(at, value) for at, value in outcome.changed if not low <= at < high]
    return outcome.changes if low == high else 0, seen


def floating(engine: bytes, processor: bytes) -> list[str]:
    """Which parts of FXSAVE's area differ."""
    if engine == processor:
        return []
    parts = []
    for name, at, size in (("fcw", 0, 2), ("fsw", 2, 2), ("ftw", 4, 1), ("mxcsr", 24, 4)):
        if engine[at : at + size] != processor[at : at + size]:
            a, b = (int.from_bytes(fx[at : at + size], "little") for fx in (engine, processor))
            parts.append(f"{name}:{_bits(name, a ^ b)}")
    if any(engine[at : at + 10] != processor[at : at + 10] for at in range(32, 160, 16)):
        parts.append("st")
    if engine[160:416] != processor[160:416]:
        parts.append("xmm")
    return parts


def _bits(name: str, differing: int) -> str:
    if name in ("mxcsr", "fsw"):
        names = "IE DE ZE OE UE PE".split()
        if name == "fsw":
            names += ["SF", "ES", "C0", "C1", "C2", "TOP", "TOP", "TOP", "C3", "B"]
        found = [names[n] if n < len(names) else f"bit{n}" for n in range(16) if differing >> n & 1]
        return "+".join(dict.fromkeys(found))
    return f"{differing:#x}"


def _place(outcome: Outcome) -> str:
    """Where RIP is, as far as it is near the code."""
    offset = outcome.rip - r.CODE - r.AT
    if outcome.kind == r.DIED or outcome.kind >= r.DIED:
        return ""
    if outcome.ended:
        return f" behind it ({offset})"
    return f" at +{offset}" if 0 < offset < 64 else "" if offset == 0 else " elsewhere"


def explain(task: Task, engine: Outcome, processor: Outcome) -> str:
    """Both outcomes side by side, for whoever corrects one of them."""
    lines = [f"{task.name}: {task.code.hex()}"]
    for name, o in (("engine", engine), ("processor", processor)):
        lines.append(f"  {name}: {describe(o.kind, o.error)} rip {o.rip:#x} cr2 {o.cr2:#x} flags {o.rflags:#x}")
    rows = [(n, a, b) for n, a, b in zip(r.REGISTERS, engine.regs, processor.regs, strict=True) if a != b]
    rows += [(n, a, b) for n, a, b in zip(r.SELECTORS, engine.selectors, processor.selectors, strict=True) if a != b]
    for n in range(32, 416, 16):
        if engine.fx[n : n + 16] != processor.fx[n : n + 16]:
            a, b = (int.from_bytes(fx[n : n + 16], "little") for fx in (engine.fx, processor.fx))
            rows.append((f"st{n // 16 - 2}" if n < 160 else f"xmm{n // 16 - 10}", a, b))
    for name, at, kind in (("fcw", 0, "<H"), ("fsw", 2, "<H"), ("ftw", 4, "<B"), ("mxcsr", 24, "<I")):
        (a,), (b,) = struct.unpack_from(kind, engine.fx, at), struct.unpack_from(kind, processor.fx, at)
        if a != b:
            rows.append((name, a, b))
    lines += [f"  {name}: engine {a:#x}, processor {b:#x}" for name, a, b in rows]
    if engine.changed != processor.changed:
        for name, o in (("engine", engine), ("processor", processor)):
            lines.append(f"  {name} wrote " + ", ".join(f"{at:#x}: {value:#x}" for at, value in o.changed[:6]))
    return "\n".join(lines)
