# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain: an owner of frames, vCPUs, event channels and grants.

Domain 0 is a domain like any other but for two things: it has no vCPUs (its "kernel" is Python, in pvhv.devices and
pvhv.toolstack), and it is privileged. Everything it does to others goes through the same calls and checks.

Read beside it: struct domain in xen/include/xen/sched.h, xen/common/domain.c.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pvhv.abi.xen import (
    VMASST_TYPE_4gb_segments,
    VMASST_TYPE_4gb_segments_notify,
    VMASST_TYPE_architectural_iopl,
    VMASST_TYPE_m2p_strict,
    VMASST_TYPE_pae_extended_cr3,
    VMASST_TYPE_runstate_update_flag,
    VMASST_TYPE_writable_pagetables,
)
from pvhv.core.arch import ArchDomain
from pvhv.core.vcpu import VCPU

if TYPE_CHECKING:
    from pvhv.core.events.channels import EventChannels
    from pvhv.core.grants.table import GrantTable
    from pvhv.core.sched.timeline import Timeline, Timer
    from pvhv.core.services import Services

# What a 64-bit PV domain may ask for (vm_assist).
ASSISTS = frozenset((
    VMASST_TYPE_4gb_segments, VMASST_TYPE_4gb_segments_notify, VMASST_TYPE_writable_pagetables,
    VMASST_TYPE_pae_extended_cr3, VMASST_TYPE_architectural_iopl, VMASST_TYPE_runstate_update_flag,
    VMASST_TYPE_m2p_strict,
))  # fmt: skip
ARCHITECTURAL_IOPL, M2P_STRICT = 1 << VMASST_TYPE_architectural_iopl, 1 << VMASST_TYPE_m2p_strict

# What brings a vCPU into the hypervisor, other than a hypercall (counted by number in hypercall_counts).
EXIT_KINDS = (
    "syscall",
    "page_fault",
    "general_protection",
    "invalid_opcode",
    "no_device",
    "exception",
    "software_interrupt",
    "cpuid",
    "io",
)


class FullVirtualization(Protocol):
    """What the core uses of a fully virtualized guest (pvhv.hvm)."""

    def close(self) -> None:
        """Release everything: the domain is being destroyed."""

    def registers(self) -> list[str]:
        """Lines of a crash report: the CPU as the guest sees it."""

    def word(self, address: int) -> int | None:
        """The 64-bit word at a linear address, by the guest's own page tables; None if it is not mapped."""

    def exit_counts(self) -> dict[str, int]:
        """Exits so far, by reason."""

    def listen(self, listener: Callable[[str, str, str], None] | None) -> None:
        """Call `listener` with (kind, reason, detail) for each event that is counted; None ends that."""

    def where(self) -> tuple[int, bool]:
        """Where the guest is: (RIP, whether it is in its kernel)."""


class AttachedDebugger(Protocol):
    """What the core uses of a debugger (pvhv.core.debugger)."""

    stopped: bool


class Domain(ArchDomain):
    """One domain. Sizes are in frames of 4 KiB, times in ns."""

    def __init__(
        self, hypervisor: Services, domid: int, timeline: Timeline[VCPU], privileged: bool = False
    ) -> None:
        super().__init__(domid)
        self.hypervisor = hypervisor
        self.timeline = timeline
        self.privileged = privileged
        self.handle = uuid.uuid5(uuid.NAMESPACE_OID, f"pvhv-{domid}")
        self.vcpus: list[VCPU] = []
        self.tot_pages = 0
        self.max_pages = 0
        self.memory_map = b""  # the e820 entries XENMEM_memory_map tells, packed
        self.events: EventChannels
        self.grants: GrantTable
        self.pollers = 0  # how many of its vCPUs poll: every event asks
        self.paused = 0  # pause count: domctl and debugger
        self.controller_paused = 0  # ... of which the toolstack's
        self.shutdown_code: int | None = None  # SHUTDOWN_* once it shut down
        self.announced_code: int | None = None  # what SCHEDOP_shutdown_code said it will be
        self.crash_report: str | None = None
        self.engine_died = False  # under it, and what that engine had allocated is lost
        self.dying = False
        self.dead = False
        self.is_shutting_down = False
        self.time_offset_seconds = 0
        self.console_buffer = b""
        self.hypercall_counts = [0] * 64
        self.exit_counts = dict.fromkeys(EXIT_KINDS, 0)
        self.weight = 256  # the credit scheduler's default
        self.cap = 0
        self.watchdogs: list[Timer | None] = [None, None]
        self.target: int | None = None
        self.pirqs: set[int] = set()  # interrupt numbers it reserved
        self.pirq_eoi_mfn = 0  # the frame of PHYSDEVOP_pirq_eoi_gmfn, 0 while there is none
        self.debugger: AttachedDebugger | None = None
        self.hvm: FullVirtualization | None = None  # what carries it, if that is not the PV interface

    @property
    def runs(self) -> bool:
        """Whether the domain is neither shut down nor dying."""
        return self.shutdown_code is None and not self.dying

    def fall_apart(self) -> None:
        """The domain is gone: break its reference cycles, so that Python frees it without the garbage collector."""
        self.vcpus = []
        self.events.fall_apart()
        del self.events, self.grants

    def set_assists(self, bits: int) -> None:
        """Set vm_assist, and copy architectural_iopl into the vCPUs, where exits look it up."""
        self.vm_assist = bits
        self.m2p_strict = bool(bits & M2P_STRICT)
        for vcpu in self.vcpus:
            vcpu.architectural_iopl = bool(bits & ARCHITECTURAL_IOPL)

    def vcpu(self, vcpu_id: int) -> VCPU | None:
        """The vCPU with the number `vcpu_id`, or None."""
        return self.vcpus[vcpu_id] if 0 <= vcpu_id < len(self.vcpus) else None
