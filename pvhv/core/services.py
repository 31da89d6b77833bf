# SPDX-License-Identifier: GPL-2.0-or-later
"""`Services`: the part of the hypervisor that a handler may use.

A hypercall, an exit or a timer reaches the hypervisor as `domain.hypervisor`, whose type is `Services`: the memory, the
domains, and the parts that stop and wake vCPUs and keep the time. The hypervisor itself (hypervisor.py) has more
methods; only dom0 and the toolstack use those.

`Domain`, `VCPU` and `Services` name each other. No other files of the core do so: the parts of a domain (its ports, its
grants, its clock) each declare, as a Protocol of a few lines, what they use of their domain.
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
        """Charge `cost` units of work; True when a long operation must be preempted now."""

    def host_wrote(self, mfn: int) -> None:
        """The hypervisor wrote to a frame: drop the translations made from it."""

    def write_frame_word(self, address: int, value: int) -> None: ...
    def flush_domain(self, domain: Domain) -> None: ...
    def new_guest_cr3(self, vcpu: VCPU, mfn: int) -> None: ...
    def set_ldt(self, vcpu: VCPU, base: int, entries: int) -> None: ...


class Scheduling(Protocol):
    """The scheduler, as handlers see it (sched/scheduler.py)."""

    current_turn: Turn[VCPU] | None
    share: Share

    def end_turn(self) -> None: ...
    def break_off(self) -> None: ...
    def defer(self, function: Callable[[], None]) -> None: ...
    def errand(self, work: Iterator[int], domain: Domain | None = None) -> None: ...


class Activities(Protocol):
    """Blocking, waking and pausing vCPUs (sched/activity.py)."""

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
    """The time that guests see (sched/timekeeping.py)."""

    def tsc(self, timeline: Timeline[VCPU]) -> int: ...
    def tsc_kind(self, domain: Domain) -> Tsc: ...
    def update(self, vcpu: VCPU, force: bool = False) -> None: ...
