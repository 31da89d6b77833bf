# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypervisor: it makes all parts of the core and connects them.

It owns the machine (RAM, pCPUs), the frame table, the domains and the scheduler. Its constructor makes the parts in the
order in which they need each other; each part has a file of its own, and decisions are made there. Handlers see the
hypervisor as `Services` (services.py); domain 0 and the toolstack see all of it.

Read beside it: xen/common/domain.c, xen/arch/x86/domain.c, xen/arch/x86/setup.c.
"""

from __future__ import annotations

import time
import traceback
from array import array
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ClassVar

from pvhv.abi.arch_x86 import XEN_LEGACY_MAX_VCPUS
from pvhv.abi.errno import Errno
from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.abi.sched import SHUTDOWN_crash
from pvhv.abi.xen import DOMID_FIRST_RESERVED, DOMID_SELF
from pvhv.core import calls as _calls  # noqa: F401  # importing it registers the handlers
from pvhv.core.context import set_context
from pvhv.core.crash import code_at, describe
from pvhv.core.domain import Domain
from pvhv.core.errors import DomainCrash, HypercallError
from pvhv.core.events.abis import event_channels
from pvhv.core.grants.copy import Copies
from pvhv.core.grants.table import GrantTable
from pvhv.core.lifecycle import Lifecycle
from pvhv.core.mm import m2p
from pvhv.core.mm.coherence import Coherence
from pvhv.core.mm.descriptors import DescriptorTables
from pvhv.core.mm.fast_types import FastPageTables
from pvhv.core.mm.frames import FrameTable
from pvhv.core.mm.m2p import FRAMES_PER_GIB
from pvhv.core.mm.pagetables import PageTables
from pvhv.core.mm.pte import PRESENT, RW
from pvhv.core.pv_cpu import PvCpu
from pvhv.core.sched.activity import Activity
from pvhv.core.sched.scheduler import Scheduler
from pvhv.core.sched.timekeeping import Timekeeper
from pvhv.core.sched.timeline import Timeline, VirtualTimeline, WallTimeline
from pvhv.core.traps.dispatch import build_calls
from pvhv.core.traps.exits import Exits
from pvhv.core.vcpu import VCPU, VCPU_INFO_SIZE
from pvhv.core.xenlog import ConsoleRing
from pvhv.machine.engine import EngineDied
from pvhv.machine.guard import Escaped
from pvhv.machine.pcpu import PCPU
from pvhv.machine.ram import Ram

PERDOMAIN_L4_SLOT = 260
BUGS_KEPT = 64


class Hypervisor:
    """One machine and its domains. `memory_frames` is the machine's RAM in frames of 4 KiB; the host commits it on use.

    With `by_mode`, the pCPU of virtual timelines also counts the instructions of user mode."""

    WRAPPABLE: ClassVar = frozenset({"deliver_pending", "calls_by_arity"})

    def __init__(self, memory_frames: int = 8 * FRAMES_PER_GIB, *, by_mode: bool = False) -> None:
        self._by_mode = by_mode
        self._started = time.monotonic_ns()
        self.console = ConsoleRing(lambda: time.monotonic_ns() - self._started)
        self.bugs: list[str] = []  # the last ones
        self.bugs_met = 0
        self._listeners: list[Callable[[Domain, str], None]] = []
        self.domains: dict[int, Domain] = {}
        self._next_domid = 1
        self._timelines: dict[str, Timeline[VCPU]] = {}
        self._cpus: dict[bool, PvCpu] = {}
        self.exits: dict[bool, Exits] = {}
        self.calls, self.arity = build_calls(HYPERCALLS)
        self.calls_by_arity = list(zip(self.calls, self.arity, strict=True))

        # -- turns and time
        self.ram = Ram(memory_frames)
        self.scheduler = Scheduler(self)
        self.must_yield = self.scheduler.must_yield  # by itself: it is asked for within loops
        self.activity = Activity(self.ram, self.scheduler)
        self.timekeeper = Timekeeper(self.ram)

        # -- memory
        self.frames = FrameTable(self.ram)
        self.pagetables: PageTables = FastPageTables(
            self.frames, self.must_yield, self._frames_freed, self._xen_slots
        )
        tables = self.pagetables
        self.descriptors = DescriptorTables(tables)
        self._m2p = m2p.MachineToPhysical(tables)
        self.m2p, self.m2p_l3 = self._m2p.table, self._m2p.l3
        self.coherence = Coherence(self.frames, tables, self._cpus.values())
        self.host_wrote_all = self.coherence.host_wrote_all
        self.host_wrote, self.write_frame_word = self.coherence.host_wrote, self.coherence.write_frame_word

        # -- domains
        self.lifecycle = Lifecycle(self)
        self.dom0 = self._new_domain(0, self.wall, max_pages=0, privileged=True)
        self.copies = Copies(self, self.dom0)
        self.console.log(f"pvhv, {memory_frames >> 8} MiB of machine memory, {self.frames.free_frames >> 8} MiB free")

    # -- the machine -------------------------------------------------------------------------------------------
    def _xen_slots(self, domid: int) -> dict[int, int]:
        """The entries the hypervisor writes into a domain's new L4s, by slot."""
        domain = self.domains[domid]
        slots = {PERDOMAIN_L4_SLOT: domain.perdomain_l3 << 12 | PRESENT | RW}
        if domain.m2p_strict:
            slots[m2p.L4_SLOT] = self._m2p.l4_entry
        return slots

    def cpu(self, virtual: bool) -> PvCpu:
        """The pCPU of virtual timelines or of the wall timeline, made on first use."""
        cpu = self._cpus.get(virtual)
        if cpu is None:
            pcpu = PCPU(self.ram, "virtual" if virtual else "wall", by_mode=self._by_mode and virtual)
            pcpu.contain()
            cpu = self._cpus[virtual] = PvCpu(pcpu, self.ram)
            cpu.memory.code, cpu.memory.host_wrote = self.frames.code, self.host_wrote
            exits = self.exits[virtual] = Exits(self, cpu)
            exits.install()
            for each in self._cpus.values():
                each.pagetables = self.pagetables if len(self._cpus) == 1 else None
        return cpu

    @property
    def wall(self) -> Timeline[VCPU]:
        """The wall timeline, whose time is the host's clock, made on first use."""
        timeline = self._timelines.get("")
        if timeline is None:
            timeline = WallTimeline("", self.cpu(False), time.monotonic_ns, time.time_ns)
            self.add_timeline("", timeline)
        return timeline

    def timeline(self, name: str) -> Timeline[VCPU]:
        """A virtual timeline by its name, made on first use."""
        timeline = self._timelines.get(name)
        if timeline is None:
            timeline = VirtualTimeline(name, self.cpu(True))
            self.add_timeline(name, timeline)
        return timeline

    def add_timeline(self, name: str, timeline: Timeline[VCPU]) -> None:
        """Register a timeline with the scheduler."""
        self._timelines[name] = timeline
        self.scheduler.timelines.append(timeline)

    def forget_timeline(self, timeline: Timeline[VCPU]) -> None:
        """Remove a virtual timeline that has no vCPU left; the wall timeline stays."""
        if timeline.name and not timeline.vcpus and timeline.name in self._timelines:
            del self._timelines[timeline.name]
            self.scheduler.timelines.remove(timeline)
            if timeline.cpu not in self._cpus.values():
                timeline.cpu.pcpu.close()  # an engine and its thread, which cycles would keep until much later

    def _frames_freed(self, domid: int, mfn: int, count: int) -> None:
        self.ram.discard(mfn, count)
        domain = self.domains.get(domid)
        if domain is None:
            return
        if mfn in domain.hypervisor_frames:
            domain.hypervisor_frames.remove(mfn)
        else:
            domain.tot_pages -= count
        if domain.dead:
            self.lifecycle.forget_if_empty(domain)

    # -- domains ---------------------------------------------------------------------------------------------------
    def domain_by_id(self, domid: int) -> Domain | None:
        """The domain with this id, or None if there is none or it is dead."""
        domain = self.domains.get(domid)
        return None if domain is None or domain.dead else domain

    def resolve(self, caller: Domain, domid: int) -> Domain | None:
        """The domain with this id, which may be DOMID_SELF; None if there is none."""
        return caller if domid == DOMID_SELF else self.domain_by_id(domid)

    def create_domain(
        self, domid: int | None = None, timeline: Timeline[VCPU] | None = None, vcpus: int = 1, max_pages: int = 0
    ) -> Domain:
        """A new domain, paused, without memory; its vCPUs have no context yet."""
        if domid is None:
            while self._next_domid in self.domains:
                self._next_domid = self._next_domid % (DOMID_FIRST_RESERVED - 1) + 1
            domid = self._next_domid
            self._next_domid = self._next_domid % (DOMID_FIRST_RESERVED - 1) + 1
        domain = self._new_domain(domid, timeline or self.wall, max_pages)
        domain.paused = 1
        domain.controller_paused = 1
        for vcpu_id in range(vcpus):
            self.add_vcpu(domain, vcpu_id)
        return domain

    def _new_domain(self, domid: int, timeline: Timeline[VCPU], max_pages: int, privileged: bool = False) -> Domain:
        domain = Domain(self, domid, timeline, privileged)
        self.domains[domid] = domain
        domain.max_pages = max_pages
        domain.shared_info = self.frames.share(domid)
        domain.hypervisor_frames.append(domain.shared_info)
        if not privileged:
            self.descriptors.make(domain)
        self.timekeeper.write_wallclock(domain)
        domain.events = event_channels(domain)
        domain.grants = GrantTable(domain)
        return domain

    def add_vcpu(self, domain: Domain, vcpu_id: int = 0) -> VCPU:
        """A new vCPU on its domain's timeline; it is down."""
        pcpu = domain.timeline.cpu.pcpu
        vcpu = VCPU(domain, vcpu_id, len(pcpu.initial))
        vcpu.memory = domain.timeline.cpu.memory
        if vcpu_id < XEN_LEGACY_MAX_VCPUS:
            vcpu.vcpu_info = (domain.shared_info << 12) + vcpu_id * VCPU_INFO_SIZE
        vcpu.runstate.entered = domain.timeline.now()
        domain.vcpus.append(vcpu)
        domain.timeline.add(vcpu)
        return vcpu

    def allocate(self, domain: Domain, count: int) -> array[int]:
        """Give a domain `count` frames, in long runs; returns their mfns. Raises HypercallError(ENOMEM)."""
        mfns = array("Q")  # no list: of 4 GiB that would be 40 MiB
        if count > self.frames.free_frames:
            raise HypercallError(Errno.ENOMEM)
        while len(mfns) < count:
            run = self.frames.free.largest(count - len(mfns))
            first = self.frames.allocate_run(domain.domid, run)
            mfns.extend(range(first, first + run))
        domain.tot_pages += count
        return mfns

    def set_context(self, vcpu: VCPU, context: Any) -> None:
        """Give a vCPU its first context, on dom0's behalf."""
        self.pagetables.deferred = vcpu.deferred
        set_context(self, vcpu, context)

    # -- lifecycle: see pvhv.core.lifecycle ----------------------------------------------------------------------
    def shutdown_domain(self, domain: Domain, code: int) -> None:
        """SCHEDOP_shutdown: stop the domain; dom0 is told the reason, `code`."""
        self.lifecycle.shutdown(domain, code)

    def crash(self, domain: Domain, reason: str, vcpu: VCPU | None = None) -> None:
        """Crash the domain: keep a report for the first reason, and shut it down."""
        if domain.crash_report is None:
            domain.crash_report = describe(domain, vcpu, reason)
            self.console.log(f"{domain} crashed: {reason}")
            self.console.log(domain.crash_report)
        self.lifecycle.shutdown(domain, SHUTDOWN_crash)

    def bug(self, domain: Domain | None, failure: BaseException, vcpu: VCPU | None = None) -> None:
        """Record a bug of the hypervisor in `bugs`, and crash the domain it was met by, if any."""
        text = "".join(traceback.format_exception(failure))
        self.bugs.append(text)
        del self.bugs[:-BUGS_KEPT]
        self.bugs_met += 1
        self.console.log(f"BUG in the hypervisor, met by {domain or 'nobody'}:\n{text}")
        if domain is not None:
            self.crash(domain, f"a bug in the hypervisor: {failure!r}", vcpu)

    def failed(self, vcpu: VCPU, failure: Exception) -> None:
        """Deal with an exception that ended a run of `vcpu`: crash its domain, or record a bug."""
        if isinstance(failure, DomainCrash):
            self.crash(vcpu.domain, failure.reason, vcpu)
        elif isinstance(failure, (EngineDied, Escaped)):
            vcpu.domain.engine_died |= isinstance(failure, EngineDied)
            self.crash(vcpu.domain, f"{failure}: {code_at(vcpu)}", vcpu)
        else:
            self.bug(vcpu.domain, failure, vcpu)

    def destroy(self, domain: Domain) -> None:
        """Begin to destroy a domain; the work continues between slices until it is done."""
        self.lifecycle.destroy(domain)

    def on_domain_event(self, listener: Callable[[Domain, str], None]) -> None:
        """Have `listener` called with the domain and "shutdown", "crash" or "destroyed"."""
        self._listeners.append(listener)

    def announce(self, domain: Domain, what: str) -> None:
        """Call the listeners of domain events."""
        for listener in list(self._listeners):
            listener(domain, what)

    # -- around a run --------------------------------------------------------------------------------------------
    def deliver_pending(self, vcpu: VCPU) -> None:
        """Deliver what became pending while the vCPU did not run (PV guests only)."""
        if vcpu.domain.hvm is not None:
            return
        self.exits[vcpu.domain.timeline.virtual].enter_guest(vcpu)

    # -- what handlers do to the vCPU that runs ----------------------------------------------------------------------
    def flush_domain(self, domain: Domain) -> None:
        """Flush the TLBs of a domain's vCPUs, which share a pCPU."""
        domain.timeline.cpu.flush()

    def new_guest_cr3(self, vcpu: VCPU, mfn: int) -> None:
        """MMUEXT_NEW_BASEPTR. Raises HypercallError(EINVAL) or Restart."""
        tables = self.pagetables
        tables.settle()
        cpu = vcpu.domain.timeline.cpu
        old = vcpu.guest_table
        if mfn == old:
            cpu.load_tables(vcpu)
            return
        tables.get_root(mfn, vcpu.domain.domid)
        if vcpu.ldt_ents and self.descriptors.destroy_ldt(vcpu):
            tables.stale = True
        if not vcpu.domain.m2p_strict:
            tables.show_m2p(mfn, True)
        vcpu.guest_table = mfn
        cpu.load_tables(vcpu)
        if old:
            tables.put_root(old)

    def set_ldt(self, vcpu: VCPU, base: int, entries: int) -> None:
        """MMUEXT_SET_LDT."""
        if (vcpu.ldt_base, vcpu.ldt_ents) != (base, entries):
            if self.descriptors.destroy_ldt(vcpu):
                vcpu.domain.timeline.cpu.flush()
            vcpu.ldt_base, vcpu.ldt_ents = base, entries
            vcpu.domain.timeline.cpu.load_ldt(vcpu)

    # -- the loop, for others ----------------------------------------------------------------------------------------
    def post(self, function: Callable[[], Any]) -> Future[Any]:
        """Have `function` called on the hypervisor's thread, between slices. Any thread may."""
        return self.scheduler.post(function)

    def run(self) -> None:
        """The hypervisor's thread."""
        self.scheduler.run()

    def stop(self) -> None:
        """End `run`. Any thread may."""
        self.scheduler.stop()

    def run_until(self, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """`run` in the caller's thread until `done()`; False on timeout."""
        return self.scheduler.run_until(done, timeout_s)
