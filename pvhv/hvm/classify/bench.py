# SPDX-License-Identifier: GPL-2.0-or-later
"""The test bench: it runs one row at one ring on one engine, and returns the outcome.

At ring 0 the row's micro guest (image.py) runs whole, on a machine of its own. At rings 1 to 3 it runs as under a
monitor that has emulated everything before the body: the body begins at that ring, and the CPU's system registers are
the monitor's. The monitor has what every trap-and-emulate monitor needs:
  - its own GDT, in which the guest's code and data descriptors stand at their places with a DPL of at least the
    guest's real ring (at DPL 0 the guest could not use them); its own LDT and TSS behind them;
  - its own IDT: int 0x80 is closed (DPL 0), int 0x82 open (DPL 3), as an entry for its guests would be;
  - IF on and IOPL 0 at all times, CR0.WP on and TS off, CR4.TSD on. Nothing is emulated here: the first exception at
the row's instruction ends the run, because that is the trap.

The bench does for the CPU what the engine does not: walking the IDT (own machine: delivery; monitor: the gate's check),
SYSCALL, SYSENTER's #UD, CPUID's answer, and the privilege of IN and OUT.

Invariant: a run leaves nothing for the next: state, DR7, tables and code are put back.
It does not judge. Read beside it: pcpu.py; AMD64 manual, volume 2, 8.9 and 12.2.
"""

from __future__ import annotations

import struct
from ctypes import c_uint64
from dataclasses import dataclass, field
from typing import Final

from pvhv.hvm.classify import image as im
from pvhv.hvm.classify.image import Image, image
from pvhv.hvm.classify.row import REGISTERS, Row
from pvhv.machine import cpustate as cs
from pvhv.machine import engine as uc
from pvhv.machine import svm
from pvhv.machine.cpustate import EFLAGS, RAX, RBX, RCX, RDX, RIP, RSP
from pvhv.machine.features import WHOLE_MACHINE
from pvhv.machine.paging import PTE_PRESENT, PTE_RW, PTE_USER
from pvhv.machine.pcpu import CR0_PV, CR4_PV, PCPU
from pvhv.machine.ram import Ram
from pvhv.machine.x86 import CR4_TSD, HAS_ERROR_CODE

RINGS: Final = (0, 1, 3)
GUEST, MONITOR = 0x10_0000, 0x18_0000
_ROOT: Final = 0x1000  # page tables: four frames
_MAPPED: Final = 2 << 20

# The monitor's: tables in the page order of image.py, and its selectors behind the guest's.
MONITOR_GDT_LIMIT, MONITOR_LDT, MONITOR_TSS, MONITOR_CS = 0xA7, 0x70, 0x80, 0x90
CR0_OWN: Final = CR0_PV

ABBREVIATIONS: Final = {
    svm.DE: "#DE", svm.DB: "#DB", svm.BP: "#BP", svm.OF: "#OF", svm.BR: "#BR", svm.UD: "#UD", svm.NM: "#NM",
    svm.DF: "#DF", svm.TS: "#TS", svm.NP: "#NP", svm.SS: "#SS", svm.GP: "#GP", svm.PF: "#PF", svm.AC: "#AC",
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The outcome of a row at a ring."""

    ring: int
    vector: int | None = None
    """The exception that the row's instruction raised, if it did, ..."""
    error: int | None = None
    """... and its error code."""
    entered: str = ""
    """The entry point of the monitor that the CPU entered without an exception: `int 0x82`, `syscall`."""
    registers: dict[str, int] = field(default_factory=dict)
    """At the body's end; empty where it was not reached."""

    @property
    def exception(self) -> str:
        """As the manuals write it: #GP(0x10)."""
        if self.vector is None:
            return ""
        name = ABBREVIATIONS[self.vector]
        return name if self.error is None else f"{name}({self.error:#x})" if self.error else f"{name}(0)"


class BenchError(RuntimeError):
    """A body behaved otherwise than its row says: an error in the row, or in the engine."""


class _Over(Exception):
    """The run has its outcome."""


class Bench:
    """A machine of one CPU and 2 MiB to run rows on."""

    def __init__(self) -> None:
        self.ram = Ram(_MAPPED >> 12)
        self.pcpu = PCPU(self.ram, features=WHOLE_MACHINE)
        self.state, self.aux = self.pcpu.state, self.pcpu.aux
        words = self.ram.words
        for level in range(3):
            words[(_ROOT >> 12) * 512 + level * 512] = _ROOT + (level + 1) * 4096 | PTE_PRESENT | PTE_RW | PTE_USER
        for frame in range(_MAPPED >> 12):
            words[((_ROOT >> 12) + 3) * 512 + frame] = frame << 12 | PTE_PRESENT | PTE_RW | PTE_USER
        pcpu = self.pcpu
        for vector in range(32):
            pcpu.on_exception[vector] = lambda vector=vector: self._exception(vector)  # type: ignore[misc]
        pcpu.on_int, pcpu.on_syscall, pcpu.on_io, pcpu.on_cpuid = self._int, self._syscall, self._io, self._cpuid
        self._image = Image(0, b"", 0, 0, (), {})
        self._ring, self._vector, self._error, self._entered = 0, -1, -1, ""

    def close(self) -> None:
        self.pcpu.close()

    def run(self, row: Row, ring: int) -> Outcome:
        """Run a row on a machine of its own (ring 0), or at an outer ring under a monitor."""
        if ring not in range(4):
            raise ValueError(f"there is no ring {ring}")
        guest = self._image = image(row, GUEST)
        self._ring, self._vector, self._error, self._entered = ring, -1, -1, ""
        self.ram.bytes[GUEST : GUEST + len(guest.data)] = guest.data
        self.pcpu.forget_code(GUEST >> 12)
        self.pcpu.load(self.pcpu.initial)
        self.pcpu.load_cr3(_ROOT)
        self.state[cs.DR0], self.state[cs.DR7] = 0, 0x400
        if ring:
            self._under_monitor(row, ring)
        else:
            self._own_machine()
        try:
            self.pcpu.run()
        except _Over:
            pass
        state = self.state
        registers = dict(zip(REGISTERS, (state[RAX], state[RBX], state[RCX], state[RDX]), strict=True))
        stopped = bool(self._entered) or (ring > 0 and self._vector >= 0)
        return Outcome(
            ring,
            self._vector if self._vector >= 0 else None,
            self._error if self._error >= 0 else None,
            self._entered,
            {} if stopped else registers,
        )

    # ---- the two worlds -------------------------------------------------------------------------

    def _own_machine(self) -> None:
        state, pcpu = self.state, self.pcpu
        pcpu.load_flat_segments(im.KERNEL_CS, im.KERNEL_DS, 0)
        state[cs.CR0], state[cs.CR4] = CR0_OWN, CR4_PV
        state[EFLAGS] = 2
        state[RIP] = self._image.base

    def _under_monitor(self, row: Row, ring: int) -> None:
        state, pcpu, words = self.state, self.pcpu, self.ram.words
        table = im.descriptors(GUEST)
        for at in range(1, im.LDT_SELECTOR >> 3):
            dpl = max(ring, table[at] >> 45 & 3)
            table[at] = table[at] & ~(3 << 45) | dpl << 45
        table += [*im.system(2, MONITOR + im.LDT, im.LDT_LIMIT), *im.system(11, MONITOR + im.TSS, im.TSS_LIMIT)]
        table += [im.flat(im.CODE64, 0), im.flat(im.DATA, 0), 0]
        words[MONITOR + im.GDT >> 3 : (MONITOR + im.GDT >> 3) + len(table)] = memoryview(
            struct.pack(f"<{len(table)}Q", *table)
        ).cast("Q")
        for vector, dpl in ((im.INT_CLOSED, 0), (im.INT_OPEN, 3)):
            words[(MONITOR + im.IDT >> 3) + 2 * vector], words[(MONITOR + im.IDT >> 3) + 2 * vector + 1] = im.gate(
                MONITOR_CS, MONITOR, dpl
            )
        self.ram.bytes[MONITOR + im.TSS : MONITOR + im.TSS + im.TSS_LIMIT + 1] = im.task(MONITOR + im.RING0_STACK)

        pcpu.load_flat_segments(im.KERNEL_CS | ring, im.KERNEL_DS | ring, ring)
        if row.mode == 32:
            pcpu.set_segment(cs.CS, im.KERNEL_CS32 | ring, 0, 0xFFFF_FFFF, im.CODE32 | ring << 13)
            self.aux[cs.AUX_HFLAGS] &= ~cs.HF_CS64
        for segment in (cs.DS, cs.ES):
            pcpu.set_segment(segment, im.KERNEL_DS, 0, 0xFFFF_FFFF, im.DATA | ring << 13)
        pcpu.set_gdtr(MONITOR + im.GDT, MONITOR_GDT_LIMIT)
        pcpu.set_segment(cs.IDT, 0, MONITOR + im.IDT, 0xFFF, 0)
        pcpu.set_ldtr(MONITOR_LDT, MONITOR + im.LDT, im.LDT_LIMIT)
        pcpu.set_segment(cs.TR, MONITOR_TSS, MONITOR + im.TSS, im.TSS_LIMIT, 0x8B00)
        state[cs.CR0], state[cs.CR4] = CR0_PV, CR4_PV | CR4_TSD
        state[EFLAGS] = 2 | cs.IF
        state[RSP] = GUEST + im.STACK_TOP
        state[RIP] = self._image.body

    # ---- exits ------------------------------------------------------------------------------------

    @property
    def _cpl(self) -> int:
        return self.state[cs.HFLAGS] & cs.HF_CPL

    def _exception(self, vector: int) -> None:
        rip = self.state[RIP]
        if vector == svm.UD and rip == self._image.ending:
            raise _Over
        error = self.aux[cs.ERROR_CODE] if vector in HAS_ERROR_CODE else None
        self._fault(vector, error)

    def _fault(self, vector: int, error: int | None) -> None:
        """Handle an exception at RIP: it is the trap to the monitor, or goes to the guest's own handler."""
        if self.state[RIP] not in self._image.marked:
            if self._ring:
                what = Outcome(self._ring, vector, error).exception
                raise BenchError(f"{what} at {self.state[RIP]:#x}, which is not the row's instruction")
        else:
            self._vector, self._error = vector, -1 if error is None else error
        if self._ring:
            raise _Over
        self._deliver(vector, error)

    def _int(self, vector: int) -> None:
        """Handle `int n`, with RIP behind it, by the gate."""
        state = self.state
        marked = state[RIP] - 2 in self._image.marked
        if self._ring and not marked:
            raise _Over  # the body's own end
        low = self._gate(vector)
        if (low >> 45 & 3) < self._cpl:
            state[RIP] -= 2
            self._fault(svm.GP, vector * 8 + 2)
        elif self._ring:
            self._entered = f"int {vector:#x}"
            raise _Over
        else:
            self._deliver(vector, None)

    def _syscall(self) -> None:
        """The rest of SYSCALL (RCX and R11 are set): AMD64 manual, volume 2, 6.1.1."""
        if self._ring:
            self._entered = "syscall"
            raise _Over
        msr = (c_uint64 * 8)(0xC000_0082)  # LSTAR
        uc.check("uc_reg_read(LSTAR)", uc.uc_reg_read(self.pcpu._engine.handle, uc.REG_MSR, msr))
        self.state[RIP] = msr[1]
        self._enter_ring0(im.KERNEL_CS)

    def _cpuid(self) -> None:
        """Answer CPUID with the vendor, for every leaf: the rows compare nothing else."""
        state = self.state
        state[RAX] = 1
        state[RBX], state[RDX], state[RCX] = struct.unpack("<3I", b"AuthenticAMD")

    def _io(self, port: int, size: int, is_write: bool, value: int) -> int | None:
        """Permit I/O by IOPL, else by the bitmap of the TSS (AMD64 manual, volume 2, 12.2.4-5)."""
        if self._cpl > (self.state[EFLAGS] >> 12 & 3):
            base, limit = self.state[cs.TR + cs.BASE], self.state[cs.TR + cs.LIMIT_FLAGS] & 0xFFFF_FFFF
            at = int.from_bytes(self.ram.bytes[base + 0x66 : base + 0x68], "little") + port // 8
            if at + 1 > limit:
                return None
            bits = int.from_bytes(self.ram.bytes[base + at : base + at + 2], "little")
            if bits >> port % 8 & (1 << size) - 1:
                return None
        return 0xFF

    # ---- for the CPU: through the IDT ----------------------------------------------------------------

    def _gate(self, vector: int) -> int:
        """The low word of a 64-bit gate; its high word is 0 here."""
        at = self.state[cs.IDT + cs.BASE] + 16 * vector
        low = self.ram.words[at >> 3]
        if not low >> 47 & 1:
            raise BenchError(f"vector {vector:#x} at {self.state[RIP]:#x}: no gate for it")
        return low

    def _deliver(self, vector: int, error: int | None) -> None:
        """Deliver to a gate of ring 0, from any ring: AMD64 manual, volume 2, 8.9.3."""
        state = self.state
        low = self._gate(vector)
        stack = state[RSP]
        if self._cpl:
            at = state[cs.TR + cs.BASE] + 4
            stack = int.from_bytes(self.ram.bytes[at : at + 8], "little")
        frame = [state[RIP], state[cs.CS], state[EFLAGS], state[RSP], state[cs.SS]]
        if error is not None:
            frame.insert(0, error)
        stack = (stack & ~15) - 8 * len(frame)
        self.ram.bytes[stack : stack + 8 * len(frame)] = struct.pack(f"<{len(frame)}Q", *frame)
        state[RSP] = stack
        state[RIP] = low & 0xFFFF | low >> 32 & 0xFFFF_0000
        self._enter_ring0(low >> 16 & 0xFFFC)

    def _enter_ring0(self, selector: int) -> None:
        state = self.state
        changed = self._cpl > 0
        self.pcpu.set_segment(cs.CS, selector, 0, 0xFFFF_FFFF, im.CODE64)
        if changed:
            self.pcpu.set_segment(cs.SS, 0, 0, 0xFFFF_FFFF, im.DATA)
        self.pcpu.set_cpl(0)
        self.aux[cs.AUX_HFLAGS] |= cs.HF_CS64
        state[EFLAGS] &= ~(cs.IF | cs.TF | cs.NT | cs.RF)
