# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU: a saved context, and what Xen remembers of a virtual processor beyond its registers.

While the vCPU runs, `state` is the live CPU state of the pCPU; otherwise it is the saved copy, seen through the same
indices (pvhv.machine.cpustate). `kernel_mode` is the vCPU's own flag, changed by bounces and returns only, never read
from CPL: kernel and users are at the same one (pvhv.machine.rings).

Read beside it: struct arch_vcpu and struct pv_vcpu in xen/include/asm-x86/domain.h.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from pvhv.core.mm.pagetables import Deferred
from pvhv.core.sched.runstate import Runstate

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.mm.guestmem import GuestMemory
    from pvhv.core.sched.timeline import Timer


class Trap(NamedTuple):
    """One row of the virtual IDT (struct trap_info): where a vector goes, at which DPL, masking events or not."""

    address: int = 0
    cs: int = 0
    dpl: int = 0
    masks_events: bool = False


NO_TRAP = Trap()


class VCPU:
    """One virtual processor of `domain`. Fields that Xen has as well are spelled as Xen spells them."""

    def __init__(self, domain: Domain, vcpu_id: int, context_size: int) -> None:
        self.domain = domain
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

        # -- what the guest sees of it: struct vcpu_info, as a byte offset in machine memory
        self.vcpu_info = 0
        self.vcpu_info_mfn = 0  # frame registered by VCPUOP_register_vcpu_info, 0 while in shared_info
        self.runstate_guest = 0  # guest address of the registered vcpu_runstate_info, 0 for none
        self.time_guest = 0  # guest address of a registered secondary vcpu_time_info

        # -- scheduling
        self.down = True  # VPF_down: not brought up yet
        self.blocked = False  # SCHEDOP_block
        self.polling = False  # SCHEDOP_poll
        self.poll_ports: tuple[int, ...] = ()
        self.paused = 0
        self.stepping = False  # a debugger wants one instruction of it (pvhv.core.debugger)
        self.runstate = Runstate()
        self.ran = 0  # ns on a pCPU
        self.had = 0  # ... divided by the domain's weight: what the scheduler compares
        self.virq_ports: dict[int, int] = {}  # VIRQ -> port
        self.singleshot: Timer | None = None
        self.periodic: Timer | None = None
        self.periodic_period = 10_000_000  # ns; what a PV guest begins with
        self.periodic_last = 0  # when its tick came last
        self.poll_timer: Timer | None = None

        # -- what counters, top and a crash report show
        self.counts = domain.hypercall_counts
        self.exits = domain.exit_counts
        self.recent: deque[tuple[int, int, int, int]] = deque(maxlen=16)  # (hypercall, rip behind it, two arguments)

    @property
    def runnable(self) -> bool:
        """Whether the scheduler may pick it."""
        return not (self.blocked or self.polling or self.down or self.paused or self.domain.paused)

    @property
    def asleep(self) -> bool:
        """Whether it would run if something happened for it."""
        return (self.blocked or self.polling) and not (self.down or self.paused or self.domain.paused)

    def __repr__(self) -> str:
        return f"d{self.domain.domid}v{self.vcpu_id}"
