# SPDX-License-Identifier: GPL-2.0-or-later
"""Blocking, waking and pausing vCPUs.

A vCPU is runnable unless it is down, paused, blocked or polling (VCPU.runnable); all these are changed here only, so
that the scheduler is told, and the runstate that the guest reads is right.

Read beside it: vcpu_block, do_poll, vcpu_wake, vcpu_yield in xen/common/sched/core.c; evtchn_check_pollers in
xen/common/event_channel.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pvhv.abi.vcpu import VCPU_RUNSTATE_INFO_CODEC
from pvhv.core.domain import Domain
from pvhv.core.errors import GuestFault
from pvhv.core.sched.runstate import BLOCKED, OFFLINE, RUNNABLE, RUNNING
from pvhv.core.sched.vtimer import periodic_work
from pvhv.core.vcpu import VCPU
from pvhv.machine.ram import Ram

if TYPE_CHECKING:
    from pvhv.core.services import Scheduling


def resting_state(vcpu: VCPU) -> int:
    """The runstate of a vCPU that is not on a pCPU."""
    if vcpu.down or vcpu.paused or vcpu.domain.paused or not vcpu.domain.runs:
        return OFFLINE
    if vcpu.blocked or vcpu.polling:
        return BLOCKED
    return RUNNABLE


class Activity:
    """Blocking, waking, pausing; runstates."""

    WRAPPABLE: ClassVar = frozenset({"entering", "leaving"})

    def __init__(self, ram: Ram, scheduler: Scheduling) -> None:
        self.ram = ram.bytes
        self.scheduler = scheduler

    # -- sleeping and waking -------------------------------------------------------------------------------------
    def events_deliverable(self, vcpu: VCPU) -> bool:
        """Whether an upcall is pending and not masked."""
        info = vcpu.vcpu_info
        return bool(self.ram[info] and not self.ram[info + 1])

    def block(self, vcpu: VCPU) -> None:
        """SCHEDOP_block: unmask, and sleep unless an event is pending."""
        self.ram[vcpu.vcpu_info + 1] = 0
        if not self.ram[vcpu.vcpu_info]:
            vcpu.blocked = True
            self.scheduler.end_turn()

    def poll(self, vcpu: VCPU, ports: tuple[int, ...], timeout: int) -> None:
        """SCHEDOP_poll: sleep until a port is pending, or until `timeout` (0: for ever)."""
        vcpu.polling = True
        vcpu.poll_ports = ports
        vcpu.domain.pollers += 1
        if timeout:
            vcpu.poll_timer = vcpu.domain.timeline.after(timeout, lambda: self.wake(vcpu))
        self.scheduler.end_turn()

    def wake(self, vcpu: VCPU) -> None:
        """End a block or poll of the vCPU; nothing happens if it does not sleep."""
        if vcpu.blocked or vcpu.polling:
            vcpu.domain.pollers -= vcpu.polling
            vcpu.blocked = vcpu.polling = False
            vcpu.poll_ports = ()
            if vcpu.poll_timer is not None:
                vcpu.poll_timer.cancel()
                vcpu.poll_timer = None
            self._runs_again(vcpu)

    def mark_events_pending(self, vcpu: VCPU) -> None:
        """Set the vCPU's pending-upcall flag, and wake it. (vcpu_mark_events_pending)"""
        info = vcpu.vcpu_info
        # Without one (not among shared_info's 32, none registered) Xen's dummy_vcpu_info would take it.
        if info and not self.ram[info]:
            self.ram[info] = 1
            self.wake(vcpu)

    def check_pollers(self, domain: Domain, port: int) -> None:
        """A port became pending: wake the vCPUs that poll for it. (evtchn_check_pollers)"""
        for vcpu in domain.vcpus:
            if vcpu.polling and (len(vcpu.poll_ports) != 1 or vcpu.poll_ports[0] == port):
                self.wake(vcpu)

    def _runs_again(self, vcpu: VCPU) -> None:
        if vcpu.runnable:
            vcpu.domain.timeline.woken = True
            vcpu.runstate.enter(RUNNABLE, vcpu.domain.timeline.now())

    def yield_now(self, vcpu: VCPU) -> None:
        """SCHEDOP_yield: let every other runnable vCPU of the timeline run first."""
        timeline = vcpu.domain.timeline
        behind = (other.credit_used + 1 for other in timeline.vcpus if other.runnable)
        vcpu.credit_used = max([vcpu.credit_used, *behind])
        self.scheduler.end_turn()

    # -- up, down, paused ----------------------------------------------------------------------------------------
    def bring_up(self, vcpu: VCPU) -> None:
        """VCPUOP_up: the vCPU may run."""
        if vcpu.down:
            vcpu.down = False
            self._runs_again(vcpu)

    def take_down(self, vcpu: VCPU) -> None:
        """VCPUOP_down: the vCPU stops."""
        vcpu.down = True
        vcpu.runstate.enter(OFFLINE, vcpu.domain.timeline.now())
        self._end_turn_of(vcpu.domain)

    def pause(self, domain: Domain) -> None:
        """Pause the whole domain; pauses are counted."""
        domain.paused += 1
        self._settle(domain)
        self._end_turn_of(domain)

    def unpause(self, domain: Domain) -> None:
        """Undo one pause."""
        domain.paused -= 1
        self._settle(domain)

    def _settle(self, domain: Domain) -> None:
        now = domain.timeline.now()
        domain.timeline.woken = True
        for vcpu in domain.vcpus:
            vcpu.runstate.enter(resting_state(vcpu), now)

    def _end_turn_of(self, domain: Domain) -> None:
        turn = self.scheduler.current_turn
        if turn is not None and turn.vcpu.domain is domain:
            self.scheduler.end_turn()

    # -- runstates -----------------------------------------------------------------------------------------------
    def entering(self, vcpu: VCPU, now: int) -> None:
        """A turn of `vcpu` begins: its runstate is running, and its periodic timer may tick."""
        vcpu.runstate.enter(RUNNING, now)
        periodic_work(vcpu)

    def leaving(self, vcpu: VCPU, now: int) -> None:
        """The turn of `vcpu` is over: update its runstate and the copy the guest registered."""
        if vcpu.runstate_guest and vcpu.domain.runs and vcpu.domain.timeline.cpu.loaded is vcpu:
            self.show_runstate(vcpu)
        vcpu.runstate.enter(resting_state(vcpu), now)

    def fill_runstate(self, vcpu: VCPU, info: Any) -> None:
        """Fill in a struct vcpu_runstate_info."""
        info.state = vcpu.runstate.state
        info.state_entry_time = vcpu.runstate.entered
        for index, spent in enumerate(vcpu.runstate.times(vcpu.domain.timeline.now())):
            info.time[index] = spent

    def show_runstate(self, vcpu: VCPU) -> None:
        """Write the runstate to the address the guest registered, through the tables on the pCPU. If they do not map
        it, nothing is written."""
        runstate = vcpu.runstate
        times = runstate.times(vcpu.domain.timeline.now())
        try:
            vcpu.memory.write(
                vcpu.runstate_guest, VCPU_RUNSTATE_INFO_CODEC.pack(runstate.state, runstate.entered, *times)
            )
        except GuestFault:
            pass
