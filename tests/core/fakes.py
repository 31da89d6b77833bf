# SPDX-License-Identifier: GPL-2.0-or-later
"""A hypervisor without a CPU: frames, domains and vCPUs for tests of rooms that need nothing else.

It has the few names of `Hypervisor` that events, grants and memory use. A domain gets real, validated page tables
that map its frames, all writable but the tables themselves, from `BASE` on in the order of their pfns.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pvhv.core.dispatch import HANDLERS, Continue
from pvhv.core.domain import DOMID_SELF, Domain
from pvhv.core.errors import GuestFault, HypercallError
from pvhv.core.events import EventChannels
from pvhv.core.frames import DOMID_XEN, FrameTable
from pvhv.core.grants import GrantTable
from pvhv.core.guestmem import GuestMemory
from pvhv.core.pagetables import ACCESSED, NX, PRESENT, RW, USER, PageTables
from pvhv.core.reservation import allocate, name
from pvhv.core.vcpu import VCPU
from pvhv.machine.ram import Ram

FRAMES = 4096
BASE = 0x40_0000_0000
TABLES = 4  # the first frames of a domain: L4, L3, L2, L1


class FakeHypervisor:
    """Frames, domains, and a record of who was woken."""

    def __init__(self, frames: int = FRAMES) -> None:
        self.ram = Ram(frames)
        self.frames = FrameTable(self.ram)
        self.pagetables = PageTables(self.frames)
        self.pagetables.domain_freed_frame = self.freed
        self.pagetables.flush_before_reuse = self.flush
        self.m2p = memoryview(bytearray(8 * frames)).cast("Q")
        self.domains: dict[int, Domain] = {}
        self.woken: list[VCPU] = []
        self.deferred: list[Callable[[], None]] = []
        self.memories: list[GuestMemory] = []
        self.flushes = 0
        self.patience: int | None = None  # units of work before must_yield says yes
        self.worked = 0
        self.dom0 = self.create_domain(0, vcpus=0)
        self.dom0.privileged = True

    # -- domains
    def create_domain(self, domid: int, vcpus: int = 1, pages: int = 0) -> Domain:
        domain = Domain(self, domid, None)  # type: ignore[arg-type]
        self.domains[domid] = domain
        domain.shared_info = self.frames.allocate(DOMID_XEN)
        for number in range(vcpus):
            vcpu = VCPU(domain, number, 0)
            vcpu.vcpu_info = domain.shared_info * 4096 + 64 * number
            vcpu.memory = GuestMemory(self.ram)
            self.memories.append(vcpu.memory)
            domain.vcpus.append(vcpu)
        domain.events = EventChannels(domain)
        domain.grants = GrantTable(domain)
        domain.max_pages = pages
        if pages:
            self.populate(domain, pages)
        return domain

    def populate(self, domain: Domain, pages: int) -> None:
        assert TABLES < pages <= 512
        mfns = [allocate(domain, 0) for _ in range(pages)]
        for pfn, mfn in enumerate(mfns):
            self.ram.discard(mfn)
            name(domain, mfn, pfn)
        words = self.ram.words
        l4, l3, l2, l1 = mfns[:TABLES]
        link = PRESENT | RW | USER | ACCESSED
        for table, below, shift in ((l4, l3, 39), (l3, l2, 30), (l2, l1, 21)):
            words[table * 512 + (BASE >> shift & 511)] = below << 12 | link
        for pfn, mfn in enumerate(mfns):
            writable = RW if pfn >= TABLES else 0
            words[l1 * 512 + (BASE >> 12 & 511) + pfn] = mfn << 12 | PRESENT | ACCESSED | NX | writable
        self.pagetables.get_root(l4, domain.domid)
        for vcpu in domain.vcpus:
            vcpu.guest_table = l4
            vcpu.memory.root = l4

    def mfn(self, domain: Domain, pfn: int) -> int:
        """The frame mapped at BASE + pfn pages."""
        return self.entry(domain, pfn) >> 12 & 0xFF_FFFF

    def entry(self, domain: Domain, pfn: int) -> int:
        """The L1 entry for that page."""
        return self.ram.words[domain.vcpus[0].memory.entry_address(BASE + pfn * 4096) >> 3]

    def release(self, domain: Domain) -> None:
        """Destroy a domain, as far as memory goes. (domain_kill)"""
        domain.dying = True
        domain.events.destroy()
        while not domain.grants.release_mappings():
            pass
        for vcpu in domain.vcpus:
            if vcpu.guest_table:
                self.pagetables.put_root(vcpu.guest_table)
                vcpu.guest_table = 0
        for mfn in self.frames.owned_by(domain.domid):
            self.frames.release_allocation(mfn)
        if not domain.tot_pages:
            domain.grants.destroy()
            del self.domains[domain.domid]

    # -- what Hypervisor offers
    def domain_by_id(self, domid: int) -> Domain | None:
        return self.domains.get(domid)

    def resolve(self, caller: Domain, domid: int) -> Domain | None:
        return caller if domid == DOMID_SELF else self.domains.get(domid)

    def must_yield(self, cost: int) -> bool:
        self.worked += cost
        return self.patience is not None and self.worked >= self.patience

    def wake(self, vcpu: VCPU) -> None:
        self.woken.append(vcpu)
        vcpu.blocked = vcpu.polling = False

    def defer(self, function: Callable[[], None]) -> None:
        self.deferred.append(function)

    def safe_point(self) -> None:
        while self.deferred:
            self.deferred.pop(0)()

    def flush(self) -> None:
        self.flushes += 1
        for memory in self.memories:
            memory.clear()

    def freed(self, domid: int, mfn: int) -> None:
        domain = self.domains.get(domid)
        if domain is not None and mfn not in domain.hypervisor_frames:
            domain.tot_pages -= 1


def fake(**sizes: int) -> Any:
    """The fake, typed as anything so that it may stand for a Hypervisor."""
    return FakeHypervisor(**sizes)


def call(vcpu: VCPU, handler: Any, *arguments: int) -> int:
    """A whole hypercall, continued until it is done; -errno for an error."""
    hypervisor: Any = vcpu.domain.hypervisor
    hypervisor.worked = 0
    try:
        return int(HANDLERS[handler](vcpu, *arguments) or 0)
    except Continue as again:
        return call(vcpu, handler, *again.arguments)
    except HypercallError as error:
        return -int(error.errno)
    except GuestFault:
        return -14


def put(vcpu: VCPU, pfn: int, *records: Any) -> int:
    """Write records one after another at the start of a page; their address."""
    address = BASE + pfn * 4096
    vcpu.memory.write(address, b"".join(bytes(each) for each in records))
    return address


def get(vcpu: VCPU, record: Any, pfn: int, index: int = 0) -> Any:
    """Read one of the records `put` wrote."""
    size = len(bytes(record()))
    return record.from_buffer_copy(vcpu.memory.read(BASE + pfn * 4096 + index * size, size))


def grant(hypervisor: Any, domain: Domain, ref: int, flags: int, domid: int, frame: int) -> None:
    """What a guest does to grant: write an entry of its table."""
    slot = domain.grants.slot(ref)
    hypervisor.ram.words[slot] = struct.unpack("<Q", struct.pack("<HHL", flags, domid, frame))[0]
