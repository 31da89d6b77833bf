# SPDX-License-Identifier: GPL-2.0-or-later
"""What a PV kernel would do to its own CPU with privileged instructions: vectors, stacks, segments, FPU, DRs.

Read beside it: xen/arch/x86/pv/callback.c, pv/misc-hypercalls.c, pv/descriptor-tables.c, pv/iret.c.
"""

from __future__ import annotations

from typing import Any

from pvhv.abi.arch_x86 import (
    FIRST_RESERVED_GDT_ENTRY,
    FLAT_KERNEL_CS,
    SEGBASE_FS,
    SEGBASE_GS_USER,
    SEGBASE_GS_USER_SEL,
    TrapInfo,
)
from pvhv.abi.callback import (
    CALLBACKOP,
    SET_CALLBACKS,
    XENNMI,
    CALLBACKF_mask_events,
    CALLBACKTYPE_event,
    CALLBACKTYPE_failsafe,
    CALLBACKTYPE_nmi,
    CALLBACKTYPE_syscall,
    CALLBACKTYPE_syscall32,
    CALLBACKTYPE_sysenter,
)
from pvhv.abi.cpu import (
    FPU_TASKSWITCH,
    GET_DEBUGREG,
    IRET,
    SET_DEBUGREG,
    SET_SEGMENT_BASE,
    SET_TRAP_TABLE,
    STACK_SWITCH,
    VM_ASSIST,
)
from pvhv.abi.errno import Errno
from pvhv.abi.mmu import SET_GDT, UPDATE_DESCRIPTOR
from pvhv.core.arch import NO_TRAP, Trap, trap_of
from pvhv.core.domain import ASSISTS
from pvhv.core.errors import HypercallError
from pvhv.core.traps.debugregs import get_register, set_register
from pvhv.core.traps.dispatch import Continue, handles, hypercall
from pvhv.core.traps.msrs import canonical
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import FS_BASE, GS_BASE
from pvhv.machine.svm import NMI

# Callbacks that cannot be taken back.
LASTING = frozenset((
    CALLBACKTYPE_event, CALLBACKTYPE_failsafe, CALLBACKTYPE_syscall, CALLBACKTYPE_syscall32, CALLBACKTYPE_sysenter,
))  # fmt: skip
TRAP_SIZE = 16


# -- vectors -------------------------------------------------------------------------------------------------------
@hypercall(SET_TRAP_TABLE)
def set_trap_table(vcpu: VCPU, traps: int) -> int:
    """Set rows of the virtual IDT from a list that ends with an address of 0; NULL clears it."""
    if not traps:
        vcpu.trap_table = [NO_TRAP] * 256
        return 0
    must_yield = vcpu.domain.hypervisor.must_yield
    while True:
        info = TrapInfo.from_buffer_copy(vcpu.memory.read(traps, TRAP_SIZE))
        if not info.address:
            return 0
        if not canonical(info.address):
            raise HypercallError(Errno.EINVAL)
        vcpu.trap_table[info.vector] = trap_of(info)
        traps += TRAP_SIZE
        if must_yield(1):
            raise Continue(traps)


def register(vcpu: VCPU, kind: int, address: int, masks_events: bool) -> None:
    """Set one entry point. Raises HypercallError: EINVAL (address not canonical), ENOSYS (unknown kind)."""
    if not canonical(address):
        raise HypercallError(Errno.EINVAL)
    if kind == CALLBACKTYPE_event:
        vcpu.event_callback_eip = address
    elif kind == CALLBACKTYPE_failsafe:
        vcpu.failsafe_callback_eip = address
        vcpu.failsafe_disables_events = masks_events
    elif kind == CALLBACKTYPE_syscall:
        vcpu.syscall_callback_eip = address
        vcpu.syscall_disables_events = masks_events
    elif kind == CALLBACKTYPE_syscall32:
        vcpu.syscall32_callback_eip = address
        vcpu.syscall32_disables_events = masks_events
    elif kind == CALLBACKTYPE_sysenter:
        vcpu.sysenter_callback_eip = address
        vcpu.sysenter_disables_events = masks_events
    elif kind == CALLBACKTYPE_nmi:
        vcpu.trap_table[NMI] = Trap(address, FLAT_KERNEL_CS, 0, True)
    else:
        raise HypercallError(Errno.ENOSYS)


@handles(CALLBACKOP.register)
def callback_register(vcpu: VCPU, op: Any) -> None:
    """Set one of the vCPU's entry points."""
    register(vcpu, op.type, op.address, bool(op.flags & CALLBACKF_mask_events))


@handles(CALLBACKOP.unregister)
def callback_unregister(vcpu: VCPU, op: Any) -> None:
    """Remove an entry point; only the one for NMIs can be removed."""
    if op.type == CALLBACKTYPE_nmi:
        vcpu.trap_table[NMI] = NO_TRAP
    elif op.type in LASTING:
        raise HypercallError(Errno.EINVAL)
    else:
        raise HypercallError(Errno.ENOSYS)


@hypercall(SET_CALLBACKS)
def set_callbacks(vcpu: VCPU, event: int, failsafe: int, syscall: int) -> int:
    """Set the three entry points in one call; an address that is not canonical is skipped without an error."""
    if canonical(event):
        vcpu.event_callback_eip = event
    if canonical(failsafe):
        vcpu.failsafe_callback_eip = failsafe
        vcpu.failsafe_disables_events = False
    if canonical(syscall):
        vcpu.syscall_callback_eip = syscall
        vcpu.syscall_disables_events = False
    return 0


@handles(XENNMI.register_callback)
def nmi_register(vcpu: VCPU, op: Any) -> None:
    """Set the NMI entry point."""
    register(vcpu, CALLBACKTYPE_nmi, op.handler_address, False)


@handles(XENNMI.unregister_callback)
def nmi_unregister(vcpu: VCPU, _arg: int) -> None:
    """Remove the NMI entry point."""
    vcpu.trap_table[NMI] = NO_TRAP


@hypercall(IRET)
def iret(vcpu: VCPU) -> int:
    """Return by the iret_context on top of the guest's stack."""
    return vcpu.domain.timeline.cpu.iret(vcpu)


# -- stacks, segments, descriptors ---------------------------------------------------------------------------------
@hypercall(STACK_SWITCH)
def stack_switch(vcpu: VCPU, ss: int, esp: int) -> int:
    """Set the stack on which the kernel is entered from user code."""
    vcpu.kernel_ss = ss & 0xFFFF | 3
    vcpu.kernel_sp = esp
    return 0


@hypercall(SET_SEGMENT_BASE)
def set_segment_base(vcpu: VCPU, which: int, base: int) -> int:
    """Set the base of FS, the user's GS or the kernel's GS; or load the user's GS with a selector."""
    which &= 0xFFFF_FFFF
    if which == SEGBASE_GS_USER_SEL:
        vcpu.domain.timeline.cpu.load_user_gs(vcpu, base & 0xFFFF)
        return 0
    if which > SEGBASE_GS_USER_SEL or not canonical(base):
        raise HypercallError(Errno.EINVAL)
    if which == SEGBASE_FS:
        vcpu.state[FS_BASE] = base
    elif which == SEGBASE_GS_USER:
        vcpu.gs_base_user = base
    else:
        vcpu.state[GS_BASE] = base
    return 0


@hypercall(SET_GDT)
def set_gdt(vcpu: VCPU, frame_list: int, entries: int) -> int:
    """Make a list of frames the GDT."""
    entries &= 0xFFFF_FFFF
    if entries > FIRST_RESERVED_GDT_ENTRY:
        raise HypercallError(Errno.EINVAL)
    mfns = vcpu.memory.read_words(frame_list, (entries + 511) // 512).tolist() if entries else []
    vcpu.domain.hypervisor.descriptors.set_gdt(vcpu, mfns, entries)
    vcpu.domain.timeline.cpu.flush()
    return 0


@hypercall(UPDATE_DESCRIPTOR)
def update_descriptor(vcpu: VCPU, address: int, descriptor: int) -> int:
    """Change one descriptor, in a descriptor table or in a frame that may become one."""
    hypervisor = vcpu.domain.hypervisor
    hypervisor.descriptors.update(vcpu.domain.domid, address, descriptor)
    hypervisor.host_wrote(address >> 12)
    return 0


# -- FPU and debug registers ---------------------------------------------------------------------------------------
@hypercall(FPU_TASKSWITCH)
def fpu_taskswitch(vcpu: VCPU, set_ts: int) -> int:
    """Set or clear CR0.TS."""
    vcpu.domain.timeline.cpu.fpu_taskswitch(vcpu, bool(set_ts & 0xFFFF_FFFF))
    return 0


@hypercall(SET_DEBUGREG)
def set_debugreg(vcpu: VCPU, reg: int, value: int) -> int:
    """Set a debug register."""
    set_register(vcpu, reg & 0xFFFF_FFFF, value)
    return 0


@hypercall(GET_DEBUGREG)
def get_debugreg(vcpu: VCPU, reg: int) -> int:
    """Read a debug register."""
    return get_register(vcpu, reg & 0xFFFF_FFFF)


# -- helping hands -------------------------------------------------------------------------------------------------
@hypercall(VM_ASSIST)
def vm_assist(vcpu: VCPU, cmd: int, kind: int) -> int:
    """Switch an assist on (cmd 0) or off (1)."""
    cmd, kind = cmd & 0xFFFF_FFFF, kind & 0xFFFF_FFFF
    if kind not in ASSISTS:
        raise HypercallError(Errno.EINVAL)
    if cmd == 0:
        vcpu.domain.set_assists(vcpu.domain.vm_assist | 1 << kind)
    elif cmd == 1:
        vcpu.domain.set_assists(vcpu.domain.vm_assist & ~(1 << kind))
    else:
        raise HypercallError(Errno.ENOSYS)
    return 0
