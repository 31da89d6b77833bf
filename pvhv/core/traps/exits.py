# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook is the exit: what happens when guest code on a pCPU does something only the hypervisor can do.

`install` gives the pCPU its callables. They run inside the engine's callback and change the live CPU state; the guest
continues with that state. The two hot ones are written without further calls:

- `syscall`: from the guest kernel's 64-bit code it is a hypercall; from user code, and from 32-bit code of the
  kernel's, it bounces to the kernel's syscall entry. Either way RCX and R11 are then RIP and RFLAGS, as the instruction
  leaves them, and CS and SS are the flat ones; Xen goes back from a hypercall by sysret, which wants them there;
- page faults, which bounce with their address.

All other exits have a handler each. The privileged instructions a PV kernel may still execute are emulated
(pvhv.core.traps.emulate); any other exception is delivered to the guest.

Read beside it: xen/arch/x86/traps.c, xen/arch/x86/x86_64/entry.S.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pvhv.abi.arch_x86 import FLAT_USER_CS32, FLAT_USER_CS64, FLAT_USER_SS
from pvhv.abi.xen import HYPERVISOR_iret
from pvhv.core.errors import DomainCrash, GuestFault, HypercallError, Restart
from pvhv.core.mm.descriptors import PERDOMAIN_VIRT_START, DescriptorTables
from pvhv.core.mm.ptwr import WRITE_DENIED, WritablePageTables
from pvhv.core.traps.bounce import VCPU_INFO_CR2, Traps
from pvhv.core.traps.debugregs import DR6_STEP
from pvhv.core.traps.debugregs import note as note_debug_status
from pvhv.core.traps.dispatch import NEG_EFAULT, NEG_ENOSYS, Continue, continue_by_registers
from pvhv.core.traps.emulate import Emulator
from pvhv.core.traps.msrs import canonical
from pvhv.machine.cpustate import CS, DF, DR6, EFLAGS, ERROR_CODE, HF_CS64, HFLAGS, RAX, RIP, SS
from pvhv.machine.pcpu import FAULT_ADDRESS
from pvhv.machine.rings import KERNEL, KERNEL_CPL, MODE
from pvhv.machine.svm import NMI, PFEC_PRESENT, PFEC_RESERVED, PFEC_USER
from pvhv.machine.x86 import DEBUG, DR6_DEFAULT, GENERAL_PROTECTION, INVALID_OPCODE, MASK64, NO_DEVICE, PAGE_FAULT

if TYPE_CHECKING:
    from pvhv.core.pv_cpu import PvCpu
    from pvhv.core.services import Services
    from pvhv.core.vcpu import VCPU

PERDOMAIN_SLOT = PERDOMAIN_VIRT_START >> 39  # with the sign's bits above it
ERROR_CODE_IDT = 2
LEGACY_SYSCALL = 0x80

# rax, rdx, rsi, rdi, r8, r10, rip out of the CPU state, at their indices 0, 2, 6, 7, 8, 10, 16.
unpack_call = struct.Struct("<Q8xQ24xQQQ8xQ40xQ").unpack_from


class Exits:
    """The exit handlers of one pCPU."""

    WRAPPABLE: ClassVar = frozenset({"descriptor_fault"})

    def __init__(self, hypervisor: Services, cpu: PvCpu) -> None:
        self.hypervisor = hypervisor
        self.cpu = cpu
        self.state = cpu.state
        self.traps = Traps(cpu, hypervisor.scheduler.break_off)
        self.emulator = Emulator(hypervisor, cpu, self.traps)
        self.writable_page_tables = WritablePageTables(
            hypervisor.pagetables, cpu, self.traps, self.emulator.fetch_some
        )

    def install(self) -> None:
        """Put the exit handlers into the pCPU."""
        pcpu = self.cpu.pcpu
        pcpu.keep_kernel_cpl()
        pcpu.syscall_leaves(FLAT_USER_CS64, FLAT_USER_SS)
        pcpu.on_syscall = self.make_syscall()
        for vector in range(32):
            pcpu.on_exception[vector] = self.make_exception(vector)
        pcpu.on_exception[DEBUG] = self.debug
        pcpu.on_exception[PAGE_FAULT] = self.make_page_fault()
        pcpu.on_exception[GENERAL_PROTECTION] = self.general_protection
        pcpu.on_exception[INVALID_OPCODE] = self.invalid_opcode
        pcpu.on_exception[NO_DEVICE] = self.no_device
        pcpu.on_int = self.software_interrupt
        pcpu.on_cpuid = self.emulator.cpuid_exit
        pcpu.on_io = self.emulator.io_exit
        pcpu.on_may_io = self.emulator.may_io

    def enter_guest(self, vcpu: VCPU) -> None:
        """Before a vCPU runs: load its first segments, and deliver an NMI or events that became pending."""
        if vcpu.segments_due:
            self.load_segments(vcpu)
        if vcpu.nmi_pending and not vcpu.nmi_masked:
            vcpu.nmi_pending = False  # without a handler it is lost, as in Xen
            trap = vcpu.trap_table[NMI]
            if trap.address:
                vcpu.nmi_masked = True
                self.traps.bounce(vcpu, trap.address, None, trap.masks_events)
        if not vcpu.stepping:  # (see pvhv.core.debugger)
            self.traps.deliver_events(vcpu)

    def load_segments(self, vcpu: VCPU) -> None:
        """Before a vCPU's first instruction: load CS and SS as Xen's iret does, or inject the fault of the load."""
        vcpu.segments_due = False
        state = self.state
        fault = self.cpu.load_code_and_stack(vcpu, state[CS], state[SS], state[RIP])
        if fault is not None:
            self.traps.inject(vcpu, *fault)

    # -- syscall ---------------------------------------------------------------------------------------------------
    def make_syscall(self) -> Callable[[], None]:
        """The `syscall` exit: hypercalls and bounced system calls.

        It is one flat function, because every hypercall pays for each line and each call in it.
        """
        hypervisor, cpu, state = self.hypervisor, self.cpu, self.state
        entries = hypervisor.calls_by_arity
        ram = cpu.memory.bytes
        iret = self.traps.iret
        deliver = self.traps.deliver_events
        bounce_syscall = self.bounce_syscall

        def syscall() -> None:
            vcpu = cpu.current
            if not vcpu.kernel_mode or not state[HFLAGS] & HF_CS64:
                bounce_syscall(vcpu)
                return
            if state[RAX] == HYPERVISOR_iret:
                vcpu.counts[HYPERVISOR_iret] += 1
                state[RAX] = iret(vcpu)
                info = vcpu.vcpu_info
                if ram[info] and not ram[info + 1]:
                    deliver(vcpu)
                return
            number, rdx, rsi, rdi, r8, r10, rip = unpack_call(state)
            vcpu.recent.append((number, rip, rdi, rsi))
            try:
                call, arity = entries[number]
                vcpu.counts[number] += 1
                if arity == 2:
                    result = call(vcpu, rdi, rsi)
                elif arity == 4:
                    result = call(vcpu, rdi, rsi, rdx, r10)
                elif arity == 3:
                    result = call(vcpu, rdi, rsi, rdx)
                elif arity == 0:
                    result = call(vcpu)
                elif arity == 1:
                    result = call(vcpu, rdi)
                else:
                    result = call(vcpu, rdi, rsi, rdx, r10, r8)
                state[RAX] = result & MASK64 if result else 0
            except HypercallError as error:
                state[RAX] = -int(error.errno) & MASK64
            except GuestFault:
                state[RAX] = NEG_EFAULT & MASK64
            except Continue as again:
                continue_by_registers(state, number, again.arguments)
                cpu.pcpu.stop()
                return
            except Restart:
                continue_by_registers(state, number, ())
                cpu.pcpu.stop()
                return
            except IndexError:
                if number < 64:
                    raise
                state[RAX] = NEG_ENOSYS & MASK64
            info = vcpu.vcpu_info
            if ram[info] and not ram[info + 1]:
                deliver(vcpu)

        return syscall

    def bounce_syscall(self, vcpu: VCPU) -> None:
        """Bounce a system call to the kernel's entry point for 64-bit or for 32-bit code."""
        state = self.state
        vcpu.exits["syscall"] += 1
        if state[HFLAGS] & HF_CS64:
            entry, code_selector = vcpu.syscall_callback_eip, FLAT_USER_CS64
        else:
            entry, code_selector = vcpu.syscall32_callback_eip, FLAT_USER_CS32
        state[CS] = code_selector  # the frame shows a flat one, whatever user code ran on, and DF, clear for the kernel
        if entry:
            self.traps.bounce(vcpu, entry, None, vcpu.syscall_disables_events)
            state[EFLAGS] &= ~DF
        else:
            state[RIP] = state[RIP] - 2 & MASK64
            self.traps.inject(vcpu, INVALID_OPCODE)
        self.traps.deliver_events(vcpu)

    # -- exceptions ------------------------------------------------------------------------------------------------
    def make_page_fault(self) -> Callable[[], None]:
        """The #PF exit."""
        cpu, state, traps = self.cpu, self.state, self.traps
        aux, vmcb = cpu.pcpu.aux, cpu.pcpu.vmcb
        words, ram = cpu.words, cpu.memory.bytes
        bounce, deliver = traps.bounce, traps.deliver_events
        store_to_table = self.writable_page_tables.page_fault

        def page_fault() -> None:
            vcpu = cpu.current
            address = vmcb[FAULT_ADDRESS]
            code = aux[ERROR_CODE]
            vcpu.exits["page_fault"] += 1
            if not code & PFEC_USER and address >> 39 == PERDOMAIN_SLOT:
                # The access is the CPU's own: a selector of the LDT was loaded.
                if self.descriptor_fault(vcpu, address, code):
                    return
            if vcpu.kernel_mode:
                if code & PFEC_USER:
                    if KERNEL_CPL != 3:
                        # The kernel lowered its own CPL with a native iretq (Linux's sync_core does), as the run began:
                        # put it back, retry. (Otherwise pacer_exits.h has done so.)
                        state[HFLAGS] = state[HFLAGS] & ~MODE | KERNEL
                        return
                    code ^= PFEC_USER
                if code & WRITE_DENIED == WRITE_DENIED and store_to_table(vcpu, address, code):
                    deliver(vcpu)
                    return
            else:
                code |= PFEC_USER
            target, _cs, _dpl, masks_events = vcpu.trap_table[PAGE_FAULT]
            if not target:
                raise DomainCrash(f"unhandled page fault at {address:#x}, error code {code:#x}")
            info = vcpu.vcpu_info
            words[info + VCPU_INFO_CR2 >> 3] = address
            bounce(vcpu, target, code, masks_events)
            if ram[info] and not ram[info + 1]:
                deliver(vcpu)

        return page_fault

    def descriptor_fault(self, vcpu: VCPU, address: int, code: int) -> bool:
        """Whether a page fault came from a segment load through the LDT mapping (L4 slot 260) and is dealt with.

        An LDT page is mapped when it is first used. If the guest has no page there, the guest gets the fault, at
        ldt_base + offset. (handle_ldt_mapping_fault)
        """
        offset = address - DescriptorTables.ldt_address(vcpu)
        if code & (PFEC_PRESENT | PFEC_RESERVED) or not 0 <= offset < vcpu.ldt_ents * 8:
            return False
        linear = vcpu.ldt_base + offset
        memory = self.cpu.memory
        try:
            entry = memory.words[memory.entry_address(linear) >> 3]
        except GuestFault:
            entry = 0
        if not self.hypervisor.descriptors.map_ldt_page(vcpu, offset, entry):
            if canonical(linear):
                self.traps.inject_page_fault(vcpu, linear, code)
            else:
                self.traps.inject(vcpu, GENERAL_PROTECTION, offset & ~3 | 4)
            self.traps.deliver_events(vcpu)
        return True

    def make_exception(self, vector: int) -> Callable[[], None]:
        """Make the exit handler of an exception that is delivered to the guest without further checks."""

        def exception() -> None:
            vcpu = self.cpu.current
            vcpu.exits["exception"] += 1
            self.give(vector, self.cpu.pcpu.aux[ERROR_CODE])

        return exception

    def debug(self) -> None:
        """#DB: a single step, a breakpoint or icebp. The step that the engine reports at the iret itself is dropped."""
        state, vcpu = self.state, self.cpu.current
        stepped_from, self.traps.steps_from = self.traps.steps_from, None
        dr6, state[DR6] = state[DR6], DR6_DEFAULT
        if stepped_from != state[RIP] or not dr6 & DR6_STEP:
            note_debug_status(vcpu, dr6)
            vcpu.exits["exception"] += 1
            self.give(DEBUG)

    def give(self, vector: int, error_code: int = 0) -> None:
        """Inject an exception, then deliver pending events."""
        vcpu = self.cpu.current
        self.traps.inject(vcpu, vector, error_code)
        self.traps.deliver_events(vcpu)

    def general_protection(self) -> None:
        """#GP: emulate a privileged instruction, or deliver the exception."""
        vcpu = self.cpu.current
        vcpu.exits["general_protection"] += 1
        error_code = self.cpu.pcpu.aux[ERROR_CODE]
        if error_code == 0 and self.emulator.privileged_instruction(vcpu):
            self.traps.deliver_events(vcpu)
            return
        self.give(GENERAL_PROTECTION, error_code)

    def invalid_opcode(self) -> None:
        """#UD: forced emulation (ud2; "xen"; cpuid); #GP for rdpmc, which the engine lacks; or the exception."""
        vcpu = self.cpu.current
        vcpu.exits["invalid_opcode"] += 1
        if self.emulator.forced_emulation(vcpu):
            return
        self.give(GENERAL_PROTECTION if self.emulator.performance_counter(vcpu) else INVALID_OPCODE)

    def no_device(self) -> None:
        """#NM: the guest set TS by fpu_taskswitch. As in Xen, TS is cleared when the exception is delivered."""
        vcpu = self.cpu.current
        vcpu.exits["no_device"] += 1
        if vcpu.ts:
            vcpu.ts = False
            self.cpu.pcpu.set_ts(False)
            self.give(NO_DEVICE)
        else:
            self.cpu.pcpu.set_ts(False)

    def software_interrupt(self, vector: int) -> None:
        """`int n`: to the guest's own handler where the trap table's DPL permits it, else #GP at the instruction."""
        vcpu = self.cpu.current
        vcpu.exits["software_interrupt"] += 1
        trap = vcpu.trap_table[vector]
        level = 3 if not vcpu.kernel_mode else 0 if vcpu.architectural_iopl else 1
        # int3, into and int 0x80 have gates of their own in Xen's IDT, which any ring may use.
        if vector in (3, 4) or trap.dpl >= level or (vector == LEGACY_SYSCALL and trap.address):
            if not trap.address:
                raise DomainCrash(f"unhandled software interrupt: vector {vector}")
            self.traps.bounce(vcpu, trap.address, None, trap.masks_events)
        else:
            self.state[RIP] = self.state[RIP] - 2 & MASK64
            self.traps.inject(vcpu, GENERAL_PROTECTION, vector << 3 | ERROR_CODE_IDT)
        self.traps.deliver_events(vcpu)
