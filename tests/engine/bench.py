# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's side of the proof: a PCPU as a PV guest has it, on which tasks are executed one by one.

The memory map is that of records.py, with user pages, so that CPL 1 and CPL 3 see the same. The GDT begins as Linux's
does, so that a selector means here what it means to the processor; behind that, for CPL 1, come flat segments of every
kind and DPL, gates, and what is wrong with a descriptor (`SELECTOR_OF`).

What a hypervisor would do of an instruction is done as Linux does it: an `int n` that user code may not is #GP, port
I/O is refused. Floating point goes in by FXRSTOR and comes out by FXSAVE, executed by the engine itself: nothing here
rests on where the engine keeps it.

After every task: if CPL is lower than it was, or if a control register, EFER, or a table's base is another, the outcome
is BREACH, whatever else came of it.
"""

from __future__ import annotations

import struct
import time
from typing import Final, Literal

from pvhv.machine import cpustate as cs
from pvhv.machine.engine import EngineError
from pvhv.machine.paging import PTE_ACCESSED, PTE_DIRTY, PTE_NX, PTE_PRESENT, PTE_RW, PTE_USER
from pvhv.machine.pcpu import FAULT_ADDRESS, PCPU
from pvhv.machine.ram import Ram
from tests.engine import records as r
from tests.engine.records import Outcome, Raw

_STUB, _FX, _GDT_AT = 0x11_0000, 0x11_1000, 0x11_2000
_RESTORE, _SAVE = _STUB, _STUB + 0x40
_LIMIT_NS: Final = 5_000_000_000  # a task takes microseconds: only what never ends, or a machine at a standstill
_PREFIXES: Final = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3, *range(0x40, 0x50)))

CODE64, CODE32, DATA_FLAGS = 0x00AF_9B00, 0x00CF_9B00, 0x00CF_9300


def _flat(flags: int, dpl: int) -> int:
    """A descriptor of base 0 and the largest limit; `flags` as its high word has them."""
    return (flags | dpl << 13 | 0xF_0000) << 32 | 0xFFFF


def _gate(selector: int, offset: int, dpl: int) -> tuple[int, int]:
    low = offset & 0xFFFF | selector << 16 | (0x8C00 | dpl << 13 | offset & 0xFFFF_0000) << 32
    return low, offset >> 32


def _system(kind: int, base: int, limit: int) -> tuple[int, int]:
    low = limit | (base & 0xFF_FFFF) << 16 | (0x80 | kind) << 40 | (base >> 24 & 0xFF) << 56
    return low, base >> 32


LINUX_LIMIT: Final = 0x7F
SELECTOR_OF: Final[dict[str, int]] = {}


def _gdt() -> list[int]:
    words = [0] * 16
    words[1], words[2], words[3] = _flat(CODE32, 0), _flat(CODE64, 0), _flat(DATA_FLAGS, 0)
    words[4], words[5], words[6] = _flat(CODE32, 3), _flat(DATA_FLAGS, 3), _flat(CODE64, 3)
    words[8:10] = _system(0xB, 0xFFFF_FE00_0000_3000, 0x206F)  # Linux's TSS
    words[15] = _flat(0x0040_F100 & ~0x6000, 3) & ~(0xF << 48 | 0xFFFF)  # its CPU number, as a limit: 0

    def add(name: str, *descriptor: int) -> None:
        SELECTOR_OF[name] = len(words) * 8
        words.extend(descriptor)

    for dpl in range(4):
        add(f"code64-{dpl}", _flat(CODE64, dpl))
        add(f"data-{dpl}", _flat(DATA_FLAGS, dpl))
        add(f"code32-{dpl}", _flat(CODE32, dpl))
        add(f"conforming64-{dpl}", _flat(CODE64 | 0x400, dpl))
        add(f"conforming32-{dpl}", _flat(CODE32 | 0x400, dpl))
        add(f"code16-{dpl}", _flat(0x008F_9B00, dpl))
        add(f"absent-{dpl}", _flat(DATA_FLAGS & ~0x8000, dpl))
        add(f"absent-code-{dpl}", _flat(CODE64 & ~0x8000, dpl))
        add(f"read-only-{dpl}", _flat(0x00CF_9100, dpl))
        add(f"execute-only-{dpl}", _flat(0x00AF_9900, dpl))
    for dpl in range(4):
        for target in range(4):
            add(f"gate-{dpl}-to-{target}", *_gate(SELECTOR_OF[f"code64-{target}"] | target, r.CODE + 0x400, dpl))
    add("ldt", *_system(2, _GDT_AT + 0xC00, 0xFF))
    add("tss", *_system(9, _GDT_AT + 0xD00, 0x67))
    add("both-l-and-d", _flat(CODE64 | 0x0040_0000, 1))
    return words


GDT: Final = _gdt()
_KERNEL_CS, _KERNEL_SS = SELECTOR_OF["code64-1"] | 1, SELECTOR_OF["data-1"] | 1

# What no guest may change without an exit.
WATCHED: Final = {
    "CR0": cs.CR0, "CR3": cs.CR3, "CR4": cs.CR4, "EFER": cs.EFER,
    "GDTR base": cs.GDT + 1, "GDTR limit": cs.GDT + 2, "IDTR base": cs.IDT + 1, "IDTR limit": cs.IDT + 2,
    "LDTR": cs.LDT, "LDTR base": cs.LDT + 1, "TR": cs.TR, "TR base": cs.TR + 1, "DR7": cs.DR7,
    "the VMCB": cs.VM_VMCB, "intercepts": cs.INTERCEPT,
}  # fmt: skip
_HFLAGS_KEPT: Final = cs.HF_SVME | cs.HF_GUEST | cs.HF_PE | cs.HF_LMA | cs.HF_OSFXSR
assert len(r.BREACHES) == 4 + len(WATCHED)


class Bench:
    """One PCPU that executes tasks."""

    def __init__(self, clock: Literal["wall", "virtual"] = "wall") -> None:
        ram = self.ram = Ram(512)
        words = ram.words
        user = PTE_PRESENT | PTE_USER | PTE_ACCESSED
        words[1 * 512], words[2 * 512], words[3 * 512] = 2 << 12 | 7, 3 << 12 | 7, 4 << 12 | 7
        rw = user | PTE_RW | PTE_NX | PTE_DIRTY
        pages = {r.CODE: user, _STUB: user, _FX: rw, _GDT_AT: rw & ~PTE_USER, r.SUPERVISOR: rw & ~PTE_USER}
        pages |= {r.DATA: rw, r.DATA + 4096: rw, r.READ_ONLY: user | PTE_NX}
        for va, flags in pages.items():
            words[4 * 512 + (va >> 12)] = va | flags
        struct.pack_into(f"<{len(GDT)}Q", ram.bytes, _GDT_AT, *GDT)
        assert len(GDT) * 8 <= 0xC00
        for at, code in ((_RESTORE, 0x0C), (_SAVE, 0x04)):
            stub = bytes((0x48, 0x0F, 0xAE, code, 0x25)) + struct.pack("<I", _FX) + bytes.fromhex("0f05")
            ram.bytes[at : at + len(stub)] = stub
        pcpu = self.pcpu = PCPU(ram, clock)
        self.state, self.aux = pcpu.state, pcpu.aux
        self._saved, self._fpu = pcpu._saved, pcpu._fpu
        pcpu.load_cr3(0x1000)
        for vector in range(32):
            pcpu.on_exception[vector] = lambda vector=vector: self._exception(vector)  # type: ignore[misc]
        pcpu.on_syscall, pcpu.on_int, pcpu.on_cpuid, pcpu.on_io = self._syscall, self._int, self._cpuid, self._io
        self._base = pcpu.save()
        self._templates: dict[tuple[bytes, int, bool], bytes] = {}
        self._kind = self._error = self._cr2 = 0

    # -- exits -----------------------------------------------------------------------------------------------------
    def _exception(self, vector: int) -> None:
        self._kind, self._error = vector, self.aux[cs.ERROR_CODE] & 0xFFFF
        self._cr2 = self.pcpu.vmcb[FAULT_ADDRESS] if vector == 14 else 0
        self.pcpu.stop()

    def _syscall(self) -> None:
        self._kind = r.INT80 if not self.state[cs.HFLAGS] & cs.HF_CS64 else r.SYSCALL
        self.pcpu.stop()

    def _int(self, vector: int) -> None:
        self.pcpu.stop()
        if vector in (3, 4):
            self._kind = vector
        elif vector == 0x80:
            self._kind = r.INT80
        else:
            rip = self.state[cs.RIP] - 2
            while rip > r.CODE + r.AT and self.ram.bytes[rip - 1] in _PREFIXES:
                rip -= 1
            self.state[cs.RIP], self._kind, self._error = rip, 13, vector * 8 + 2

    def _cpuid(self) -> None:
        self.state[cs.RAX] = self.state[cs.RBX] = self.state[cs.RCX] = self.state[cs.RDX] = 0

    def _io(self, port: int, size: int, is_write: bool, value: int) -> int | None:
        return None

    # -- one task --------------------------------------------------------------------------------------------------
    def _template(self, task: Raw) -> bytes:
        """The state in which tasks of this ring, mode and floating point begin."""
        key = task.fx, task.cpl, task.mode32
        made = self._templates.get(key)
        if made is None:
            pcpu, state = self.pcpu, self.state
            pcpu.load(self._base)
            if task.cpl == 3:
                code, data, limit = 0x33, 0x2B, LINUX_LIMIT
            else:
                code, data, limit = _KERNEL_CS, _KERNEL_SS, len(GDT) * 8 - 1
            pcpu.load_flat_segments(code, data, task.cpl)
            pcpu.set_gdtr(_GDT_AT, limit)
            self.ram.bytes[_FX : _FX + r.FX_BYTES] = task.fx
            state[cs.RIP] = _RESTORE
            self._run()
            if task.mode32:
                dpl = task.cpl << 13
                code = 0x23 if task.cpl == 3 else SELECTOR_OF["code32-1"] | 1
                pcpu.set_segment(cs.CS, code, 0, 0xFFFF_FFFF, CODE32 | dpl)
                for segment in (cs.DS, cs.ES):
                    pcpu.set_segment(segment, data, 0, 0xFFFF_FFFF, DATA_FLAGS | dpl)
                state[cs.HFLAGS] &= ~cs.HF_CS64
            if len(self._templates) > 4096:
                self._templates.clear()
            made = self._templates[key] = pcpu.save()
        return made

    def _run(self) -> None:
        self._kind, self._error, self._cr2 = r.ENDLESS, 0, 0
        try:
            self.pcpu.run_wall(time.monotonic_ns() + _LIMIT_NS)
        except EngineError:
            self._kind = r.GAVE_UP

    def execute(self, task: Raw) -> Outcome:
        pcpu, state, memory = self.pcpu, self.state, self.ram.bytes
        template = self._template(task)
        at = r.CODE + r.AT
        memory[r.CODE : r.CODE + 4096] = _HALTS
        memory[at : at + 64] = task.code
        pcpu.forget_code(r.CODE >> 12)
        fresh = bytearray(r.PATTERN)
        fresh[0x800:0x880] = task.operand
        fresh[0x1800:0x1840] = task.stack
        memory[r.DATA : r.DATA + r.DATA_BYTES] = fresh
        pcpu.load(template)
        for n, value in enumerate(task.regs):
            state[n] = value
        state[cs.RIP], state[cs.EFLAGS] = at, task.rflags
        state[cs.FS_BASE], state[cs.GS_BASE] = task.bases
        watched = [state[index] for index in WATCHED.values()]
        aux, hflags = self.aux, state[cs.HFLAGS]
        aux[cs.EXCEPTION_IS_INT] = 0
        self._run()

        kind, error, cr2 = self._kind, self._error, self._cr2
        after = state[cs.HFLAGS]
        if after & cs.HF_CPL < task.cpl:
            kind = r.BREACH
        elif (after ^ hflags) & _HFLAGS_KEPT:
            kind = r.BREACH + 1
        elif state[cs.EFLAGS] & cs.VM:
            kind = r.BREACH + 2
        elif after & cs.HF_CPL != state[cs.CS] & 3:
            kind = r.BREACH + 3
        else:
            now = [state[index] for index in WATCHED.values()]
            if now != watched:
                kind = r.BREACH + 4 + next(n for n in range(len(now)) if now[n] != watched[n])
        rip, rflags, regs = state[cs.RIP], state[cs.EFLAGS], tuple(state[0:16])
        bases = state[cs.FS_BASE], state[cs.GS_BASE]
        selectors = tuple(state[s] & 0xFFFF for s in (cs.ES, cs.CS, cs.SS, cs.DS, cs.FS, cs.GS))
        changed: list[tuple[int, int]] = []
        data = memory[r.DATA : r.DATA + r.DATA_BYTES]
        if data != fresh:
            words, before = data.cast("Q"), memoryview(fresh).cast("Q")
            changed = [(n * 8, words[n]) for n in range(r.DATA_BYTES // 8) if words[n] != before[n]]
        fx = task.fx
        if bytes(self._fpu) != template[cs.FPU_BEGIN :]:
            fx = self._fxsave(kind, task.cpl)
        if kind >= r.BREACH:  # let nothing of it reach the next
            for index, value in zip(WATCHED.values(), watched, strict=True):
                state[index] = value
            pcpu.flush_tlb()
        return Outcome(kind, error, cr2, rip, regs, rflags, bases, selectors, len(changed), fx, tuple(changed))

    def _fxsave(self, kind: int, cpl: int) -> bytes:
        pcpu = self.pcpu
        fpu = pcpu.fpu_save()
        pcpu.load(self._templates_any(cpl))
        pcpu.fpu_load(fpu)
        self.state[cs.RIP] = _SAVE
        self._run()
        return bytes(self.ram.bytes[_FX : _FX + r.FX_BYTES])

    def _templates_any(self, cpl: int) -> bytes:
        """A 64-bit state to run our own code in."""
        made = self._templates.get((r.DEFAULT_FX, cpl, False))
        if made is None:
            made = self._template(Raw(b"", False, cpl, (), 0, (0, 0), r.DEFAULT_FX, b"", b""))
        return made


_HALTS: Final = b"\xf4" * 4096
