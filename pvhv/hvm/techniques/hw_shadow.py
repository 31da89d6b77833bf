# SPDX-License-Identifier: GPL-2.0-or-later
"""`hw-shadow`: the first generation of hardware assistance. AMD-V, and page tables that are the monitor's.

The guest's kernel runs at CPL 0 with its own segments, IDT and exceptions; only the page tables, and the registers that
select them, are the monitor's. So every page fault, every access to CR0, CR3 and CR4, and INVLPG are exits. A page
fault is one of three kinds: *hidden* (the shadow had no entry yet), a *trace* (a store to a page table), or the guest's
own. A processor of that time does not report the instruction, so the monitor decodes it.

The engine walks the shadow tables, whose addresses are machine addresses; the nested tables beneath them map every
address to itself, and only detect stores to pages that code was translated from (npt.py).

Read beside it: shadow.py; AMD's manual volume 2, 15.8 (exit information), 15.12 (exception intercepts); Adams and
Agesen, "A comparison of software and hardware techniques for x86 virtualization" (2006), whose hardware VMM this is.

Not modelled: real mode, 32-bit and PAE paging; CR8 as a register of a local APIC (there is none).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pvhv.core.errors import DomainCrash
from pvhv.hvm import names
from pvhv.hvm.cpu import arch
from pvhv.hvm.cpu.control_shadow import ControlShadowCpu
from pvhv.hvm.cpu.cpuid import NOTHING
from pvhv.hvm.cpu.memory import GuestPhysical, MachineMemory, PageFault, PagingModeUnsupported
from pvhv.hvm.emulator import decode
from pvhv.hvm.emulator.emulate import Emulator, Unknown
from pvhv.hvm.paging.shadow import Outcome, ShadowPaging
from pvhv.hvm.technique import Carried
from pvhv.hvm.techniques.hardware import HardwareAssisted
from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.pcpu import FAULT_ADDRESS

READS, WRITES = (0, 3, 4), (0, 3, 4, 8)
KINDS = {Outcome.FILLED: "hidden", Outcome.TRACED: "trace", Outcome.EMULATE: "emulate"}


class Outside:
    """What emulated instructions use outside the CPU (the Monitor of emulator/context.py)."""

    def __init__(self, technique: HwShadow) -> None:
        self.technique = technique
        self.guest = technique.guest

    def port_read(self, port: int, size: int) -> int:
        return self.guest.platform.bus.read(port, size)

    def port_write(self, port: int, size: int, value: int) -> None:
        self.guest.platform.bus.write(port, size, value)

    def port_read_string(self, port: int, size: int, count: int) -> bytes:
        return self.guest.platform.bus.read_string(port, size, count)

    def port_write_string(self, port: int, size: int, data: bytes) -> int:
        return self.guest.platform.bus.write_string(port, size, data)

    def timestamp(self) -> int:
        return self.guest.timeline.now()

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        return self.technique.leaves.get(leaf, NOTHING)

    def halt(self) -> None:
        self.guest.halt()

    def forget_page(self, va: int) -> None:
        self.technique.shadow.invlpg(va)

    def software_interrupt(self, vector: int, length: int) -> None:
        self.technique.cpu.rip += length
        arch.deliver(self.technique.cpu, vector, software=True)


class HwShadow(HardwareAssisted):
    """AMD-V without NPT."""

    name: ClassVar[str] = names.HW_SHADOW
    counted = HardwareAssisted.counted | {
        "shadow_fills", "tlb_flushes", "tlb_page_flushes", "page_table_updates", "emulated_instructions",
    }  # fmt: skip

    def __init__(self, guest: Carried) -> None:
        super().__init__(guest)
        self.cpu: ControlShadowCpu = ControlShadowCpu(self.pcpu, guest.physical)
        self.shadow = ShadowPaging(guest.physical, self.cpu, guest, self.counts, self.pcpu.flush_tlb)
        self.emulator = Emulator(self.cpu, Outside(self))
        self.cpu.root = self.shadow.root
        self.cpu.memory.wrote = self._wrote

    def beneath(self, guest: Carried) -> GuestPhysical:
        return MachineMemory(guest.hypervisor.ram)

    def install(self) -> None:
        super().install()
        pcpu = self.pcpu
        pcpu.aux[cs.INTERCEPT_EXCEPTIONS] |= 1 << svm.PF
        pcpu.on_exception[svm.PF] = self._page_fault
        intercepts = 1 << 8  # reading CR8 is the processor's affair, but not the engine's
        pcpu.on_exit(svm.VMEXIT_CR0_READ + 8, self._read_cr8)
        for code, registers, what in ((svm.VMEXIT_CR0_READ, READS, "READ"), (svm.VMEXIT_CR0_WRITE, WRITES, "WRITE")):
            for number in registers:
                intercepts |= 1 << code + number
                pcpu.on_exit(code + number, self._emulated(f"CR{number}_{what}"))
        pcpu.aux[cs.INTERCEPT_CR] = intercepts
        self.state[cs.INTERCEPT] |= svm.intercept_bit(svm.VMEXIT_INVLPG)
        pcpu.on_exit(svm.VMEXIT_INVLPG, self._emulated("INVLPG"))

    def reset(self, entry: int, rbx: int) -> None:
        self.shadow.drop()
        super().reset(entry, rbx)

    def _wrote(self, gpa: int, size: int) -> None:
        """The monitor wrote guest memory, within one page."""
        self.shadow.guest_wrote(gpa, size)
        mfn = self.guest.physical.mfn(gpa >> 12)
        if mfn is not None:
            self.tables.host_wrote(mfn << 12, size)

    # -- exits ---------------------------------------------------------------------------------------------------------
    def _page_fault(self) -> None:
        address, code = self.pcpu.vmcb[FAULT_ADDRESS], self.pcpu.aux[cs.ERROR_CODE]
        try:
            outcome = self.shadow.page_fault(address, code)
        except PageFault as fault:
            self.counts.exit("PF", f"guest's own, {address:#x}")
            self.raise_for_the_cpu(fault)
            return
        self.counts.exit("PF", f"{KINDS[outcome]}, {address:#x}")
        if outcome is Outcome.FILLED:
            return
        self.counts.add("emulated_instructions")
        try:
            self._carry_out()
        except Unknown:
            if outcome is not Outcome.TRACED or not self.shadow.let_go(address):
                raise self._undecoded() from None

    def _undecoded(self) -> DomainCrash:
        return DomainCrash(f"hw-shadow cannot decode the instruction at {self.cpu.rip:#x}")

    def _emulated(self, reason: str) -> Callable[[], None]:
        def exit_() -> None:
            self.counts.exit(reason)
            self._emulate()

        return exit_

    def _read_cr8(self) -> None:
        self.counts.assist("cr8")
        self._carry_out()

    def _emulate(self) -> None:
        self.counts.add("emulated_instructions")
        try:
            self._carry_out()
        except Unknown:
            raise self._undecoded() from None

    def _carry_out(self) -> None:
        """Do what the instruction at RIP does."""
        try:
            self.guarded(lambda: self.emulator.execute(decode.fetch(self.cpu)))()
        except PagingModeUnsupported:
            raise DomainCrash("the guest left long mode, which hw-shadow cannot follow") from None

    def close(self) -> None:
        self.shadow.close()
