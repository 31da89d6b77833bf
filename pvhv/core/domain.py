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

from pvhv.abi.xen import VMASST_TYPE_architectural_iopl, VMASST_TYPE_m2p_strict
from pvhv.core.vcpu import VCPU

if TYPE_CHECKING:
    from pvhv.core.debugger import Debugger
    from pvhv.core.events.channels import EventChannels
    from pvhv.core.grants.table import GrantTable
    from pvhv.core.hypervisor import Hypervisor
    from pvhv.core.sched.timeline import Timeline, Timer

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
    """What the core knows of a guest that has a machine of its own (pvhv.hvm)."""

    def close(self) -> None:
        """The domain is being destroyed."""

    def registers(self) -> list[str]:
        """Lines of a crash report: the CPU as the guest sees it."""

    def word(self, address: int) -> int | None:
        """A word of memory at a linear address, by the guest's own tables; None where there is none."""

    def exit_counts(self) -> dict[str, int]:
        """Exits so far, by reason."""

    def listen(self, listener: Callable[[str, str, str], None] | None) -> None:
        """Tell of everything that is counted from now on: (kind, reason, detail); None ends it."""

    def where(self) -> tuple[int, bool]:
        """(RIP, whether that is in the guest's kernel)."""


class Domain:
    """One domain. Sizes are in frames of 4 KiB, times in ns."""

    def __init__(self, hypervisor: Hypervisor, domid: int, timeline: Timeline, privileged: bool = False) -> None:
        self.hypervisor = hypervisor
        self.domid = domid
        self.timeline = timeline
        self.privileged = privileged
        self.handle = uuid.uuid5(uuid.NAMESPACE_OID, f"pvhv-{domid}")
        self.vcpus: list[VCPU] = []
        self.tot_pages = 0
        self.max_pages = 0
        self.shared_info = 0  # mfn of struct shared_info
        self.perdomain_l3 = 0  # mfn of the L3 behind slot 260: the guests descriptor tables
        self.perdomain_l1s: list[int] = []
        self.hypervisor_frames: list[int] = []  # frames Xen keeps for this domain (shared_info, descriptor tables, ...)
        self.vm_assist = 0
        self.m2p_strict = False  # one of them
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
        self.debugger: Debugger | None = None
        self.full: FullVirtualization | None = None  # what carries it, if that is not the PV interface

    @property
    def runs(self) -> bool:
        """Whether it is neither shut down nor dying."""
        return self.shutdown_code is None and not self.dying

    def fall_apart(self) -> None:
        """It is gone: let go of what refers to it, so that all of it goes without a search for cycles."""
        self.vcpus = []
        self.events.fall_apart()
        del self.events, self.grants

    def set_assists(self, bits: int) -> None:
        """Change vm_assist; vCPUs keep the one that every exit asks for."""
        self.vm_assist = bits
        self.m2p_strict = bool(bits & M2P_STRICT)
        for vcpu in self.vcpus:
            vcpu.architectural_iopl = bool(bits & ARCHITECTURAL_IOPL)

    def vcpu(self, vcpu_id: int) -> VCPU | None:
        """vCPU number `vcpu_id`, or None."""
        return self.vcpus[vcpu_id] if 0 <= vcpu_id < len(self.vcpus) else None

    def __repr__(self) -> str:
        return f"d{self.domid}"
