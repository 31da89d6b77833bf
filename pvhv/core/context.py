# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU's context as a whole: registers, entry points, descriptor tables and page tables at once.

The domain builder sets the context of vCPU 0; a guest sets those of its other vCPUs (VCPUOP_initialise). The page
tables it names are validated like any that the guest loads later. Everything is checked before anything is changed,
except for the page tables, whose validation may be preempted and continued.

CS and SS are loaded when the vCPU first runs (`segments_due`), because its LDT is mapped by its own page tables. Xen,
too, detects a bad CS or SS only then.

`get_context` reads the whole context, to save or dump a domain.

Not modelled: the context's data segments and FPU image.

Read beside it: arch_set_info_guest in xen/arch/x86/domain.c, arch_get_info_guest in xen/arch/x86/domctl.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pvhv.abi.arch_x86 import (
    FIRST_RESERVED_GDT_ENTRY,
    FLAT_KERNEL_CS,
    FLAT_KERNEL_SS,
    HYPERVISOR_VIRT_END,
    VGCF_IN_KERNEL,
    VcpuGuestContext,
    VGCF_failsafe_disables_events,
    VGCF_online,
    VGCF_syscall_disables_events,
)
from pvhv.abi.errno import Errno
from pvhv.core.arch import NO_TRAP, trap_of
from pvhv.core.domain import ASSISTS
from pvhv.core.errors import HypercallError
from pvhv.core.traps.debugregs import set_register
from pvhv.core.traps.emulate import CR4_CHANGEABLE, CR4_GUEST
from pvhv.core.traps.msrs import canonical
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import (
    CR0,
    CR2,
    CS,
    EFLAGS,
    FS_BASE,
    GS_BASE,
    HF_TS,
    HFLAGS,
    IF,
    IOPL,
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
    VM,
)
from pvhv.machine.rings import KERNEL, MODE, USER
from pvhv.machine.x86 import CR0_TS, DR6_DEFAULT, DR7_DEFAULT, EFLAGS_DEFINED, LOWER_END

if TYPE_CHECKING:
    from pvhv.core.services import Services

GENERAL = {
    "rax": RAX, "rcx": RCX, "rdx": RDX, "rbx": RBX, "rsp": RSP, "rbp": RBP, "rsi": RSI, "rdi": RDI,
    "r8": R8, "r9": R9, "r10": R10, "r11": R11, "r12": R12, "r13": R13, "r14": R14, "r15": R15, "rip": RIP,
}  # fmt: skip

CR0_GUEST = 0x8005_0033  # PG AM WP NE ET MP PE

COST = 256  # units of work

MUST_BE_CANONICAL = (
    "kernel_sp", "fs_base", "gs_base_kernel", "gs_base_user",
    "event_callback_eip", "syscall_callback_eip", "failsafe_callback_eip",
)  # fmt: skip


def set_context(hypervisor: Services, vcpu: VCPU, context: Any) -> None:
    """Set `vcpu` from `context`, a vcpu_guest_context record. Raises HypercallError, or Restart."""
    hypervisor.must_yield(COST)
    check(context)
    traps = list(context.trap_ctxt)
    if any(not canonical(trap.address) for trap in traps):
        raise HypercallError(Errno.EINVAL)
    kernel_mfn, user_mfn = context.ctrlreg[3] >> 12, context.ctrlreg[1] >> 12
    if not context.flags & VGCF_IN_KERNEL and not user_mfn:
        raise HypercallError(Errno.EINVAL)
    if vcpu.vcpu_id == 0 and context.vm_assist & ~sum(1 << kind for kind in ASSISTS):
        raise HypercallError(Errno.EINVAL)
    if vcpu.vcpu_id == 0:
        vcpu.domain.set_assists(context.vm_assist)
    hypervisor.pagetables.settle()
    entries = context.gdt_ents
    hypervisor.descriptors.set_gdt(vcpu, list(context.gdt_frames)[: (entries + 511) // 512], entries)
    take_roots(hypervisor, vcpu, kernel_mfn, user_mfn)

    vcpu.ldt_ents = context.ldt_ents
    vcpu.ldt_base = context.ldt_base if context.ldt_ents else 0
    vcpu.trap_table = [trap_of(trap) if trap.address else NO_TRAP for trap in traps]
    vcpu.kernel_ss = context.kernel_ss | 3
    vcpu.kernel_sp = context.kernel_sp
    vcpu.event_callback_eip = context.event_callback_eip
    vcpu.failsafe_callback_eip = context.failsafe_callback_eip
    vcpu.syscall_callback_eip = context.syscall_callback_eip
    vcpu.failsafe_disables_events = bool(context.flags & VGCF_failsafe_disables_events)
    vcpu.syscall_disables_events = bool(context.flags & VGCF_syscall_disables_events)
    vcpu.cr4 = CR4_GUEST | context.ctrlreg[4] & CR4_CHANGEABLE
    vcpu.debugreg = [0, 0, 0, 0, 0, 0, DR6_DEFAULT, DR7_DEFAULT]
    for number in (0, 1, 2, 3, 6, 7):
        try:
            set_register(vcpu, number, context.debugreg[number])
        except HypercallError:
            pass  # as in Xen: a debug register that cannot be is left at its default
    vcpu.kernel_mode = bool(context.flags & VGCF_IN_KERNEL)
    vcpu.gs_base_user = context.gs_base_user
    vcpu.gs_base_kernel = context.gs_base_kernel
    load_registers(vcpu, context)
    vcpu.initialised = True
    if context.flags & VGCF_online:
        hypervisor.activity.bring_up(vcpu)


def take_roots(hypervisor: Services, vcpu: VCPU, kernel_mfn: int, user_mfn: int) -> None:
    """Take the L4s of kernel and user mode. A repeated call continues from what an earlier attempt took.

    Raises HypercallError(EINVAL), or Restart.
    """
    tables, domid, strict = hypervisor.pagetables, vcpu.domain.domid, vcpu.domain.m2p_strict
    for name, mfn, wanted, m2p in (
        ("guest_table", kernel_mfn, True, True),
        ("guest_table_user", user_mfn, bool(user_mfn), False),
    ):
        have = getattr(vcpu, name)
        if have and have == mfn:
            continue
        setattr(vcpu, name, 0)
        if have:
            tables.put_root(have)
        if wanted:
            tables.get_root(mfn, domid)
            setattr(vcpu, name, mfn)
            if m2p != strict:  # else it is as it should be from the beginning
                tables.show_m2p(mfn, m2p)


def check(context: Any) -> None:
    """Check what needs no reference to a frame. Raises HypercallError(EINVAL)."""
    registers = context.user_regs
    if not canonical(registers.rip) or not canonical(registers.rsp):
        raise HypercallError(Errno.EINVAL)
    if any(not canonical(getattr(context, name)) for name in MUST_BE_CANONICAL):
        raise HypercallError(Errno.EINVAL)
    base, entries = context.ldt_base, context.ldt_ents
    if entries > 8192 or base & 0xFFF or LOWER_END <= base < HYPERVISOR_VIRT_END:
        raise HypercallError(Errno.EINVAL)
    if context.gdt_ents > FIRST_RESERVED_GDT_ENTRY:
        raise HypercallError(Errno.EINVAL)


def load_registers(vcpu: VCPU, context: Any) -> None:
    """Set the registers of `vcpu` from the context."""
    pcpu = vcpu.domain.timeline.cpu.pcpu
    vcpu.context[:] = pcpu.initial
    state = vcpu.state
    registers = context.user_regs
    for name, index in GENERAL.items():
        state[index] = getattr(registers, name)
    flags = registers.rflags
    vcpu.iopl = flags >> 12 & 3
    state[EFLAGS] = flags & EFLAGS_DEFINED & ~(IOPL | VM) | IF | 2
    vcpu.ts = bool(context.ctrlreg[0] & CR0_TS)
    if vcpu.ts:
        state[CR0] |= CR0_TS
        state[HFLAGS] |= HF_TS
    state[CS] = registers.cs | 3
    state[SS] = registers.ss | 3
    vcpu.segments_due = (registers.cs | 3, registers.ss | 3) != (FLAT_KERNEL_CS, FLAT_KERNEL_SS)
    state[FS_BASE] = context.fs_base
    state[GS_BASE] = context.gs_base_kernel if vcpu.kernel_mode else context.gs_base_user
    state[HFLAGS] = state[HFLAGS] & ~MODE | (KERNEL if vcpu.kernel_mode else USER)


def get_context(vcpu: VCPU) -> Any:
    """The context of `vcpu`: a vcpu_guest_context record. (arch_get_info_guest)"""
    context, state, domain = VcpuGuestContext(), vcpu.state, vcpu.domain
    flags = (
        (VGCF_online, not vcpu.down),
        (VGCF_IN_KERNEL, vcpu.kernel_mode),
        (VGCF_failsafe_disables_events, vcpu.failsafe_disables_events),
        (VGCF_syscall_disables_events, vcpu.syscall_disables_events),
    )
    context.flags = sum(flag for flag, is_so in flags if is_so)
    registers = context.user_regs
    for name, index in GENERAL.items():
        setattr(registers, name, state[index])
    registers.rflags = state[EFLAGS] & EFLAGS_DEFINED & ~IOPL | vcpu.iopl << 12
    registers.cs, registers.ss = state[CS] & 0xFFFF, state[SS] & 0xFFFF
    for vector, trap in enumerate(vcpu.trap_table):
        if trap.address:
            row = context.trap_ctxt[vector]
            row.vector, row.flags, row.cs = vector, trap.dpl | trap.masks_events << 2, trap.cs
            row.address = trap.address
    context.ldt_base, context.ldt_ents = vcpu.ldt_base if vcpu.ldt_ents else 0, vcpu.ldt_ents
    for index, mfn in enumerate(vcpu.gdt_frames):
        context.gdt_frames[index] = mfn
    context.gdt_ents = vcpu.gdt_ents
    context.kernel_ss, context.kernel_sp = vcpu.kernel_ss, vcpu.kernel_sp
    context.ctrlreg[0] = CR0_GUEST | (CR0_TS if vcpu.ts else 0)
    context.ctrlreg[1] = vcpu.guest_table_user << 12
    context.ctrlreg[2] = state[CR2]
    context.ctrlreg[3] = vcpu.guest_table << 12
    context.ctrlreg[4] = vcpu.cr4
    for index, value in enumerate(vcpu.debugreg):
        context.debugreg[index] = value
    context.event_callback_eip = vcpu.event_callback_eip
    context.failsafe_callback_eip = vcpu.failsafe_callback_eip
    context.syscall_callback_eip = vcpu.syscall_callback_eip
    context.vm_assist = domain.vm_assist
    context.fs_base = state[FS_BASE]
    context.gs_base_kernel = state[GS_BASE] if vcpu.kernel_mode else vcpu.gs_base_kernel
    context.gs_base_user = vcpu.gs_base_user if vcpu.kernel_mode else state[GS_BASE]
    return context
