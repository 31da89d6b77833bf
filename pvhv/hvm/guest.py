# SPDX-License-Identifier: GPL-2.0-or-later
"""One fully virtualized guest: a vCPU on an engine of its own, memory, a PC's devices, and a technique.

To the core it is a domain like any other, with one vCPU on a timeline of its own; the scheduler gives it turns, and
`FullCpu.load`, called at the beginning of each turn, delivers interrupts. The technique (technique.py) decides which
exits there are and how they are named. This file has what all techniques share: HLT sleeps, the PIC's output wakes, a
write to the power ports ends the domain.

Invariant: an interrupt is taken at the first instruction boundary where the guest can take it, on the virtual clock
the same one in every run.

Read beside it: xen/arch/x86/hvm/svm/intr.c (svm_intr_assist), vlapic.c and vpic.c for what platform/ does.

Not modelled: more than one vCPU, a local APIC, networks; the time that exceptions take (a guest whose
handlers all fault at their first instruction executes nothing, and on the virtual clock its time stands still). A guest
that halts with interrupts off stays halted, as on a machine of its own (Xen takes such a vCPU down, and ends the domain
if it is the last).
"""

from __future__ import annotations

import itertools
import time
from array import array
from collections.abc import Callable, Iterator

from pvhv.abi.errno import Errno
from pvhv.abi.sched import SHUTDOWN_poweroff, SHUTDOWN_reboot
from pvhv.abi.xen import DOMID_XEN
from pvhv.core.arch import ArchVCPU
from pvhv.core.control import POPULATED_AT_ONCE
from pvhv.core.cpu import Cpu
from pvhv.core.domain import Domain
from pvhv.core.errors import HypercallError
from pvhv.core.hypervisor import Hypervisor
from pvhv.core.sched.timeline import Timeline, VirtualTimeline, WallTimeline
from pvhv.core.vcpu import VCPU
from pvhv.hvm import crash
from pvhv.hvm.counts import Counts
from pvhv.hvm.cpu.memory import GuestPhysical
from pvhv.hvm.dma import GuestMemory
from pvhv.hvm.platform.platform import Platform
from pvhv.hvm.technique import Technique
from pvhv.machine.features import WHOLE_MACHINE
from pvhv.machine.pcpu import PCPU
from pvhv.machine.ram import PAGE_SIZE, Ram

VIRTUAL_TSC_KHZ = 1_000_000  # one instruction, one nanosecond, one tick
USER_LEVEL = 3
_serial = itertools.count(1)


class FullCpu(Cpu):
    """A pCPU, for the scheduler, whose engine belongs to one vCPU only."""

    def __init__(self, pcpu: PCPU, ram: Ram) -> None:
        super().__init__(pcpu, ram)
        self.guest: HvmGuest

    def load(self, vcpu: ArchVCPU) -> None:
        """A turn begins or continues: deliver a waiting interrupt."""
        self.current = vcpu
        self.guest.enter()

    def unload(self) -> None:
        """Does nothing: the vCPU stays loaded."""

    def park(self) -> None:
        """Does nothing: no other vCPU uses the engine."""


class HvmGuest:
    """The object in `domain.hvm`. It is made paused and empty: the builder fills memory and calls `technique.reset`."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        technique: type[Technique],
        pages: int,
        *,
        virtual: bool = True,
        transmit: Callable[[bytes], None] = lambda data: None,
        populate: bool = True,
    ) -> None:
        """`pages` is the size of guest memory, from address 0 on; the UART's output goes to `transmit`. Raises
        HypercallError(ENOMEM), and MemoryError if the host has no room for another engine.

        Without `populate` the caller has to run `populating`, which allocates the memory."""
        self.hypervisor = hypervisor
        self.counts = Counts()
        self.domain = self._new_domain(hypervisor, pages, virtual)
        if populate:
            for _step in self.populating():
                pass
        self.domain.hvm = self
        self.timeline: Timeline[VCPU] = self.domain.timeline
        self.vcpu = self.domain.vcpus[0]
        self.vcpu.periodic_period = 0
        self.vcpu.state = self.pcpu.state
        self.vcpu.down = False
        self.exit_code: int | None = None  # what the guest told the debug-exit port
        self.interrupted = False  # an interrupt came since the guest last ran, and was counted
        self.waiting = False  # one waits until the guest can take it
        self.tsc_khz = VIRTUAL_TSC_KHZ if virtual else self.pcpu.tsc_khz
        self.technique = technique(self)
        self.platform = Platform(
            self.timeline, pages << 12, transmit=transmit, on_interrupt=self._interrupt, on_power=self._power
        )
        self.memory = GuestMemory(self.physical, lambda gpa, size: self.technique.cpu.memory.wrote(gpa, size))
        self.technique.install()

    def _new_domain(self, hypervisor: Hypervisor, pages: int, virtual: bool) -> Domain:
        if pages > hypervisor.frames.free_frames:
            raise HypercallError(Errno.ENOMEM)
        domain = hypervisor.create_domain(timeline=hypervisor.wall, vcpus=0, max_pages=pages)
        self.physical = GuestPhysical(hypervisor.ram, array("Q"), pages)
        try:
            self.pcpu = PCPU(
                hypervisor.ram,
                "virtual" if virtual else "wall",
                block_stops=True,
                by_mode=virtual,
                guard_code=True,
                features=WHOLE_MACHINE,
            )
        except MemoryError:
            hypervisor.destroy(domain)
            raise
        cpu = FullCpu(self.pcpu, hypervisor.ram)
        cpu.guest = self
        name = f"hvm {next(_serial)}"
        timeline: Timeline[VCPU]
        if virtual:
            timeline = VirtualTimeline(name, cpu)
        else:
            timeline = WallTimeline(name, cpu, time.monotonic_ns, time.time_ns)
        hypervisor.add_timeline(name, timeline)
        domain.timeline = timeline
        hypervisor.add_vcpu(domain)
        return domain

    def populating(self) -> Iterator[None]:
        """Allocate the domain's memory, in steps of a share of work. Raises HypercallError(ENOMEM)."""
        hypervisor, physical = self.hypervisor, self.physical
        while left := physical.frames - len(physical.mfns):
            physical.mfns.extend(hypervisor.allocate(self.domain, min(left, POPULATED_AT_ONCE)))
            if hypervisor.scheduler.step_is_over():
                yield

    def own_frame(self) -> int:
        """Allocate a zeroed frame for the monitor, freed with the domain. Raises HypercallError(ENOMEM)."""
        mfn = self.hypervisor.frames.allocate(DOMID_XEN)
        self.hypervisor.ram.frame(mfn)[:] = bytes(PAGE_SIZE)
        self.domain.hypervisor_frames.append(mfn)
        return mfn

    def give_back(self, mfn: int) -> None:
        """Free a frame from `own_frame`."""
        self.domain.hypervisor_frames.remove(mfn)
        self.hypervisor.frames.release_allocation(mfn)

    # -- interrupts ------------------------------------------------------------------------------------------------
    def enter(self) -> None:
        """Before the guest runs: inject a waiting interrupt, or ask for an exit where the guest can take it."""
        pic = self.platform.pic
        if pic.pending() and self.technique.interruptible():
            if self.waiting:
                self.technique.window_opened()
            self.technique.inject(pic.acknowledge())
        self.waiting = pic.pending()
        self.pcpu.interrupt_window(self.waiting and self.technique.window_by_engine())
        self.interrupted = False

    def _interrupt(self) -> None:
        """The PIC's output rose: wake the vCPU, or end its run."""
        scheduler, vcpu = self.hypervisor.scheduler, self.vcpu
        turn = scheduler.current_turn
        if turn is not None and turn.vcpu is vcpu:
            scheduler.break_off()  # by the guest's own doing: it is in the monitor already
        elif vcpu.blocked:
            self.hypervisor.activity.wake(vcpu)
        elif not self.interrupted and not self.domain.paused:
            self.interrupted = True
            self.technique.interrupted()

    def halt(self) -> None:
        """HLT, RIP behind it: sleep until an interrupt."""
        if self.platform.pic.pending() and self.technique.interruptible():
            self.waiting = False  # for it no window was needed
            self.hypervisor.scheduler.break_off()
            return
        self.vcpu.blocked = True
        self.hypervisor.scheduler.end_turn()

    # -- the end ---------------------------------------------------------------------------------------------------
    def _power(self, what: str, code: int) -> None:
        if what == "exit":
            self.exit_code = code
        reason = SHUTDOWN_reboot if what == "reboot" else SHUTDOWN_poweroff
        self.hypervisor.shutdown_domain(self.domain, reason)

    def close(self) -> None:
        """The domain is being destroyed: give back what the technique holds."""
        self.platform.close()
        self.technique.close()

    # -- what others ask -------------------------------------------------------------------------------------------
    def registers(self) -> list[str]:
        """The CPU as its guest sees it, for a crash report."""
        return crash.registers(self.technique.cpu)

    def word(self, address: int) -> int | None:
        """The 64-bit word at a linear address, or None."""
        return crash.word(self.technique.cpu, address)

    def where(self) -> tuple[int, bool]:
        """(RIP, whether the guest is in its kernel)."""
        cpu = self.technique.cpu
        return cpu.rip, cpu.cpl != USER_LEVEL

    def exit_counts(self) -> dict[str, int]:
        """Exits by reason, those that happened."""
        return {reason: count for reason, count in self.counts.exits.items() if count}

    def listen(self, listener: Callable[[str, str, str], None] | None) -> None:
        """Call `listener` at each exit, callout and assist; None ends that."""
        self.counts.listener = listener

    # -- what is counted -------------------------------------------------------------------------------------------
    @property
    def instructions(self) -> tuple[int, int]:
        """(instructions executed in user mode, in the kernel), on the virtual clock."""
        user = self.pcpu.executed_user
        return user, self.pcpu.executed - user
