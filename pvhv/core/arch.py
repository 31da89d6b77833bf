# SPDX-License-Identifier: GPL-2.0-or-later
"""The processor's side of a vCPU and of a domain: the state a pCPU loads and saves.

A pCPU (cpu.py), descriptor tables, debug registers and bounce frames use only the classes here. So they do not depend
on the scheduler, timers, events or grants, which `VCPU` (vcpu.py) and `Domain` (domain.py) add.

While the vCPU runs, `state` is the live CPU state of the pCPU; otherwise it is the saved copy, seen through the same
indices (pvhv.machine.cpustate). `kernel_mode` is a flag that only bounces and returns change. It cannot be read from
CPL, which is 3 for the guest's kernel and users alike (pvhv.machine.rings).

Read beside it: struct arch_vcpu, pv_vcpu, arch_domain and pv_domain in xen/include/asm-x86/domain.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pvhv.core.mm.pagetables import Deferred

if TYPE_CHECKING:
    from pvhv.core.mm.guestmem import GuestMemory


class Trap(NamedTuple):
    """One row of the virtual IDT (struct trap_info): where a vector goes, at which DPL, masking events or not."""

    address: int = 0
    cs: int = 0
    dpl: int = 0
    masks_events: bool = False


NO_TRAP = Trap()


def trap_of(info: Any) -> Trap:
    """A row of the virtual IDT from struct trap_info: flags bits 0-1 are the DPL, bit 2 masks events."""
    return Trap(info.address, info.cs | 3, info.flags & 3, bool(info.flags & 4))


class ArchDomain:
    """The part of a domain that the processor's side uses."""

    def __init__(self, domid: int) -> None:
        self.domid = domid
        self.shared_info = 0  # mfn of struct shared_info
        self.perdomain_l3 = 0  # mfn of the L3 behind slot 260: the guests descriptor tables
        self.perdomain_l1s: list[int] = []
        self.hypervisor_frames: list[int] = []  # frames Xen keeps for this domain (shared_info, descriptor tables, ...)
        self.vm_assist = 0
        self.m2p_strict = False  # one of them

    def __repr__(self) -> str:
        return f"d{self.domid}"


class ArchVCPU:
    """One virtual processor. Fields that Xen has as well have Xen's names."""

    domain: ArchDomain

    def __init__(self, vcpu_id: int, context_size: int) -> None:
        self.vcpu_id = vcpu_id
        self.memory: GuestMemory  # the pCPU's door to guest memory; valid while this vCPU runs

        # -- registers
        self.context = bytearray(context_size)
        self.state = self.saved_state = memoryview(self.context).cast("Q")
        self.initialised = False  # VCPUOP_initialise or the domain builder gave it a context
        self.segments_due = False  # ... whose CS and SS are to be loaded before it first runs
        self.kernel_mode = True
        self.gs_base_user = 0
        self.gs_base_kernel = 0
        self.gs_swapped = False
        self.fpu_used = False
        self.ts = False  # the virtual CR0.TS (fpu_taskswitch)
        self.debugreg = [0] * 8
        self.iopl = 0
        self.architectural_iopl = False  # whether frames show and set it (VMASST_TYPE_architectural_iopl)
        self.iobmp = 0  # guest address of its I/O permission bitmap, and how many ports it covers
        self.iobmp_limit = 0
        self.cr4 = 0x660  # PAE MCE OSFXSR OSXMMEXCPT

        self.mcg_status = 0  # MCG_STATUS keeps what is written to it
        self.stepping = False  # a debugger wants one instruction of it (pvhv.core.debugger)

        # -- memory
        self.guest_table = 0  # mfn of the kernel's L4 (MMUEXT_NEW_BASEPTR)
        self.guest_table_user = 0  # mfn of the user L4 (MMUEXT_NEW_USER_BASEPTR), 0 for none
        self.deferred = Deferred()
        self.gdt_frames: list[int] = []
        self.gdt_ents = 0
        self.ldt_base = 0
        self.ldt_ents = 0

        # -- entry points
        self.kernel_ss = 0
        self.kernel_sp = 0
        self.event_callback_eip = 0
        self.failsafe_callback_eip = 0
        self.syscall_callback_eip = 0
        self.syscall32_callback_eip = 0
        self.sysenter_callback_eip = 0
        self.failsafe_disables_events = False
        self.syscall_disables_events = False
        self.syscall32_disables_events = False
        self.sysenter_disables_events = False
        self.trap_table: list[Trap] = [NO_TRAP] * 256
        self.nmi_pending = False
        self.nmi_masked = False  # its handler runs: from the bounce to the next iret

        # -- where its upcall mask and pending flag are: struct vcpu_info, as a byte offset in machine memory
        self.vcpu_info = 0
