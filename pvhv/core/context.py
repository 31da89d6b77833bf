# SPDX-License-Identifier: GPL-2.0-or-later
"""Giving a vCPU its first context: registers, entry points, descriptor tables and page tables at once.

The domain builder does it for vCPU 0, a guest for its others (VCPUOP_initialise). The page tables named in it are
validated here like any the guest would load later. Everything is checked before anything is changed, but for the page
tables, whose validation may be put aside and taken up again.

Read beside it: arch_set_info_guest in xen/arch/x86/domain.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pvhv.abi.errno import Errno
from pvhv.core.calls.cpu import VALID_ASSISTS_64, trap_of
from pvhv.core.debugregs import set_register
from pvhv.core.descriptors import FIRST_RESERVED_GDT_ENTRY
from pvhv.core.emulate import CR4_CHANGEABLE, CR4_GUEST, canonical
from pvhv.core.errors import HypercallError
from pvhv.core.guestmem import HYPERVISOR_VIRT_END, LOWER_END
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import (
    CS,
    EFLAGS,
    FS_BASE,
    GS_BASE,
    HFLAGS,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RIP,
    RSI,
    RSP,
    SS,
)

if TYPE_CHECKING:
    from pvhv.core.hypervisor import Hypervisor

VGCF_I387_VALID = 1 << 0
VGCF_IN_KERNEL = 1 << 2
VGCF_FAILSAFE_DISABLES_EVENTS = 1 << 3
VGCF_SYSCALL_DISABLES_EVENTS = 1 << 4
VGCF_ONLINE = 1 << 5

GENERAL = {
    "rax": RAX, "rcx": RCX, "rdx": RDX, "rbx": RBX, "rsp": RSP, "rbp": RBP, "rsi": RSI, "rdi": RDI,
    "r8": R8, "r9": R9, "r10": R10, "r11": R11, "r12": R12, "r13": R13, "r14": R14, "r15": R15, "rip": RIP,
}  # fmt: skip

MUST_BE_CANONICAL = (
    "kernel_sp", "fs_base", "gs_base_kernel", "gs_base_user",
    "event_callback_eip", "syscall_callback_eip", "failsafe_callback_eip",
)  # fmt: skip


def set_context(hypervisor: Hypervisor, vcpu: VCPU, context: Any) -> None:
    """Make `vcpu` what `context` (a vcpu_guest_context record) says. Raises HypercallError, or Restart."""
    check(context)
    traps = list(context.trap_ctxt)
    if any(not canonical(trap.address) for trap in traps):
        raise HypercallError(Errno.EINVAL)
    kernel_mfn, user_mfn = context.ctrlreg[3] >> 12, context.ctrlreg[1] >> 12
    if not context.flags & VGCF_IN_KERNEL and not user_mfn:
        raise HypercallError(Errno.EINVAL)
    if vcpu.vcpu_id == 0 and context.vm_assist & ~sum(1 << kind for kind in VALID_ASSISTS_64):
        raise HypercallError(Errno.EINVAL)
    tables, domid = hypervisor.pagetables, vcpu.domain.domid
    tables.settle()
    entries = context.gdt_ents
    hypervisor.descriptors.set_gdt(vcpu, list(context.gdt_frames)[: (entries + 511) // 512], entries)
    tables.get_root(kernel_mfn, domid)
    vcpu.guest_table = kernel_mfn
    if user_mfn:
        tables.get_root(user_mfn, domid)
        vcpu.guest_table_user = user_mfn

    if vcpu.vcpu_id == 0:
        vcpu.domain.set_assists(context.vm_assist)
    vcpu.ldt_ents = context.ldt_ents
    vcpu.ldt_base = context.ldt_base if context.ldt_ents else 0
    for trap in traps:
        if trap.address:
            vcpu.trap_table[trap.vector] = trap_of(trap)
    vcpu.kernel_ss = context.kernel_ss | 3
    vcpu.kernel_sp = context.kernel_sp
    vcpu.event_callback_eip = context.event_callback_eip
    vcpu.failsafe_callback_eip = context.failsafe_callback_eip
    vcpu.syscall_callback_eip = context.syscall_callback_eip
    vcpu.failsafe_disables_events = bool(context.flags & VGCF_FAILSAFE_DISABLES_EVENTS)
    vcpu.syscall_disables_events = bool(context.flags & VGCF_SYSCALL_DISABLES_EVENTS)
    vcpu.cr4 = CR4_GUEST | context.ctrlreg[4] & CR4_CHANGEABLE
    for number in (0, 1, 2, 3, 6, 7):
        try:
            set_register(vcpu, number, context.debugreg[number])
        except HypercallError:
            pass  # as in Xen: a debug register that cannot be is left at its default
    vcpu.kernel_mode = bool(context.flags & VGCF_IN_KERNEL)
    vcpu.gs_base_user = context.gs_base_user
    vcpu.gs_base_kernel = context.gs_base_kernel
    load_registers(hypervisor, vcpu, context)
    vcpu.initialised = True
    if context.flags & VGCF_ONLINE:
        hypervisor.bring_up(vcpu)


def check(context: Any) -> None:
    """What can be checked without touching anything."""
    registers = context.user_regs
    if not canonical(registers.rip) or not canonical(registers.rsp):
        raise HypercallError(Errno.EINVAL)
    if any(not canonical(getattr(context, name)) for name in MUST_BE_CANONICAL):
        raise HypercallError(Errno.EINVAL)
    base, entries = context.ldt_base, context.ldt_ents
    if entries > 8192 or base & 0xFFF or (entries and LOWER_END <= base < HYPERVISOR_VIRT_END):
        raise HypercallError(Errno.EINVAL)
    if context.gdt_ents > FIRST_RESERVED_GDT_ENTRY:
        raise HypercallError(Errno.EINVAL)


def load_registers(hypervisor: Hypervisor, vcpu: VCPU, context: Any) -> None:
    """The part of the context that is CPU state."""
    pcpu = vcpu.domain.timeline.cpu.pcpu
    vcpu.context[:] = pcpu.initial
    state = vcpu.state
    registers = context.user_regs
    for name, index in GENERAL.items():
        state[index] = getattr(registers, name)
    flags = registers.rflags
    vcpu.iopl = flags >> 12 & 3
    state[EFLAGS] = flags & ~(3 << 12) & ~0xCD5 | 1 << 9 | 2
    state[CS] = registers.cs | 3
    state[SS] = registers.ss | 3
    state[FS_BASE] = context.fs_base
    state[GS_BASE] = context.gs_base_kernel if vcpu.kernel_mode else context.gs_base_user
    state[HFLAGS] = state[HFLAGS] & ~3 | (1 if vcpu.kernel_mode else 3)
