# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtualization technique: which events of the guest exit to the monitor, and what the monitor does then.

    bare                 no monitor: everything is the processor's own
    hw-nested            AMD-V with nested paging: I/O, HLT, CPUID, some MSRs, nested faults, interrupts
    hw-shadow            the first generation: also control registers, INVLPG and page faults, on shadow tables
    trap-emulate         no help from the hardware: the kernel deprivileged, each privileged instruction trapped
    binary-translation   the same, with the instructions that would not trap found and rewritten

A technique puts handlers into its guest's pCPU. Work that a handler does *for the CPU* is counted as an assist; an
event that would leave the guest on the technique's real hardware is counted as an exit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

from pvhv.core.hypervisor import Hypervisor
from pvhv.core.sched.timeline import Timeline
from pvhv.core.vcpu import VCPU
from pvhv.hvm.counts import Counts
from pvhv.hvm.cpu.guestcpu import GuestCpu
from pvhv.hvm.cpu.memory import GuestPhysical
from pvhv.hvm.platform.platform import Platform
from pvhv.machine.pcpu import PCPU


class Carried(Protocol):
    """What a technique uses of its guest (pvhv.hvm.guest)."""

    hypervisor: Hypervisor
    counts: Counts
    pcpu: PCPU
    physical: GuestPhysical
    platform: Platform
    timeline: Timeline[VCPU]
    tsc_khz: int
    waiting: bool  # an interrupt waits until the guest can take it

    def halt(self) -> None:
        """HLT was executed, RIP is behind it: sleep until an interrupt."""

    def own_frame(self) -> int:
        """Allocate a zeroed frame for the monitor's tables. Raises HypercallError(ENOMEM)."""

    def give_back(self, mfn: int) -> None:
        """Free a frame from `own_frame`."""


class Technique(ABC):
    """The technique of one guest: its handlers and their state."""

    name: ClassVar[str]
    counted: ClassVar[frozenset[str]] = frozenset()  # which of Counts.events are complete: what has no entry never was

    cpu: GuestCpu

    def __init__(self, guest: Carried) -> None:
        self.guest = guest
        self.counts = guest.counts
        self.pcpu = guest.pcpu
        self.state = guest.pcpu.state

    @abstractmethod
    def install(self) -> None:
        """Put handlers and intercepts into the pCPU."""

    @abstractmethod
    def reset(self, entry: int, rbx: int) -> None:
        """Set the state that a PVH loader leaves: `entry` in 32-bit protected mode, RBX as given."""

    @abstractmethod
    def interruptible(self) -> bool:
        """Whether the guest can take an interrupt at the current instruction."""

    @abstractmethod
    def inject(self, vector: int) -> None:
        """Let the guest take an external interrupt."""

    def window_by_engine(self) -> bool:
        """Whether the engine can tell, by RFLAGS, when the guest will take the interrupt that waits."""
        return True

    def interrupted(self) -> None:
        """An external interrupt came while the guest ran; a technique may count an exit."""
        return

    def window_opened(self) -> None:
        """A waiting interrupt can be taken now; a technique may count an exit."""
        return

    def close(self) -> None:
        """The domain is being destroyed: release everything but frames of `own_frame`, which are freed with it."""
        return
