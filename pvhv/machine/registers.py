# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers of a physical CPU: their initial state for a PV guest, and saving and loading a vCPU's context.

A context is a copy of the CPU state from its beginning to the end of the FPU's state. What follows there (the
intercepts, the VMCB's address) belongs to the machine. A handler reads and writes single registers in `state`; this
file sets what takes more than one word (segments, CPL, TS).

Invariant: CR0.WP is always 1, and CPL agrees in HFLAGS and in the hidden parts of CS and SS.
It does not know whose context it is. Read beside it: cpustate.py, for where a register lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pvhv.machine import cpustate as cs
from pvhv.machine import pacer as pace
from pvhv.machine import seam
from pvhv.machine.cpustate import CR3, EFLAGS, HFLAGS
from pvhv.machine.translations import Translations
from pvhv.machine.x86 import DR7_DEFAULT, FLAT_CODE64, FLAT_DATA

CR0_PV: Final = 0x8005_0033  # PG AM WP NE ET MP PE
CR4_PV: Final = 0x6A0  # OSXMMEXCPT OSFXSR PGE PAE
EFER_PV: Final = 0x1D01  # SVME NXE LMA LME SCE
_HFLAGS_PV: Final = (
    cs.HF_PE | cs.HF_MP | cs.HF_LMA | cs.HF_CS64 | cs.HF_CS32 | cs.HF_SS32 | cs.HF_SVME | cs.HF_GUEST
    | cs.HF_OSFXSR | cs.HF_IOBPT
)  # fmt: skip


class Registers(Translations):
    """The registers of one pCPU."""

    set_cpl: Callable[[int], None]
    set_ts: Callable[[bool], None]
    """CR0.TS: the next FPU or SSE instruction raises #NM."""

    def _build_register_calls(self) -> None:
        state = self.state

        # Numbers, not names, as in translations.py.
        def set_cpl(cpl: int) -> None:
            state[22] = state[22] & ~3 | cpl  # HFLAGS

        def set_ts(on: bool) -> None:
            if on:
                state[53] |= 0x8  # CR0
                state[22] |= 0x800  # HFLAGS
            else:
                state[53] &= ~0x8
                state[22] &= ~0x800

        self.set_cpl, self.set_ts = set_cpl, set_ts

    def _reset(self) -> None:
        """Set a PV guest's initial state: long mode, paging, WP, NX, AMD-V intercepts, flat segments."""
        state, aux = self.state, self.aux
        for n in range(16):
            state[n] = 0
        state[cs.CR0], state[cs.CR2], state[CR3], state[cs.CR4] = CR0_PV, 0, self._private.cr3, CR4_PV
        state[cs.EFER] = EFER_PV
        state[HFLAGS] = _HFLAGS_PV
        state[EFLAGS] = 2
        state[cs.DR7] = DR7_DEFAULT
        state[cs.VM_VMCB] = self._private.vmcb_address
        aux[cs.OLD_EXCEPTION] = 0xFFFF_FFFF
        aux[cs.EXCEPTION_IS_INT] = 0
        aux[cs.INTERCEPT_EXCEPTIONS] = 0xFFFF_FFFF
        state[cs.INTERCEPT] = 0
        self.load_flat_segments(0xE030, 0xE028, 1)
        self.set_gdtr(0, 0)
        self.set_ldtr(0, 0, 0)

    def _reset_to(self, registers: bytes) -> None:
        """Reset the CPU except for the guest's registers, which a crash report shows."""
        self._reset()
        self._saved[:] = registers

    # ---- segments -------------------------------------------------------------------------------

    def load_flat_segments(self, cs_selector: int, ss_selector: int, cpl: int) -> None:
        """Flat 64-bit CS and SS at `cpl`; DS, ES, FS, GS null with base 0."""
        self.set_segment(cs.CS, cs_selector, 0, 0xFFFF_FFFF, FLAT_CODE64 | cpl << 13)
        self.set_segment(cs.SS, ss_selector, 0, 0xFFFF_FFFF, FLAT_DATA | cpl << 13)
        for segment in (cs.DS, cs.ES, cs.FS, cs.GS):
            self.set_segment(segment, 0, 0, 0, 0)
        self.set_cpl(cpl)

    def set_segment(self, segment: int, selector: int, base: int, limit: int, flags: int) -> None:
        """Set a segment's selector and hidden part. `flags` are bits 8..23 of a descriptor's high word."""
        state = self.state
        state[segment] = selector
        state[segment + cs.BASE] = base
        state[segment + cs.LIMIT_FLAGS] = limit | flags << 32

    def set_gdtr(self, base: int, limit: int) -> None:
        """Set GDTR, by which the guest's own segment loads find descriptors: a guest-virtual address."""
        self.set_segment(cs.GDT, 0, base, limit, 0)

    def set_ldtr(self, selector: int, base: int, limit: int) -> None:
        self.set_segment(cs.LDT, selector, base, limit, 0x8200)

    # ---- contexts -------------------------------------------------------------------------------

    def save(self) -> bytes:
        """A vCPU's whole context: registers, flags, segments, CRs, FPU and SSE."""
        return bytes(self._saved)

    def save_into(self, context: bytearray) -> None:
        """Like `save`, but into an existing context."""
        context[:] = self._saved

    def load(self, context: bytes | bytearray, cr3: int | None = None) -> None:
        """Load `context`, with the page tables at `cr3` if that is given, else with those in the context.

        The TLB is flushed if `cr3` is given, or if CR3 changes.
        """
        state = self.state
        before = state[CR3]
        self._saved[:] = context
        if cr3 is not None:
            self.load_cr3(cr3)
        elif state[CR3] != before:
            self.flush_tlb()

    def fpu_save(self) -> bytes:
        return bytes(self._fpu)

    def fpu_load(self, image: bytes) -> None:
        self._fpu[:] = image

    # ---- what is no part of a context -----------------------------------------------------------

    def msr_words(self) -> dict[int, int]:
        """MSR number -> index in `state`, for the MSRs that are plain registers (STAR, LSTAR, ...)."""
        return cs.find_msrs(self._engine)

    def load_debug_registers(self, registers: Sequence[int]) -> None:
        """Load DR0-3, DR6 and DR7 from a list of all eight; at #DB, `state[DR6]` gives the cause.

        They are not part of a context. On the stock engine breakpoints of debug registers never fire."""
        if not seam.corrected:
            return
        for n, value in enumerate(registers):
            self.state[cs.DR0 + n] = value
        self._on_engine(seam.debug_registers)

    def keep_kernel_cpl(self) -> None:
        """Stock engine: keep a guest kernel at CPL 1, even if its own iretq, which makes no exit, changed CPL."""
        self._words[pace.KEEPS_CPL] = not seam.corrected
