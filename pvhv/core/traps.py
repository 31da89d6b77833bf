# SPDX-License-Identifier: GPL-2.0-or-later
"""Into the guest kernel and out of it: bounce frames and the iret hypercall.

A PV guest has no IDT the hardware would use. Whatever has to reach its kernel (an exception, a system call of its
user code, an event upcall) *bounces*: the hypervisor writes a frame on the guest's kernel stack and lets the vCPU go
on at the entry point the kernel registered. From low to high addresses a frame is

    rcx  r11  [ds es fs gs]  [error code]  rip  cs | saved upcall mask << 32  rflags  rsp  ss

(the data segments only for the failsafe callback, when a data segment could not be restored). The saved CS has RPL 0 if the frame interrupted the kernel; the
saved RFLAGS.IF is the inverse of the upcall mask. `iret` takes such a frame back, with rax and a word of flags
below it in place of the error code.

All functions work on live state and leave the resume address in state[RIP]; inside the syscall hook their caller
subtracts what the engine is going to add.

Read beside it: create_bounce_frame in xen/arch/x86/x86_64/entry.S, xen/arch/x86/pv/iret.c, pv/traps.c.
"""

from __future__ import annotations

from pvhv.core.cpu import Cpu
from pvhv.core.errors import DomainCrash, GuestFault
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import (
    CS,
    DS,
    ES,
    FS,
    GS,
    HF_CS64,
    HFLAGS,
    R11,
    RAX,
    RCX,
    RIP,
    RSP,
    SS,
)

FLAT_KERNEL_CS = 0xE033
FLAT_KERNEL_SS = 0xE02B

EFLAGS_IF = 1 << 9
EFLAGS_IOPL = 3 << 12
EFLAGS_VM = 1 << 17
# create_bounce_frame clears TF, NT, RF, VM and AC for the handler.
HANDLER_CLEARS = 1 << 8 | 1 << 14 | 1 << 16 | 1 << 17 | 1 << 18

ARCHITECTURAL_IOPL = 1 << 4  # VMASST_TYPE_architectural_iopl

VGCF_IN_SYSCALL = 1 << 8
VCPU_INFO_CR2 = 16  # offset of arch.cr2 in struct vcpu_info

PAGE_FAULT = 14
GENERAL_PROTECTION = 13
HAS_ERROR_CODE = frozenset((8, 10, 11, 12, 13, 14, 17))


class Traps:
    """Bounces and returns on one pCPU."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu
        self.state = cpu.state
        self.words = cpu.memory.words
        self.bytes = cpu.memory.bytes

    def bounce(self, vcpu: VCPU, entry: int, error_code: int | None, masks_events: bool, failsafe: bool = False) -> None:
        """Make the vCPU's next instruction the one at `entry` of its kernel, with a frame that tells what was.

        Raises DomainCrash when there is no entry point or the frame cannot be written.
        """
        if not entry:
            raise DomainCrash("the guest has no handler for what happened to it")
        cpu, state = self.cpu, self.state
        info = vcpu.vcpu_info
        mask = self.bytes[info + 1]
        rflags = cpu.pcpu.rflags()
        rsp, ss, cs = state[RSP], state[SS] & 0xFFFF, state[CS] & 0xFFFF
        if vcpu.kernel_mode:
            stack = rsp
            cs &= ~3
        else:
            cpu.to_kernel(vcpu)
            if not state[HFLAGS] & HF_CS64:
                cpu.flat_kernel()
            stack = vcpu.kernel_sp
            cs |= 3
        shown = rflags & ~(EFLAGS_IF | EFLAGS_IOPL)
        if vcpu.domain.vm_assist & ARCHITECTURAL_IOPL:
            shown |= vcpu.iopl << 12
        if not mask:
            shown |= EFLAGS_IF
        frame = [state[RCX], state[R11]]
        if failsafe:
            for register in (DS, ES, FS, GS):
                frame.append(state[register] & 0xFFFF)
        if error_code is not None:
            frame.append(error_code)
        frame += (state[RIP], cs | mask << 32, shown, rsp, ss)
        stack = (stack & ~0xF) - 8 * len(frame)
        self._push(stack & 0xFFFF_FFFF_FFFF_FFFF, frame)
        state[RSP] = stack & 0xFFFF_FFFF_FFFF_FFFF
        state[CS] = state[CS] & ~0xFFFF | FLAT_KERNEL_CS
        state[SS] = state[SS] & ~0xFFFF | FLAT_KERNEL_SS
        if rflags & HANDLER_CLEARS:
            cpu.pcpu.set_rflags(rflags & ~HANDLER_CLEARS)
        if masks_events:
            self.bytes[info + 1] = 1
        state[RIP] = entry

    def _push(self, stack: int, frame: list[int]) -> None:
        memory = self.cpu.memory
        try:
            if (stack & 0xFFF) + 8 * len(frame) <= 0x1000:
                slot = memory.translate(stack, True) >> 3
                words = self.words
                for value in frame:
                    words[slot] = value
                    slot += 1
            else:
                memory.write(stack, b"".join(value.to_bytes(8, "little") for value in frame))
        except GuestFault as fault:
            raise DomainCrash(f"its kernel stack at {fault.address:#x} cannot take a frame") from None

    def inject(self, vcpu: VCPU, vector: int, error_code: int = 0) -> None:
        """Give the guest exception `vector`. (pv_inject_event)"""
        trap = vcpu.trap_table[vector]
        if not trap.address:
            raise DomainCrash(f"unhandled exception: vector {vector}, error code {error_code:#x}")
        self.bounce(vcpu, trap.address, error_code if vector in HAS_ERROR_CODE else None, trap.masks_events)

    def inject_page_fault(self, vcpu: VCPU, address: int, error_code: int) -> None:
        """Give the guest a page fault at `address`; the U bit of the code becomes what the guest's mode says."""
        self.words[vcpu.vcpu_info + VCPU_INFO_CR2 >> 3] = address
        code = error_code & ~4 if vcpu.kernel_mode else error_code | 4
        trap = vcpu.trap_table[PAGE_FAULT]
        if not trap.address:
            raise DomainCrash(f"unhandled page fault at {address:#x}, error code {code:#x}")
        self.bounce(vcpu, trap.address, code, trap.masks_events)

    def deliver_events(self, vcpu: VCPU) -> None:
        """The upcall, if one is pending and not masked; every return to a guest ends with this."""
        info = vcpu.vcpu_info
        if self.bytes[info] and not self.bytes[info + 1]:
            self.bounce(vcpu, vcpu.event_callback_eip, None, True)

    def iret(self, vcpu: VCPU) -> int:
        """HYPERVISOR_iret: take back the frame at RSP; the value for RAX. Leaves the true resume address in RIP."""
        cpu, state = self.cpu, self.state
        try:
            rax, r11, rcx, flags, rip, cs, rflags, rsp, ss = cpu.memory.read_words(state[RSP], 9)
        except GuestFault as fault:
            raise DomainCrash(f"its iret frame at {fault.address:#x} cannot be read") from None
        cs, ss = cs & 0xFFFF, ss & 0xFFFF
        if cs & 3 == 3:
            if not vcpu.guest_table_user:
                raise DomainCrash("it returns to user mode without a user page table (MMUEXT_NEW_USER_BASEPTR)")
            cpu.to_user(vcpu)
        if vcpu.domain.vm_assist & ARCHITECTURAL_IOPL:
            vcpu.iopl = rflags >> 12 & 3
        state[RIP] = rip
        state[RSP] = rsp
        if not flags & VGCF_IN_SYSCALL:
            state[R11] = r11
            state[RCX] = rcx
        else:
            # Xen leaves through sysret, which takes RIP from RCX and RFLAGS from R11 and so leaves them there.
            state[R11] = rflags
            state[RCX] = rip
        cpu.pcpu.set_rflags(rflags & ~(EFLAGS_IOPL | EFLAGS_VM) | EFLAGS_IF | 2)
        self.bytes[vcpu.vcpu_info + 1] = 0 if rflags & EFLAGS_IF else 1
        state[RAX] = rax
        if state[CS] & 0xFFFF != cs | 3 or state[SS] & 0xFFFF != ss | 3:
            bad = cpu.load_code_and_stack(vcpu, cs | 3, ss | 3)
            if bad is not None:
                self.inject(vcpu, GENERAL_PROTECTION, bad & ~3)
                return state[RAX]
        return rax
