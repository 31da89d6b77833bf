# SPDX-License-Identifier: GPL-2.0-or-later
"""What both monitors without help from the hardware have in common: the guest deprivileged, on shadow tables.

The kernel runs at CPL 1 and its users at CPL 3 (deprivileged.py), on page tables of the monitor's (shadow.py). Every
exception is an exit. It has one of three causes: the monitor's own tables (a shadow entry that was not made yet, a
store to a page table); an instruction that ring 1 may not execute, which is then emulated; or the guest itself, whose
handler is then entered as the CPU would enter it. SYSCALL and INT n go through the monitor as well, as all the
processor's tables are the monitor's.

The engine takes the place of the processor. Work that a processor would do itself counts as an assist: refusing IN and
OUT at ring 1, CPUID, and the nested tables below, which only keep the engine's translations coherent (npt.py).

An exit's reason is the instruction or the exception, in small letters.

Read beside it: trap_emulate.py, binary_translation.py; Adams and Agesen, "A comparison of software and hardware
techniques for x86 virtualization" (2006), sections 2 and 3; AMD's manual volume 2, chapter 8.

Not modelled: real mode, 32-bit and PAE paging; single-stepping a kernel through instructions that are emulated.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.core.errors import DomainCrash
from pvhv.hvm.cpu import arch, cpuid
from pvhv.hvm.cpu.memory import GuestException, MachineMemory, PageFault, PagingModeUnsupported
from pvhv.hvm.emulator import decode
from pvhv.hvm.emulator.decode import Instruction
from pvhv.hvm.emulator.emulate import Emulator, Unknown
from pvhv.hvm.emulator.sensitive import reason
from pvhv.hvm.monitor.deprivileged import DeprivilegedCpu
from pvhv.hvm.monitor.shadow_gdt import SLOT, ShadowGdt
from pvhv.hvm.paging.npt import NESTED_LONG, Filled, NestedTables
from pvhv.hvm.paging.shadow import Outcome, ShadowPaging
from pvhv.hvm.technique import Carried, Technique
from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import HFLAGS, IF, RF, RIP
from pvhv.machine.pcpu import FAULT_ADDRESS
from pvhv.machine.x86 import CR4_TSD, HAS_ERROR_CODE

NAMES = {
    svm.DE: "divide-error", svm.DB: "debug", svm.NMI: "nmi", svm.BP: "breakpoint", svm.OF: "overflow",
    svm.BR: "bound-range", svm.UD: "invalid-opcode", svm.NM: "device-not-available", svm.DF: "double-fault",
    svm.TS: "invalid-tss", svm.NP: "segment-not-present", svm.SS: "stack", svm.GP: "general-protection",
    svm.PF: "page-fault", svm.MF: "x87", svm.AC: "alignment-check", svm.XF: "simd",
}  # fmt: skip
TRAPS_OF_PRIVILEGE = (svm.GP, svm.NP, svm.SS, svm.TS)  # by which an instruction may be refused to ring 1
SINGLE_STEP = 1 << 14
INT3, INTO = 0xCC, 0xCE  # opcodes


class SoftwareMonitor(Technique):
    """A guest without hardware assistance."""

    counted = frozenset({
        "ring_crossings", "faults_delivered", "interrupts_delivered", "page_table_updates", "shadow_fills",
        "tlb_flushes", "tlb_page_flushes", "emulated_instructions",
    })  # fmt: skip
    answers_cpuid = False  # whether CPUID is the monitor's to answer

    def __init__(self, guest: Carried) -> None:
        super().__init__(guest)
        ram = guest.hypervisor.ram
        self.cpu: DeprivilegedCpu = DeprivilegedCpu(self.pcpu, guest.physical)
        self.gdt = ShadowGdt(self.cpu, ram, guest)
        self.shadow = ShadowPaging(
            guest.physical, self.cpu, guest, self.counts, self.pcpu.flush_tlb, vmm_slot=SLOT, vmm_l3=self.gdt.l3
        )
        self.gdt.shadow = self.shadow
        self.nested = NestedTables(MachineMemory(ram), self.pcpu, guest.own_frame)
        self.emulator = Emulator(self.cpu, self)
        self.leaves = cpuid.leaves(guest.tsc_khz, monitor=self.answers_cpuid)
        cpu = self.cpu
        cpu.root = self.shadow.root
        cpu.memory.wrote = self.wrote
        cpu.tables_changed, cpu.root_changed = self.gdt.loaded, self.gdt.moved
        cpu.interrupts_changed = self._interrupts_changed

    # -- the pCPU ------------------------------------------------------------------------------------------------------
    def install(self) -> None:
        pcpu, state = self.pcpu, self.state
        for vector in range(32):
            pcpu.on_exception[vector] = self._exception(vector)
        pcpu.on_exception[svm.PF] = self._page_fault
        pcpu.aux[cs.INTERCEPT_EXCEPTIONS] = 0xFFFF_FFFF
        state[cs.INTERCEPT] = 0
        pcpu.aux[cs.INTERCEPT_CR] = pcpu.aux[cs.INTERCEPT_DR] = 0
        pcpu.on_int = self._software_interrupt
        pcpu.on_syscall = self._syscall
        pcpu.on_cpuid = self._cpuid
        pcpu.on_io = self._io
        pcpu.on_may_io = lambda port, size: False
        pcpu.on_exit(svm.VMEXIT_NPF, self._nested_fault)

    def reset(self, entry: int, rbx: int) -> None:
        self.shadow.drop()
        self.cpu.reset(entry, rbx)
        self.gdt.enter()
        self.state[cs.NESTED_CR3] = self.nested.root
        self.pcpu.aux[cs.NESTED_PG_MODE] = NESTED_LONG
        self.state[HFLAGS] |= cs.HF2_NPT
        self.pcpu.flush_tlb()

    def close(self) -> None:
        self.shadow.close()

    # -- exits ---------------------------------------------------------------------------------------------------------
    def left(self, why: str, detail: str = "") -> None:
        """Count an exit."""
        self.counts.exit(why, detail)

    def _exception(self, vector: int) -> Callable[[], None]:
        name = NAMES.get(vector, f"exception-{vector}")

        def exception() -> None:
            code = self.pcpu.aux[cs.ERROR_CODE]
            if vector in TRAPS_OF_PRIVILEGE and self._privileged_instruction(name):
                return
            self.left(name)
            if vector == svm.DB:
                self.cpu.debug[6] |= SINGLE_STEP
            self.reflect(GuestException(vector, code if vector in HAS_ERROR_CODE else None))

        return exception

    def _privileged_instruction(self, name: str) -> bool:
        """Whether an exception was caused by the real ring. If so, the instruction is emulated, or faults by the rules
        of the guest's own ring."""
        try:
            instruction = decode.fetch(self.cpu)
        except GuestException:
            return False
        what = reason(instruction)
        if not what:
            return False
        if self.cpu.cpl == 3:
            self._of_the_users(instruction, name, what)
            return True
        if not self.time_for_the_cpu(what):
            self.left(what, str(instruction))
            self.counts.add("emulated_instructions")
        self.emulate(instruction)
        return True

    def _of_the_users(self, instruction: Instruction, name: str, what: str) -> None:
        """A sensitive instruction of user code: usually it faults by the guest's own rules too, for its kernel."""
        try:
            self.carry_out(instruction)
        except GuestException as exception:
            self.left(name, str(instruction))
            self.reflect(exception)
        else:
            if not self.time_for_the_cpu(what):
                self.left(what, str(instruction))
                self.counts.add("emulated_instructions")

    def time_for_the_cpu(self, what: str) -> bool:
        """Whether this is an RDTSC that traps only because time is virtual; it is counted as an assist."""
        if what == "rdtsc" and self.pcpu.virtual and not self.cpu.cr4 & CR4_TSD:
            self.counts.assist("rdtsc")
            return True
        return False

    def _page_fault(self) -> None:
        address, code = self.pcpu.vmcb[FAULT_ADDRESS], self.pcpu.aux[cs.ERROR_CODE]
        try:
            outcome = self.shadow.page_fault(address, code)
        except PageFault as fault:
            self.left("page-fault", "guest")
            self.reflect(fault)
            return
        if outcome is Outcome.FILLED:
            self.left("page-fault", "hidden")
            return
        self.left("trace" if outcome is Outcome.TRACED else "page-fault", outcome.value)
        try:
            instruction = decode.fetch(self.cpu)
        except GuestException as exception:
            self.reflect(exception)
            return
        if outcome is Outcome.TRACED:
            self.traced_store(instruction)
        self.counts.add("emulated_instructions")
        try:
            self.emulator.execute(instruction)
        except GuestException as exception:
            self.reflect(exception)
        except Unknown:
            if outcome is not Outcome.TRACED or not self.shadow.let_go(address):
                raise DomainCrash(f"{self.name} cannot emulate the instruction at {self.cpu.rip:#x}") from None

    def traced_store(self, instruction: Instruction) -> None:
        """Called before the instruction at RIP, a store to a traced frame, is emulated."""

    def _software_interrupt(self, vector: int) -> None:
        self.left("int", f"{vector:#x}")
        behind = self.cpu.rip
        try:
            arch.deliver(self.cpu, vector, software=True)
        except GuestException as exception:
            self.cpu.rip = behind - (self._length_of_int(behind) if vector in (svm.BP, svm.OF) else 2)
            self.reflect(exception)

    def _length_of_int(self, behind: int) -> int:
        """The length of the INT n, INT3 or INTO that was executed."""
        try:
            last = self.cpu.memory.fetch(behind - 1, 1, user=self.cpu.cpl == 3)[0]
        except GuestException:
            return 2
        return 1 if last in (INT3, INTO) else 2

    def _syscall(self) -> None:
        """The exit at SYSCALL. RIP, RCX and R11 are as the CPU leaves them, but with the real flags in R11."""
        self.left("syscall")
        self.state[cs.R11] = self.cpu.rflags & ~RF
        try:
            arch.syscall(self.cpu)
        except GuestException as exception:
            self.pcpu.undo_syscall()
            self.reflect(exception)

    # -- what the engine leaves undone of the CPU ----------------------------------------------------------------------
    def _cpuid(self) -> None:
        self.counts.assist("cpuid")
        state = self.state
        state[cs.RAX], state[cs.RBX], state[cs.RCX], state[cs.RDX] = self.cpuid(state[cs.RAX] & 0xFFFF_FFFF, 0)

    def _io(self, port: int, size: int, write: bool, value: int) -> None:
        """Refuse IN and OUT at any ring the guest runs at, because IOPL is 0 and the real TSS has no permission map."""
        self.counts.assist("io-privilege")

    def _nested_fault(self) -> None:
        address = self.pcpu.vmcb[FAULT_ADDRESS]
        filled = self.nested.fill(address)
        if filled is Filled.NOTHING:
            raise DomainCrash(f"the shadow leads to {address:#x}, where there is no memory")
        if filled is Filled.WRITABLE:
            self.code_written(address)

    def code_written(self, address: int) -> None:
        """A frame from which the engine translated code was written."""
        self.counts.assist("code-coherence")

    # -- doing it for the guest ----------------------------------------------------------------------------------------
    def emulate(self, instruction: Instruction) -> None:
        """Emulate an instruction, and deliver the exception it raises, if any."""
        try:
            self.carry_out(instruction)
        except GuestException as exception:
            self.reflect(exception)

    def carry_out(self, instruction: Instruction) -> None:
        """Emulate an instruction. Raises GuestException, DomainCrash."""
        try:
            self.emulator.execute(instruction)
        except Unknown:
            raise DomainCrash(f"{self.name} cannot emulate `{instruction}` at {self.cpu.rip:#x}") from None
        except PagingModeUnsupported:
            raise DomainCrash(f"the guest left long mode, which {self.name} cannot follow") from None

    def reflect(self, exception: GuestException) -> None:
        """Deliver an exception through the guest's IDT."""
        self.counts.add("faults_delivered")
        try:
            arch.raise_exception(self.cpu, exception)
        except arch.TripleFault:
            raise DomainCrash(f"triple fault: {exception} could not be delivered") from None
        self.state[HFLAGS] &= ~cs.HF_INHIBIT_IRQ

    def wrote(self, gpa: int, size: int) -> None:
        """The monitor stored into guest memory."""
        self.shadow.guest_wrote(gpa, size)
        self.gdt.wrote(gpa, size)
        mfn = self.guest.physical.mfn(gpa >> 12)
        if mfn is not None:
            self.nested.host_wrote(mfn << 12, size)

    # -- the emulator's monitor ----------------------------------------------------------------------------------------
    def port_read(self, port: int, size: int) -> int:
        return self.guest.platform.bus.read(port, size)

    def port_write(self, port: int, size: int, value: int) -> None:
        self.guest.platform.bus.write(port, size, value)

    def port_read_string(self, port: int, size: int, count: int) -> bytes:
        return self.guest.platform.bus.read_string(port, size, count)

    def port_write_string(self, port: int, size: int, data: bytes) -> int:
        return self.guest.platform.bus.write_string(port, size, data)

    def timestamp(self) -> int:
        return self.guest.timeline.now() if self.pcpu.virtual else self.pcpu.read_tsc()

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        return self.leaves.get(leaf, cpuid.NOTHING)

    def halt(self) -> None:
        self.guest.halt()

    def forget_page(self, va: int) -> None:
        self.shadow.invlpg(va)
        self.gdt.moved()

    def software_interrupt(self, vector: int, length: int) -> None:
        rip = self.state[RIP]
        self.state[RIP] = rip + length
        try:
            arch.deliver(self.cpu, vector, software=True)
        except GuestException:
            self.state[RIP] = rip
            raise

    # -- interrupts ----------------------------------------------------------------------------------------------------
    def interruptible(self) -> bool:
        return bool(self.cpu.rflags & IF) and not self.state[HFLAGS] & cs.HF_INHIBIT_IRQ

    def window_by_engine(self) -> bool:
        return bool(self.cpu.rflags & IF)

    def _interrupts_changed(self) -> None:
        """The guest's IF changed. The engine sees only the real IF, which is always set, so this is checked here."""
        if self.guest.waiting:
            self.pcpu.interrupt_window(self.window_by_engine())

    def interrupted(self) -> None:
        self.left("interrupt")

    def inject(self, vector: int) -> None:
        self.counts.add("interrupts_delivered")
        try:
            arch.deliver(self.cpu, vector, hardware=True)
        except GuestException as exception:
            self.reflect(exception)
