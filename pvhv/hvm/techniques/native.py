# SPDX-License-Identifier: GPL-2.0-or-later
"""The base of `bare` and the hardware-assisted techniques: the guest's kernel runs at CPL 0 with the engine's own
registers, and this file does for the CPU what the engine does not.

The engine raises an exception as a #VMEXIT if its intercept is on, and as a bare vector if not; in both cases it is
delivered here through the guest's IDT, unless the technique wants the exit. The same holds for SYSCALL, for the
privilege of I/O, for CPUID if no monitor answers it, and for RDTSC in virtual time. INS and OUTS are emulated, a page
at a time, because the engine would call for each element. Some events are always intercepted:
#UD, because the engine has no other usable way to report it; #DB, by which the pCPU refuses I/O; AMD-V's own
instructions and EFER, because the engine's AMD-V is on and the guest must not see that. The engine permits some
accesses that the processor refuses (unknown MSRs, reserved bits of CR4), and a null task register would end the whole
process; these are intercepted and done here. So are the debug registers, which the pCPU needs for itself.

Read beside it: technique.py; AMD's manual volume 2, 15.9 and 15.11 (instruction and MSR intercepts).

Not modelled: breakpoints (debug registers only hold what was written); what CR0 and CR3 refuse; RDTSC with prefixes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from pvhv.core.errors import DomainCrash
from pvhv.hvm.cpu import arch, cpuid
from pvhv.hvm.cpu.guestcpu import (
    MSR_CSTAR,
    MSR_FS_BASE,
    MSR_GS_BASE,
    MSR_KERNEL_GS_BASE,
    MSR_LSTAR,
    MSR_SFMASK,
    MSR_STAR,
    NativeCpu,
)
from pvhv.hvm.cpu.memory import GeneralProtection, GuestException, GuestPhysical, InvalidOpcode, PageFault
from pvhv.hvm.emulator import decode
from pvhv.hvm.emulator.emulate import Emulator, Monitor
from pvhv.hvm.paging.npt import NESTED_LONG, Filled, NestedTables
from pvhv.hvm.technique import Carried, Technique
from pvhv.machine import cpustate as cs
from pvhv.machine import svm
from pvhv.machine.cpustate import HFLAGS, IF, RAX, RCX, RDX, RIP
from pvhv.machine.pcpu import FAULT_ADDRESS
from pvhv.machine.x86 import HAS_ERROR_CODE, MASK32

SVM_INSTRUCTIONS = range(svm.VMEXIT_VMRUN, 0x87)  # VMRUN VMMCALL VMLOAD VMSAVE STGI CLGI SKINIT
MONITOR, MWAIT, INVLPGA = 0x8A, 0x8B, 0x7A
PASSED_THROUGH = (MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE)
SYSENTER_MSRS = (0x174, 0x175, 0x176)
WRITES = 16  # where the bits for writes begin in the words that intercept CRs and DRs
UNDEFINED = (*SVM_INSTRUCTIONS, INVLPGA, svm.VMEXIT_RDTSCP, MONITOR, MWAIT)  # CPUID does not offer them


class Strings:
    """What INS and OUTS use outside the CPU (a part of the Monitor of emulator/context.py)."""

    def __init__(self, guest: Carried) -> None:
        self.guest = guest

    def port_read_string(self, port: int, size: int, count: int) -> bytes:
        return self.guest.platform.bus.read_string(port, size, count)

    def port_write_string(self, port: int, size: int, data: bytes) -> int:
        return self.guest.platform.bus.write_string(port, size, data)


class NativeTechnique(Technique):
    """The guest's kernel runs at CPL 0."""

    counted = frozenset({"ring_crossings", "faults_delivered", "interrupts_delivered"})
    monitored = True  # somebody answers CPUID who may say that he is there

    def __init__(self, guest: Carried) -> None:
        super().__init__(guest)
        self.cpu: NativeCpu = NativeCpu(self.pcpu, guest.physical)
        self.tables = NestedTables(self.beneath(guest), self.pcpu, guest.own_frame)
        self.cpu.memory.wrote = self.tables.host_wrote
        self.leaves = cpuid.leaves(guest.tsc_khz, monitor=self.monitored)
        self._string: tuple[int, int] | None = None  # port and size of the INS or OUTS that was refused to the engine

    def beneath(self, guest: Carried) -> GuestPhysical:
        """The memory that the engine's page tables refer to: the guest's, if the tables are the guest's."""
        return guest.physical

    # -- handlers --------------------------------------------------------------------------------------------------
    def install(self) -> None:
        pcpu, state = self.pcpu, self.state
        for vector in range(32):
            pcpu.on_exception[vector] = self._exception(vector)
        pcpu.aux[cs.INTERCEPT_EXCEPTIONS] = 1 << svm.UD | 1 << svm.DB
        pcpu.on_fault(self._fault)
        pcpu.on_int = self._software_interrupt
        pcpu.on_syscall = self.guarded(self._syscall)
        pcpu.on_cpuid = self._cpuid_for_the_cpu
        pcpu.on_io = self._io
        pcpu.on_may_io = self._string_io
        intercepts = 0
        for code in UNDEFINED:
            intercepts |= svm.intercept_bit(code)
            pcpu.on_exit(code, self.guarded(self._undefined))
        intercepts |= svm.intercept_bit(svm.VMEXIT_MSR) | svm.intercept_bit(svm.VMEXIT_HLT)
        pcpu.on_exit(svm.VMEXIT_MSR, self.guarded(self._msr))
        pcpu.on_exit(svm.VMEXIT_HLT, self._hlt)
        pcpu.on_exit(svm.VMEXIT_NPF, self._nested_fault)
        if pcpu.virtual:
            intercepts |= svm.intercept_bit(svm.VMEXIT_RDTSC)
            pcpu.on_exit(svm.VMEXIT_RDTSC, self._rdtsc)
        intercepts |= svm.intercept_bit(svm.VMEXIT_TR_WRITE)
        pcpu.on_exit(svm.VMEXIT_TR_WRITE, self._for_the_cpu("ltr"))
        state[cs.INTERCEPT] = intercepts
        pcpu.aux[cs.INTERCEPT_CR] = 1 << WRITES + 4
        pcpu.on_exit(svm.VMEXIT_CR0_WRITE + 4, self._for_the_cpu("cr4"))
        pcpu.aux[cs.INTERCEPT_DR] = 0xFF | 0xFF << WRITES
        for number in range(8):
            for code in (svm.VMEXIT_DR0_READ, svm.VMEXIT_DR0_WRITE):
                pcpu.on_exit(code + number, self._for_the_cpu("debug-register"))
        pcpu.msr_permissions[:] = b"\xff" * len(pcpu.msr_permissions)
        for number in (*PASSED_THROUGH, *SYSENTER_MSRS):
            self.intercept_msr(number, False)

    def reset(self, entry: int, rbx: int) -> None:
        self.cpu.reset(entry, rbx)
        self.state[cs.NESTED_CR3] = self.tables.root
        self.pcpu.aux[cs.NESTED_PG_MODE] = NESTED_LONG
        self.state[HFLAGS] |= cs.HF2_NPT
        self.pcpu.flush_tlb()

    def guarded(self, handler: Callable[[], None]) -> Callable[[], None]:
        """Wrap a handler: a GuestException it raises is delivered to the guest."""

        def guarded() -> None:
            try:
                handler()
            except GuestException as exception:
                self.raise_for_the_cpu(exception)

        return guarded

    # -- exceptions ------------------------------------------------------------------------------------------------
    def raise_for_the_cpu(self, exception: GuestException) -> None:
        """Deliver an exception through the guest's IDT."""
        self.counts.add("faults_delivered")
        self.counts.assist("idt-delivery", str(exception))
        try:
            arch.raise_exception(self.cpu, exception)
        except arch.TripleFault:
            raise DomainCrash(f"triple fault: {exception} could not be delivered") from None

    def _exception(self, vector: int) -> Callable[[], None]:
        def exception() -> None:
            self._raise(vector, self.pcpu.vmcb[FAULT_ADDRESS])

        return exception

    def _fault(self, vector: int) -> None:
        if vector == svm.GP and self._string is not None:
            self._carry_out_string()
        else:
            self._raise(vector, self.cpu.cr2)

    def _raise(self, vector: int, address: int) -> None:
        code = self.pcpu.aux[cs.ERROR_CODE]
        if vector == svm.PF:
            self.raise_for_the_cpu(PageFault(address, code))
        else:
            self.raise_for_the_cpu(GuestException(vector, code if vector in HAS_ERROR_CODE else None))

    def _software_interrupt(self, vector: int) -> None:
        self.counts.assist("idt-delivery", f"int {vector:#x}")
        behind = self.cpu.rip
        try:
            self._deliver(vector, software=True)
        except GuestException as exception:
            self.cpu.rip = behind - (1 if vector in (svm.BP, svm.OF) else 2)
            self.raise_for_the_cpu(exception)

    def _deliver(self, vector: int, *, software: bool = False, hardware: bool = False) -> None:
        try:
            arch.deliver(self.cpu, vector, software=software, hardware=hardware)
        except arch.TripleFault:
            raise DomainCrash(f"triple fault: vector {vector} could not be delivered") from None

    def _undefined(self) -> None:
        raise InvalidOpcode

    # -- what the engine does not execute --------------------------------------------------------------------------
    def _syscall(self) -> None:
        self.counts.assist("syscall")
        try:
            arch.syscall(self.cpu)
        except GuestException:
            self.pcpu.undo_syscall()
            raise
        self.counts.add("ring_crossings", 2)  # there and, by the guest's own SYSRET, back

    def _for_the_cpu(self, kind: str) -> Callable[[], None]:
        """Make a handler that emulates the instruction at RIP as the processor does it; it counts an assist."""

        def instruction() -> None:
            self.counts.assist(kind)
            nobody = cast(Monitor, None)  # such an instruction asks for nothing outside the CPU
            Emulator(self.cpu, nobody).execute(decode.fetch(self.cpu))

        return self.guarded(instruction)

    def skip(self, length: int) -> None:
        """Move RIP over an instruction of `length` bytes."""
        self.state[RIP] = self.state[RIP] + length & (1 << 64) - 1
        self.state[HFLAGS] &= ~cs.HF_INHIBIT_IRQ

    def _rdtsc(self) -> None:
        self.counts.assist("rdtsc")
        now = self.guest.timeline.now()
        self.state[RAX], self.state[RDX] = now & MASK32, now >> 32
        self.skip(2)

    def answer_cpuid(self) -> None:
        """Put the CPUID leaf of EAX into the registers."""
        state = self.state
        leaf = self.leaves.get(state[RAX] & MASK32, cpuid.NOTHING)
        state[RAX], state[cs.RBX], state[RCX], state[RDX] = leaf

    def _cpuid_for_the_cpu(self) -> None:
        self.counts.assist("cpuid")
        self.answer_cpuid()

    # -- memory -------------------------------------------------------------------------------------------------
    def _nested_fault(self) -> None:
        gpa = self.pcpu.vmcb[FAULT_ADDRESS]
        filled = self.tables.fill(gpa)
        if filled is Filled.NOTHING:
            raise DomainCrash(f"access to guest-physical {gpa:#x}, where there is neither memory nor a device")
        if filled is Filled.NEW:
            self.first_touch(gpa)
        else:
            self.counts.assist("code-coherence")

    def first_touch(self, gpa: int) -> None:
        """A page of the guest's memory was used for the first time."""

    # -- MSRs ------------------------------------------------------------------------------------------------------
    def intercept_msr(self, number: int, intercepted: bool = True) -> None:
        """Set whether reads and writes of an MSR exit."""
        base = {0: 0, 0xC000_0000: 0x800, 0xC001_0000: 0x1000}[number & 0xFFFF_0000]
        at, shift = base + (number & 0x1FFF) // 4, (number & 3) * 2
        permissions = self.pcpu.msr_permissions
        permissions[at] = permissions[at] & ~(3 << shift) | (3 << shift if intercepted else 0)

    def _msr(self) -> None:
        self.counts.assist("msr", f"{self.state[RCX] & MASK32:#x}")
        self.access_msr()

    def access_msr(self) -> None:
        """Carry out RDMSR or WRMSR, as EXITINFO1 says. Raises GeneralProtection."""
        state, number = self.state, self.state[RCX] & MASK32
        if self.pcpu.aux[cs.ERROR_CODE] & 1:
            self.cpu.write_msr(number, state[RDX] << 32 & ~MASK32 & (1 << 64) - 1 | state[RAX] & MASK32)
        else:
            value = self.cpu.read_msr(number)
            state[RAX], state[RDX] = value & MASK32, value >> 32
        self.skip(2)

    # -- I/O, HLT, interrupts --------------------------------------------------------------------------------------
    def _io(self, port: int, size: int, write: bool, value: int) -> int | None:
        if not self._may_io(port, size):
            return None
        self.io_exit(port, size, write, value)
        bus = self.guest.platform.bus
        if write:
            bus.write(port, size, value)
            return 0
        return bus.read(port, size)

    def _may_io(self, port: int, size: int) -> bool:
        try:
            return arch.may_do_io(self.cpu, port, size)
        except GuestException:
            return False

    def _string_io(self, port: int, size: int) -> bool:
        """INS or OUTS is about to be executed. It is refused to the engine: if it is permitted, it is done here."""
        self._string = (port, size) if self._may_io(port, size) else None
        return False

    def _carry_out_string(self) -> None:
        (port, size), self._string = cast(tuple[int, int], self._string), None

        def string() -> None:
            instruction = decode.fetch(self.cpu)
            self.io_exit(port, size, instruction.name.startswith("outs"), 0)
            Emulator(self.cpu, cast(Monitor, Strings(self.guest))).execute(instruction)

        self.guarded(string)()

    def io_exit(self, port: int, size: int, write: bool, value: int) -> None:
        """A permitted access is about to be done: by whom?"""

    def _hlt(self) -> None:
        if self.cpu.cpl:
            self.raise_for_the_cpu(GeneralProtection())
            return
        self.hlt_exit()
        self.skip(1)
        self.guest.halt()

    def hlt_exit(self) -> None:
        """HLT is about to be done."""
        self.counts.assist("hlt")

    def interruptible(self) -> bool:
        return bool(self.cpu.rflags & IF) and not self.state[HFLAGS] & cs.HF_INHIBIT_IRQ

    def inject(self, vector: int) -> None:
        self.counts.add("interrupts_delivered")
        self.counts.assist("idt-delivery", f"interrupt {vector:#x}")
        try:
            self._deliver(vector, hardware=True)
        except GuestException as exception:
            self.raise_for_the_cpu(exception)
