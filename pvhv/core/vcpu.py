# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU: the processor that a guest sees (arch.py), with its domain, its scheduling and its timers.

Read beside it: struct vcpu in xen/include/xen/sched.h.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pvhv.core.arch import ArchVCPU
from pvhv.core.sched.runstate import Runstate

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.sched.timeline import Timer

VCPU_INFO_SIZE = 64


class VCPU(ArchVCPU):
    """One virtual processor of `domain`."""

    domain: Domain

    def __init__(self, domain: Domain, vcpu_id: int, context_size: int) -> None:
        super().__init__(vcpu_id, context_size)
        self.domain = domain

        # -- what it registered for the guest to see
        self.vcpu_info_mfn = 0  # frame registered by VCPUOP_register_vcpu_info, 0 while in shared_info
        self.runstate_guest = 0  # guest address of the registered vcpu_runstate_info, 0 for none
        self.time_guest = 0  # guest address of a registered secondary vcpu_time_info

        # -- scheduling
        self.down = True  # VPF_down: not brought up yet
        self.blocked = False  # SCHEDOP_block
        self.polling = False  # SCHEDOP_poll
        self.poll_ports: tuple[int, ...] = ()
        self.paused = 0
        self.runstate = Runstate()
        self.ran = 0  # ns on a pCPU
        self.credit_used = 0  # ... divided by the domain's weight: what the scheduler compares
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
    def weight(self) -> int:
        """The domain's weight: the time a vCPU gets is in proportion to it."""
        return self.domain.weight

    @property
    def runnable(self) -> bool:
        """Whether the scheduler may pick it."""
        return not (self.blocked or self.polling or self.down or self.paused or self.domain.paused)

    @property
    def asleep(self) -> bool:
        """Whether the vCPU only waits for an event or a timer."""
        return (self.blocked or self.polling) and not (self.down or self.paused or self.domain.paused)

    def __repr__(self) -> str:
        return f"d{self.domain.domid}v{self.vcpu_id}"
