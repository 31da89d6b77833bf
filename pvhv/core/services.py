# SPDX-License-Identifier: GPL-2.0-or-later
"""What a handler may ask of the hypervisor.

`domain.hypervisor` is all that a hypercall, an exit or a timer has in hand, and `Services` is what it sees of it: the
memory, the domains, and the parts that stop and wake vCPUs and keep the time. The hypervisor itself (hypervisor.py)
makes these parts and can do more: that is dom0's to ask for, and nobody's below.

`Domain`, `VCPU` and `Services` name each other. No other files of the core do so: what a domain is made of (its ports,
its grants, its clock) says at its own door, in a few lines, what it needs of its domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.grants.copy import Copies
    from pvhv.core.mm.descriptors import DescriptorTables
    from pvhv.core.mm.frames import FrameTable
    from pvhv.core.mm.pagetables import PageTables
    from pvhv.core.sched.timeline import Share, Timeline, Turn
    from pvhv.core.traps.cpuid import Tsc
    from pvhv.core.vcpu import VCPU
    from pvhv.core.xenlog import ConsoleRing
    from pvhv.machine.ram import Ram


class Services(Protocol):
    """The hypervisor, as handlers see it."""

    ram: Ram
    frames: FrameTable
    pagetables: PageTables
    descriptors: DescriptorTables
    m2p: memoryview  # by mfn
    m2p_l3: int  # the mfn of its topmost table
    copies: Copies  # of a batch of grants
    console: ConsoleRing
    domains: dict[int, Domain]
    calls_by_arity: list[tuple[Callable[..., int], int]]  # by number, with how many arguments each takes

    @property
    def scheduler(self) -> Scheduling: ...
    @property
    def activity(self) -> Activities: ...
    @property
    def timekeeper(self) -> Clocks: ...

    def domain_by_id(self, domid: int) -> Domain | None: ...
    def resolve(self, caller: Domain, domid: int) -> Domain | None: ...
    def shutdown_domain(self, domain: Domain, code: int) -> None: ...

    def must_yield(self, cost: int) -> bool:
        """Charge so many units of work; whether a long operation should be put aside now."""

    def host_wrote(self, mfn: int) -> None:
        """The hypervisor wrote to a frame: what was translated from it must go."""

    def write_frame_word(self, address: int, value: int) -> None: ...
    def flush_domain(self, domain: Domain) -> None: ...
    def new_guest_cr3(self, vcpu: VCPU, mfn: int) -> None: ...
    def set_ldt(self, vcpu: VCPU, base: int, entries: int) -> None: ...


class Scheduling(Protocol):
    """The turn under way (sched/scheduler.py)."""

    current_turn: Turn[VCPU] | None
    share: Share

    def end_turn(self) -> None: ...
    def break_off(self) -> None: ...
    def defer(self, function: Callable[[], None]) -> None: ...
    def errand(self, work: Iterator[int], domain: Domain | None = None) -> None: ...


class Activities(Protocol):
    """Whether vCPUs run, wait or sleep (sched/activity.py)."""

    def block(self, vcpu: VCPU) -> None: ...
    def poll(self, vcpu: VCPU, ports: tuple[int, ...], timeout: int) -> None: ...
    def yield_now(self, vcpu: VCPU) -> None: ...
    def wake(self, vcpu: VCPU) -> None: ...
    def events_deliverable(self, vcpu: VCPU) -> bool: ...
    def mark_events_pending(self, vcpu: VCPU) -> None: ...
    def check_pollers(self, domain: Domain, port: int) -> None: ...
    def bring_up(self, vcpu: VCPU) -> None: ...
    def take_down(self, vcpu: VCPU) -> None: ...
    def pause(self, domain: Domain) -> None: ...
    def unpause(self, domain: Domain) -> None: ...
    def fill_runstate(self, vcpu: VCPU, info: Any) -> None: ...
    def show_runstate(self, vcpu: VCPU) -> None: ...


class Clocks(Protocol):
    """What time it is for guests (sched/timekeeping.py)."""

    def tsc(self, timeline: Timeline[VCPU]) -> int: ...
    def tsc_kind(self, domain: Domain) -> Tsc: ...
    def update(self, vcpu: VCPU, force: bool = False) -> None: ...
