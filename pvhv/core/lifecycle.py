# SPDX-License-Identifier: GPL-2.0-or-later
"""How a domain ends: it shuts down, for a reason that dom0 is told, and is destroyed.

Destruction is long work: a domain's page tables are dropped level by level, then its frames are freed in runs (one by
one where another domain refers to one). It is done in steps between slices, a share of work at a time, so that no other
domain waits for it. A frame that another domain still refers to (a mapped grant) is kept until that reference is
dropped.

Read beside it: domain_shutdown, domain_kill in xen/common/domain.c, domain_relinquish_resources in
xen/arch/x86/domain.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from pvhv.abi.sched import SHUTDOWN_crash
from pvhv.abi.xen import VIRQ_DOM_EXC
from pvhv.core.domain import Domain
from pvhv.core.errors import Interrupted, Restart
from pvhv.core.events.virq import send_guest_global_virq
from pvhv.core.mm.frames import L1, L4
from pvhv.core.sched.vtimer import stop_all

if TYPE_CHECKING:
    from pvhv.core.mm.descriptors import DescriptorTables
    from pvhv.core.mm.frames import FrameTable
    from pvhv.core.mm.pagetables import PageTables
    from pvhv.core.sched.activity import Activity
    from pvhv.core.sched.scheduler import Scheduler
    from pvhv.core.sched.timekeeping import Timekeeper
    from pvhv.core.sched.timeline import Timeline
    from pvhv.core.vcpu import VCPU
    from pvhv.core.xenlog import ConsoleRing

STRETCH = 2048  # frames looked at together, and freed at once where that can be
RUN = 128  # ... or where so many neighbours can, and then one by one
FRAMES_A_UNIT = 2  # ... at once, in a unit of work: as long as it takes where they were written to
ONE_BY_ONE_COST = 4  # of each of the others: one that may have code is forgotten by an engine, and freed by itself
LOOK_COST = 8  # of looking at such a stretch
WINDOW = 1 << 16  # frames among which page tables are looked for
WINDOW_COST = 256


class Machine(Protocol):
    """What ending a domain asks of the hypervisor."""

    frames: FrameTable
    pagetables: PageTables
    descriptors: DescriptorTables
    scheduler: Scheduler
    activity: Activity
    timekeeper: Timekeeper
    console: ConsoleRing
    domains: dict[int, Domain]
    dom0: Domain

    def must_yield(self, cost: int) -> bool: ...
    def announce(self, domain: Domain, what: str) -> None: ...
    def forget_timeline(self, timeline: Timeline[VCPU]) -> None: ...


class Lifecycle:
    """Shutdown and destruction of domains."""

    def __init__(self, hypervisor: Machine) -> None:
        self.hypervisor = hypervisor

    # -- shutdown ------------------------------------------------------------------------------------------------
    def shutdown(self, domain: Domain, code: int) -> None:
        """Stop the domain. A reason set by SCHEDOP_shutdown_code overrides `code`; a second shutdown is ignored."""
        hypervisor = self.hypervisor
        if domain.shutdown_code is not None or domain.dying:
            return
        domain.shutdown_code = domain.announced_code if domain.announced_code is not None else code
        domain.is_shutting_down = True
        hypervisor.activity.pause(domain)
        for index, timer in enumerate(domain.watchdogs):
            if timer is not None:
                timer.cancel()
                domain.watchdogs[index] = None
        what = "crash" if domain.shutdown_code == SHUTDOWN_crash else "shutdown"
        hypervisor.scheduler.defer(lambda: hypervisor.announce(domain, what))
        send_guest_global_virq(hypervisor.dom0, VIRQ_DOM_EXC)

    # -- destruction ---------------------------------------------------------------------------------------------
    def destroy(self, domain: Domain) -> None:
        """Begin to destroy the domain; "destroyed" is announced when it has released all it held."""
        if domain.dying:
            return
        domain.dying = True
        self.hypervisor.activity.pause(domain)
        self.hypervisor.scheduler.in_background(self._steps(domain))

    def _steps(self, domain: Domain) -> Iterator[None]:
        hypervisor = self.hypervisor
        for timer in domain.watchdogs:
            if timer is not None:
                timer.cancel()
        yield from domain.events.destroy()
        yield
        while not domain.grants.release_mappings():
            yield
        for vcpu in domain.vcpus:
            while True:
                try:
                    self._release_vcpu(vcpu)
                    break
                except Restart:
                    yield
            domain.timeline.remove(vcpu)
            hypervisor.timekeeper.forget(vcpu)
        hypervisor.forget_timeline(domain.timeline)
        if domain.pirq_eoi_mfn:
            mfn, domain.pirq_eoi_mfn = domain.pirq_eoi_mfn, 0
            hypervisor.frames.put_page_and_type(mfn)
        yield
        yield from self._relinquish_memory(domain)
        domain.grants.destroy()
        for mfn in list(domain.hypervisor_frames):
            self._release_hypervisor_frame(domain, mfn)
        domain.dead = True
        self.forget_if_empty(domain)
        hypervisor.console.log(f"{domain} is gone")
        hypervisor.announce(domain, "destroyed")

    def _release_vcpu(self, vcpu: VCPU) -> None:
        """Drop what a vCPU of a dying domain holds. Raises Restart."""
        full, vcpu.domain.hvm = vcpu.domain.hvm, None
        if full is not None:
            full.close()
        tables, descriptors = self.hypervisor.pagetables, self.hypervisor.descriptors
        tables.deferred = vcpu.deferred
        cpu = vcpu.domain.timeline.cpu
        if cpu.loaded is vcpu:
            cpu.unload()
            cpu.park()
        stop_all(vcpu)
        tables.settle()
        descriptors.destroy_gdt(vcpu)
        descriptors.destroy_ldt(vcpu)
        vcpu.ldt_ents = 0
        for name in ("guest_table", "guest_table_user"):
            mfn = getattr(vcpu, name)
            setattr(vcpu, name, 0)
            if mfn:
                tables.put_root(mfn)
        if vcpu.vcpu_info_mfn:
            mfn, vcpu.vcpu_info_mfn = vcpu.vcpu_info_mfn, 0
            self.hypervisor.frames.put_page_and_type(mfn)

    def _release_hypervisor_frame(self, domain: Domain, mfn: int) -> None:
        frames = self.hypervisor.frames
        if frames.owner[mfn] == domain.domid:
            frames.unshare(mfn)
        else:
            frames.release_allocation(mfn)
            domain.hypervisor_frames.remove(mfn)

    def forget_if_empty(self, domain: Domain) -> None:
        """Free the domid of a dead domain, unless a frame of the domain is still referred to."""
        if not domain.tot_pages and not domain.hypervisor_frames:
            if self.hypervisor.domains.pop(domain.domid, None) is not None:
                domain.fall_apart()

    def _relinquish_memory(self, domain: Domain) -> Iterator[None]:
        """Unpin and drop page tables from the top level down, then every frame.

        A step is limited by units of work, not by host time: so the order in which frames become free is the same in
        each run, which other domains can see.
        """
        hypervisor = self.hypervisor
        frames, tables, domid = hypervisor.frames, hypervisor.pagetables, domain.domid
        for level in range(L4, L1 - 1, -1):
            for start in range(0, frames.count, WINDOW):
                for mfn in frames.pinned_or_partial(domid, level, start, min(start + WINDOW, frames.count)):
                    while frames.owner[mfn] == domid and not self._drop_table(mfn):
                        yield
                    if hypervisor.must_yield(1):
                        yield
                if hypervisor.must_yield(WINDOW_COST):
                    yield
        kept = set(domain.hypervisor_frames)
        for start in range(0, frames.count, STRETCH):
            mfns = frames.owned_by(domid, start, min(start + STRETCH, frames.count))
            cost = LOOK_COST
            if mfns and self._release_run(domid, mfns, kept):
                cost += len(mfns) // FRAMES_A_UNIT
            elif mfns:
                for at in range(0, len(mfns), RUN):
                    if hypervisor.must_yield(self._release(domid, mfns[at : at + RUN], kept)):
                        yield
            if hypervisor.must_yield(cost):
                yield
        tables.linear.owners.discard(domid)
        tables.partial = {mfn: state for mfn, state in tables.partial.items() if frames.owner[mfn] != domid}

    def _release_run(self, domid: int, mfns: Sequence[int], kept: set[int]) -> bool:
        """Free neighbouring frames at once, if nothing but the domain refers to them; False if nothing was done."""
        first, count = mfns[0], len(mfns)
        if mfns[-1] - first != count - 1 or any(first <= mfn < first + count for mfn in kept):
            return False
        # What ran its tables as code has code where none is on record: its frames are looked at one by one.
        if domid in self.hypervisor.pagetables.linear.owners:
            return False
        return self.hypervisor.frames.release_run(domid, first, count)

    def _release(self, domid: int, mfns: Sequence[int], kept: set[int]) -> int:
        """Drop the domain's allocation references to frames, except those in `kept`; returns the units of work."""
        frames = self.hypervisor.frames
        if self._release_run(domid, mfns, kept):
            return len(mfns)
        for mfn in mfns:
            # What was listed steps ago may have been let go, and be somebody else's by now.
            if mfn not in kept and frames.owner[mfn] == domid:
                frames.release_allocation(mfn)
        return len(mfns) * ONE_BY_ONE_COST

    def _drop_table(self, mfn: int) -> bool:
        """Unpin a table, or finish its preempted (de)validation; False when it must be called again."""
        frames = self.hypervisor.frames
        pinned = frames.unpin(mfn)
        try:
            frames.put_page_type(mfn, preemptible=True, partial=not pinned)
        except Interrupted:
            if pinned:
                frames.pin(mfn)  # nothing was done: the pin holds what it held
            return False
        except Restart:
            if pinned:
                frames.put_page(mfn)  # the half-done state has a reference of its own
            return False
        if pinned:
            frames.put_page(mfn)
        return True
