# SPDX-License-Identifier: GPL-2.0-or-later
"""Into the guest kernel and out of it: bounce frames and the iret hypercall.

A PV guest has no IDT the hardware would use. Every event for its kernel (an exception, a system call from user code, an
event upcall) *bounces*: the hypervisor writes a frame on the guest's kernel stack and lets the vCPU continue at the
entry point the kernel registered. From low to high addresses a frame is

    rcx  r11  [error code]  rip  cs | saved upcall mask << 32  rflags  rsp  ss

The saved CS has RPL 0 if the frame interrupted the kernel; the saved RFLAGS.IF is the inverse of the upcall mask.
`iret` takes such a frame back, with rax below it and a word of flags in place of the error code.

The failsafe callback is never needed: Xen takes it when a data segment cannot be reloaded at a context switch, and
ours keep the descriptors they had.

All functions change the live CPU state, in an exit or between runs; the guest continues with that state.

Not modelled: RCX and R11 at an entry point, which hold RIP and RFLAGS in Xen because it gets there by sysret.

Read beside it: create_bounce_frame in xen/arch/x86/x86_64/entry.S, xen/arch/x86/pv/iret.c, pv/traps.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import ClassVar

from pvhv.abi.arch_x86 import FLAT_KERNEL_CS, FLAT_KERNEL_SS, FLAT_USER_CS32, VGCF_IN_SYSCALL
from pvhv.core.arch import ArchVCPU
from pvhv.core.cpu import Cpu
from pvhv.core.errors import DomainCrash, GuestFault
from pvhv.machine.cpustate import AC, CS, EFLAGS, HF_CS64, HFLAGS, IF, IOPL, NT, R11, RCX, RF, RIP, RSP, SS, TF, VM
from pvhv.machine.x86 import EFLAGS_DEFINED, HAS_ERROR_CODE, PAGE_FAULT

IRET_KEEPS = EFLAGS_DEFINED & ~(IOPL | VM)  # of the flags in an iret frame; reserved bits fall away
# What create_bounce_frame clears for the handler.
HANDLER_CLEARS = TF | NT | RF | VM | AC

CANONICAL = (0, 0x1_FFFF)  # the bits of an address from 47 on
ALIGN_16 = 0xFFFF_FFFF_FFFF_FFF0

# rcx, rsp, r11, rip, rflags, cs, ss out of the CPU state, at their indices 1, 4, 11, 16, 17, 26, 29.
unpack_registers = struct.Struct("<8xQ16xQ48xQ32xQQ64xI4x16xI").unpack_from
_FRAME = struct.Struct("<7Q")
_FRAME_WITH_CODE = struct.Struct("<8Q")
pack_frame, pack_frame_into = _FRAME.pack, _FRAME.pack_into
pack_frame_with_code, pack_frame_with_code_into = _FRAME_WITH_CODE.pack, _FRAME_WITH_CODE.pack_into
unpack_iret = struct.Struct("<9Q").unpack_from  # struct iret_context

VCPU_INFO_CR2 = 16  # offset of arch.cr2 in struct vcpu_info


class Traps:
    """Bounces and returns on one pCPU. The three hot functions are closures, because every exit pays for each line."""

    WRAPPABLE: ClassVar = frozenset({"deliver_events"})

    bounce: Callable[[ArchVCPU, int, int | None, bool], None]
    """bounce(vcpu, entry, error_code, masks_events): make the vCPU's next instruction the one at `entry` of its
    kernel, with a frame that holds the interrupted context. Raises DomainCrash without an entry point or a writable
    stack."""

    deliver_events: Callable[[ArchVCPU], None]
    """The upcall, if one is pending and not masked; every return to a guest ends with this."""

    iret: Callable[[ArchVCPU], int]
    """HYPERVISOR_iret: return by the frame at RSP; returns the value for RAX. Raises DomainCrash for a frame that
    cannot be read, and for user mode without user page tables."""

    def __init__(self, cpu: Cpu, break_off: Callable[[], None]) -> None:
        """`break_off` ends the current run of the vCPU; the scheduler looks at the vCPU before the next one."""
        self.cpu = cpu
        self.break_off = break_off
        self.state = cpu.state
        self.words = cpu.memory.words
        self.bounce = self._make_bounce()
        self.deliver_events = self._make_deliver_events()
        # Where an iret with TF set went. The engine looks at TF at the end of the iret's own `syscall`, and so has its
        # first debug exception too early, with nothing executed: that one is dropped.
        self.steps_from: int | None = None
        self.iret = cpu.iret = self._make_iret()

    def _make_bounce(self) -> Callable[[ArchVCPU, int, int | None, bool], None]:
        cpu, state, ram = self.cpu, self.state, self.cpu.memory.bytes
        lookup = cpu.memory.write_tlb.get
        push = self._push

        def bounce(vcpu: ArchVCPU, entry: int, error_code: int | None, masks_events: bool) -> None:
            if not entry:
                raise DomainCrash("the guest registered no handler for this event")
            rcx, rsp, r11, rip, rflags, cs, ss = unpack_registers(state)
            flags = rflags  # real IF is always 1 and real IOPL 0: a guest can change neither
            mask_at = vcpu.vcpu_info + 1
            if vcpu.kernel_mode:
                stack = rsp & ALIGN_16
                saved_cs = cs & ~3
            else:
                cpu.to_kernel(vcpu)
                stack = vcpu.kernel_sp & ALIGN_16
                saved_cs = cs
            if ram[mask_at]:
                saved_cs |= ram[mask_at] << 32
                flags &= ~IF
            if vcpu.architectural_iopl:
                flags |= vcpu.iopl << 12
            if error_code is None:
                stack -= 56
                frame = lookup(stack >> 12)
                offset = stack & 0xFFF
                if frame is None or offset > 0x1000 - 56:
                    push(stack, pack_frame(rcx, r11, rip, saved_cs, flags, rsp, ss))
                else:
                    pack_frame_into(ram, frame + offset, rcx, r11, rip, saved_cs, flags, rsp, ss)
            else:
                stack -= 64
                frame = lookup(stack >> 12)
                offset = stack & 0xFFF
                if frame is None or offset > 0x1000 - 64:
                    push(stack, pack_frame_with_code(rcx, r11, error_code, rip, saved_cs, flags, rsp, ss))
                else:
                    pack_frame_with_code_into(ram, frame + offset, rcx, r11, error_code, rip, saved_cs, flags, rsp, ss)
            state[RSP] = stack
            if cs != FLAT_KERNEL_CS or ss != FLAT_KERNEL_SS:
                state[CS] = FLAT_KERNEL_CS
                state[SS] = FLAT_KERNEL_SS
                if not state[HFLAGS] & HF_CS64:
                    cpu.flat_kernel()
            if rflags & HANDLER_CLEARS:
                state[EFLAGS] = rflags & ~HANDLER_CLEARS
            if masks_events:
                ram[mask_at] = 1
            state[RIP] = entry

        return bounce

    def _push(self, stack: int, frame: bytes) -> None:
        """Write a frame the slow way: the software TLB has no entry for the page, or the frame lies in two pages."""
        try:
            self.cpu.memory.write(stack, frame)
        except GuestFault as fault:
            raise DomainCrash(f"its kernel stack at {fault.address:#x} cannot take a frame") from None

    def inject(self, vcpu: ArchVCPU, vector: int, error_code: int = 0) -> None:
        """Give the guest exception `vector`. (pv_inject_event)"""
        trap = vcpu.trap_table[vector]
        if not trap.address:
            raise DomainCrash(f"unhandled exception: vector {vector}, error code {error_code:#x}")
        self.bounce(vcpu, trap.address, error_code if vector in HAS_ERROR_CODE else None, trap.masks_events)

    def inject_page_fault(self, vcpu: ArchVCPU, address: int, error_code: int) -> None:
        """Give the guest a page fault at `address`; the U bit of the error code is set from the vCPU's mode."""
        self.words[vcpu.vcpu_info + VCPU_INFO_CR2 >> 3] = address
        code = error_code & ~4 if vcpu.kernel_mode else error_code | 4
        target, _cs, _dpl, masks_events = vcpu.trap_table[PAGE_FAULT]
        if not target:
            raise DomainCrash(f"unhandled page fault at {address:#x}, error code {code:#x}")
        self.bounce(vcpu, target, code, masks_events)

    def _make_deliver_events(self) -> Callable[[ArchVCPU], None]:
        ram, bounce = self.cpu.memory.bytes, self.bounce

        def deliver_events(vcpu: ArchVCPU) -> None:
            info = vcpu.vcpu_info
            if ram[info] and not ram[info + 1]:
                bounce(vcpu, vcpu.event_callback_eip, None, True)

        return deliver_events

    def _make_iret(self) -> Callable[[ArchVCPU], int]:
        cpu, state, ram = self.cpu, self.state, self.cpu.memory.bytes
        lookup = cpu.memory.read_tlb.get

        def iret(vcpu: ArchVCPU) -> int:
            stack = state[RSP]
            frame = lookup(stack >> 12)
            offset = stack & 0xFFF
            if frame is None or offset > 0x1000 - 72:
                rax, r11, rcx, flags, rip, cs, rflags, rsp, ss = self._read_iret(stack)
            else:
                rax, r11, rcx, flags, rip, cs, rflags, rsp, ss = unpack_iret(ram, frame + offset)
            if cs & 3 == 3:
                if not vcpu.guest_table_user:
                    raise DomainCrash("it returns to user mode without a user page table (MMUEXT_NEW_USER_BASEPTR)")
                cpu.to_user(vcpu)
            if vcpu.architectural_iopl:
                vcpu.iopl = rflags >> 12 & 3
            if flags & VGCF_IN_SYSCALL:
                # Xen leaves through sysret, which takes RIP from RCX and RFLAGS from R11 and so leaves them there, and
                # which knows no selectors but the flat ones (where RIP is not canonical: through iret all the same).
                r11, rcx = rflags & ~(IOPL | VM) | IF, rip
                if rip >> 47 in CANONICAL:
                    if cs & 0xFFFF | 3 == FLAT_USER_CS32:
                        rip &= 0xFFFF_FFFF
                    else:
                        cs = FLAT_KERNEL_CS
                    ss = FLAT_KERNEL_SS
            state[R11] = r11
            state[RCX] = rcx
            state[RSP] = rsp
            state[RIP] = rip
            state[EFLAGS] = rflags & IRET_KEEPS | IF | 2
            if rflags & TF:
                self.steps_from = rip
            ram[vcpu.vcpu_info + 1] = 0 if rflags & IF else 1
            cs = cs & 0xFFFF | 3  # the upcall mask of a bounce frame stands above it
            if state[CS] != cs or state[SS] != ss | 3:
                fault = cpu.load_code_and_stack(vcpu, cs, ss & 0xFFFF | 3, rip)
                if fault is not None:
                    self.steps_from = None
                    self.inject(vcpu, *fault)
            if vcpu.nmi_masked:
                vcpu.nmi_masked = False
                self.break_off()  # another one may wait
            return rax

        return iret

    def _read_iret(self, stack: int) -> tuple[int, ...]:
        try:
            return tuple(self.cpu.memory.read_words(stack, 9))
        except GuestFault as fault:
            raise DomainCrash(f"its iret frame at {fault.address:#x} cannot be read") from None
