# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU at CPL 0 whose control registers are not the engine's.

The guest reads and writes the CR0, CR3, CR4 and EFER kept here. The engine's registers have what shadow paging needs:
always long mode with paging, write protection and no-execute, and the shadow's root in CR3. So a guest that has not
turned paging on yet runs in compatibility mode, on a shadow that maps guest-physical memory directly.

Invariant: between two instructions of the guest, the engine's CR3 is the value of `root` for these registers.

Read beside it: AMD's manual volume 2, 3.1 (control registers) and 14.6 (enabling long mode); native.py's reset.

Not modelled: what differs between compatibility mode and protected mode (a task switch, a 16-byte TSS descriptor).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pvhv.hvm.cpu.guestcpu import CR4_KNOWN, FLAG_LONG, NativeCpu
from pvhv.hvm.cpu.memory import PHYSICAL_BITS, GeneralProtection, GuestPhysical, PagingModeUnsupported
from pvhv.machine import cpustate as cs
from pvhv.machine.cpustate import CR3, HFLAGS
from pvhv.machine.pcpu import PCPU
from pvhv.machine.x86 import (
    CR0_AM,
    CR0_CD,
    CR0_EM,
    CR0_ET,
    CR0_MP,
    CR0_NE,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_TS,
    CR0_WP,
    CR4_OSFXSR,
    CR4_PAE,
    CR4_PGE,
    CR4_PSE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    EFER_SVME,
)

CR0_KNOWN: Final = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG


class ControlShadowCpu(NativeCpu):
    """`root` returns the machine address for the engine's CR3; it is called whenever that may have changed."""

    def __init__(self, pcpu: PCPU, physical: GuestPhysical) -> None:
        super().__init__(pcpu, physical)
        self.root: Callable[[], int]
        self._cr0 = self._cr3 = self._cr4 = self._efer = 0

    def reset(self, entry: int, rbx: int) -> None:
        super().reset(entry, rbx)
        self._cr0, self._cr3, self._cr4, self._efer = CR0_ET | CR0_PE, 0, 0, 0
        self._publish()
        self._load_root()

    def _publish(self) -> None:
        """Set the engine's CR0, CR4, EFER and the flags it derives from them."""
        state = self.state
        state[cs.CR0] = self._cr0 | CR0_PG | CR0_WP | CR0_PE
        state[cs.CR4] = self._cr4 | CR4_PAE
        state[cs.EFER] = self._efer & EFER_SCE | EFER_SVME | EFER_LME | EFER_LMA | EFER_NXE
        hflags = state[HFLAGS] & ~(cs.HF_MP | cs.HF_EM | cs.HF_TS | cs.HF_OSFXSR)
        for bit, flag in ((CR0_MP, cs.HF_MP), (CR0_EM, cs.HF_EM), (CR0_TS, cs.HF_TS)):
            hflags |= flag if self._cr0 & bit else 0
        hflags |= cs.HF_OSFXSR if self._cr4 & CR4_OSFXSR else 0
        state[HFLAGS] = hflags | cs.HF_LMA | cs.HF_PE

    def _load_root(self) -> None:
        self.state[CR3] = self.root()
        self.pcpu.flush_tlb()

    # -- registers -----------------------------------------------------------------------------------------------------
    @property
    def cr0(self) -> int:
        return self._cr0

    @cr0.setter
    def cr0(self, value: int) -> None:
        if value >> 32 or (value & CR0_PG and not value & CR0_PE) or (value & CR0_NW and not value & CR0_CD):
            raise GeneralProtection
        if not value & CR0_PE:
            raise PagingModeUnsupported
        value = value & CR0_KNOWN | CR0_ET
        before = self._cr0
        in_64_bit_code = self.long_mode and self.segment(cs.CS).flags & FLAG_LONG
        if value & CR0_PG and not before & CR0_PG:
            if not self._efer & EFER_LME:
                raise PagingModeUnsupported
            if not self._cr4 & CR4_PAE or self.segment(cs.CS).flags & FLAG_LONG:
                raise GeneralProtection
            self._efer |= EFER_LMA
        elif before & CR0_PG and not value & CR0_PG:
            if in_64_bit_code:
                raise GeneralProtection
            self._efer &= ~EFER_LMA
        self._cr0 = value
        self._publish()
        if (value ^ before) & (CR0_PG | CR0_WP):
            self._load_root()

    @property
    def cr3(self) -> int:
        return self._cr3

    @cr3.setter
    def cr3(self, value: int) -> None:
        if value >> PHYSICAL_BITS:
            raise GeneralProtection
        self._cr3 = value
        self._load_root()

    @property
    def cr4(self) -> int:
        return self._cr4

    @cr4.setter
    def cr4(self, value: int) -> None:
        if value & ~CR4_KNOWN or (self.long_mode and not value & CR4_PAE):
            raise GeneralProtection
        before, self._cr4 = self._cr4, value
        self._publish()
        if (value ^ before) & (CR4_PAE | CR4_PGE | CR4_PSE):
            self._load_root()

    @property
    def efer(self) -> int:
        return self._efer

    @efer.setter
    def efer(self, value: int) -> None:
        before = self._efer
        self._efer = value & ~EFER_LMA | before & EFER_LMA
        self._publish()
        if (value ^ before) & EFER_NXE:
            self._load_root()
