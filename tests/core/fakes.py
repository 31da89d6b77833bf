# SPDX-License-Identifier: GPL-2.0-or-later
"""A hypervisor without a CPU: frames, domains and vCPUs for tests of rooms that need nothing else.

It has the few names of `Hypervisor` that events and grants use, and page tables made by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pvhv.core.domain import DOMID_SELF, Domain
from pvhv.core.events import EventChannels
from pvhv.core.frames import DOMID_XEN, FrameTable
from pvhv.core.pagetables import PageTables
from pvhv.core.vcpu import VCPU
from pvhv.machine.ram import Ram

FRAMES = 4096


class FakeHypervisor:
    """Frames, domains, and a record of who was woken."""

    def __init__(self, frames: int = FRAMES) -> None:
        self.ram = Ram(frames)
        self.frames = FrameTable(self.ram)
        self.pagetables = PageTables(self.frames)
        self.domains: dict[int, Domain] = {}
        self.woken: list[VCPU] = []
        self.deferred: list[Callable[[], None]] = []
        self.dom0 = self.create_domain(0, vcpus=0)
        self.dom0.privileged = True

    def create_domain(self, domid: int, vcpus: int = 1) -> Domain:
        domain = Domain(self, domid, None)  # type: ignore[arg-type]
        self.domains[domid] = domain
        domain.shared_info = self.frames.allocate(DOMID_XEN)
        for number in range(vcpus):
            vcpu = VCPU(domain, number, 0)
            vcpu.vcpu_info = domain.shared_info * 4096 + 64 * number
            domain.vcpus.append(vcpu)
        domain.events = EventChannels(domain)
        return domain

    def domain_by_id(self, domid: int) -> Domain | None:
        return self.domains.get(domid)

    def resolve(self, caller: Domain, domid: int) -> Domain | None:
        return caller if domid == DOMID_SELF else self.domains.get(domid)

    def wake(self, vcpu: VCPU) -> None:
        self.woken.append(vcpu)
        vcpu.blocked = vcpu.polling = False

    def defer(self, function: Callable[[], None]) -> None:
        self.deferred.append(function)

    def safe_point(self) -> None:
        while self.deferred:
            self.deferred.pop(0)()


def fake(**sizes: int) -> Any:
    """The fake, typed as anything so that it may stand for a Hypervisor."""
    return FakeHypervisor(**sizes)
