# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that have memory and page tables but no code: their hypercalls are made by the test.

A `Machine` is a real hypervisor. Its guests are given frames, tables that map them all from `BASE` on (writable, but
for the tables themselves) and a context, and stay paused; `call` puts arguments into the registers of a vCPU and
enters the hypervisor where a `syscall` instruction would, again and again until the call is not continued any more.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pvhv.abi.arch_x86 import FLAT_KERNEL_CS, FLAT_KERNEL_SS, VcpuGuestContext
from pvhv.core.domain import Domain
from pvhv.core.grants.table import GrantTable
from pvhv.core.hypervisor import Hypervisor
from pvhv.core.mm.pte import ACCESSED, ADDRESS, NX, PRESENT, RW, USER
from pvhv.core.mm.reservation import allocate, name
from pvhv.core.sched.scheduler import WORK_SHARE
from pvhv.core.sched.timeline import SLICE_NS, Turn
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import R8, R9, R10, RAX, RDI, RDX, RIP, RSI

FRAMES = 8192
BASE = 0x40_0000_0000
TABLES = 4  # the first frames of a guest: L4, L3, L2, L1
ENTRY = BASE + 0x10_0000  # where its syscall instruction would be
ARGUMENTS = (RDI, RSI, RDX, R10, R8, R9)
VGCF_IN_KERNEL = 1 << 2
VGCF_ONLINE = 1 << 5


class Machine:
    """A hypervisor and the means to be its guests."""

    def __init__(self, frames: int = FRAMES, virtual: bool = False) -> None:
        self.hv = Hypervisor(memory_frames=frames)
        self.ram = self.hv.ram
        self.frames = self.hv.frames
        self.timeline = self.hv.timeline("test") if virtual else self.hv.wall
        self.cpu = self.timeline.cpu
        self.work = WORK_SHARE  # the share of work a call gets before it is put aside
        self.continued = 0  # how often the last call was

    # -- making guests -----------------------------------------------------------------------------------------
    def guest(self, pages: int = 48, vcpus: int = 1, room: int = 0) -> Domain:
        """A guest with `pages` frames, allowed `room` more. Its events are masked."""
        domain = self.hv.create_domain(timeline=self.timeline, vcpus=vcpus, max_pages=pages + room)
        self.populate(domain, pages)
        for vcpu in domain.vcpus:
            self.ram.bytes[vcpu.vcpu_info + 1] = 1
        return domain

    def populate(self, domain: Domain, pages: int) -> None:
        """Give it frames and tables, and its first vCPU a context."""
        assert TABLES < pages <= 256  # one L1, with room behind
        mfns = [mfn for mfn in (allocate(domain, 0) for _ in range(pages)) if mfn is not None]
        assert len(mfns) == pages
        for pfn, mfn in enumerate(mfns):
            name(domain, mfn, pfn)
        words = self.ram.words
        l4, l3, l2, l1 = mfns[:TABLES]
        link = PRESENT | RW | USER | ACCESSED
        for table, below, shift in ((l4, l3, 39), (l3, l2, 30), (l2, l1, 21)):
            words[table * 512 + (BASE >> shift & 511)] = below << 12 | link
        for pfn, mfn in enumerate(mfns):
            writable = RW if pfn >= TABLES else 0
            words[l1 * 512 + (BASE >> 12 & 511) + pfn] = mfn << 12 | PRESENT | ACCESSED | NX | writable
        context: Any = VcpuGuestContext()
        context.flags = VGCF_IN_KERNEL | VGCF_ONLINE
        context.user_regs.rip, context.user_regs.rsp = ENTRY, BASE + 8 * 4096
        context.user_regs.cs, context.user_regs.ss = FLAT_KERNEL_CS, FLAT_KERNEL_SS
        context.ctrlreg[3] = l4 << 12
        self.hv.set_context(domain.vcpus[0], context)

    # -- what a guest sees and does ----------------------------------------------------------------------------
    def enter(self, vcpu: VCPU) -> None:
        """Put the vCPU on its pCPU."""
        self.cpu.load(vcpu)
        self.hv.pagetables.deferred = vcpu.deferred

    def entry_address(self, domain: Domain, pfn: int) -> int:
        """Machine address of the L1 entry for the page at BASE + pfn pages."""
        self.enter(domain.vcpus[0])
        return self.cpu.memory.entry_address(BASE + pfn * 4096)

    def entry(self, domain: Domain, pfn: int) -> int:
        """That entry."""
        return self.ram.words[self.entry_address(domain, pfn) >> 3]

    def mfn(self, domain: Domain, pfn: int) -> int:
        """The frame it maps."""
        return (self.entry(domain, pfn) & ADDRESS) >> 12

    def set_entry(self, domain: Domain, pfn: int, value: int) -> None:
        """What mmu_update does, and the guest's TLB flush after it."""
        address = self.entry_address(domain, pfn)
        assert self.hv.pagetables.modify(address, value, False, domain.domid, domain.domid)
        self.cpu.flush()

    def put(self, vcpu: VCPU, pfn: int, *records: Any) -> int:
        """Write records one after another at the start of a page; their address."""
        self.enter(vcpu)
        self.cpu.memory.write(BASE + pfn * 4096, b"".join(bytes(each) for each in records))
        return BASE + pfn * 4096

    def get(self, vcpu: VCPU, record: Any, pfn: int, index: int = 0) -> Any:
        """Read one of the records `put` wrote."""
        self.enter(vcpu)
        size = len(bytes(record()))
        return record.from_buffer_copy(self.cpu.memory.read(BASE + pfn * 4096 + index * size, size))

    def call(self, vcpu: VCPU, number: int, *arguments: int) -> int:
        """A hypercall; its result, negative for an error. Raises what would end the guest's run."""
        self.enter(vcpu)
        state = self.cpu.state
        state[RAX] = number
        for register, value in zip(ARGUMENTS, arguments, strict=False):
            state[register] = value & 0xFFFF_FFFF_FFFF_FFFF
        state[RIP] = ENTRY
        self.continued = -1
        while True:
            self.continued += 1
            scheduler = self.hv.scheduler
            unlimited = scheduler.share
            scheduler.current_turn = scheduler.share = Turn(vcpu, 0, SLICE_NS, self.work)
            try:
                self.cpu.pcpu.on_syscall()
            finally:
                scheduler.current_turn, scheduler.share = None, unlimited
            if state[RIP] != ENTRY - 2:
                break
            state[RIP] = ENTRY
        result = state[RAX]
        return result - (1 << 64) if result >> 63 else result

    def safe_point(self) -> None:
        """Let deferred work happen, and domains be taken apart to the end."""
        scheduler = self.hv.scheduler
        while scheduler.deferred or scheduler.background:
            if scheduler.deferred:
                scheduler.deferred.popleft()()
            scheduler.step_in_background()

    def destroy(self, domain: Domain) -> None:
        """Take a guest apart to the end."""
        self.hv.destroy(domain)
        self.safe_point()
        assert domain.dead


def write_entry(grants: GrantTable, ref: int, flags: int, domid: int, frame: int) -> None:
    """What a guest does to grant: write an entry of its table."""
    packed = struct.pack("<HHL", flags, domid, frame)
    grants.domain.hypervisor.ram.words[grants.entries.slot(ref)] = int.from_bytes(packed, "little")


def asleep(domain: Domain) -> Callable[[], list[VCPU]]:
    """Put the domain's vCPUs to sleep; the function tells which of them have been woken since."""
    for vcpu in domain.vcpus:
        vcpu.blocked = True
    return lambda: [vcpu for vcpu in domain.vcpus if not vcpu.blocked]
