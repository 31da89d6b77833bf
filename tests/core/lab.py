# SPDX-License-Identifier: GPL-2.0-or-later
"""Domains that run a few instructions of ours on the real engine.

A `Lab` is a hypervisor; `domain(code)` makes a guest whose kernel is that code and whose memory is mapped as the
constants below say. Its exceptions, should they come, land in handlers that note the vector in %rbx and shut the domain
down with STOPPED, so that a test finds the bounce frame at %rsp (`frame`). `run` runs what there is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from pvhv.abi.arch_x86 import FLAT_KERNEL_CS, FLAT_KERNEL_SS, VcpuGuestContext
from pvhv.abi.sched import SCHEDOP_shutdown
from pvhv.abi.xen import HYPERVISOR_sched_op
from pvhv.core.domain import Domain
from pvhv.core.hypervisor import Hypervisor
from pvhv.core.mm.pte import ACCESSED, DIRTY, NX, PRESENT, RW, USER
from pvhv.core.sched.timeline import Timeline
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import RIP, RSP
from tests.core.code import RBX, Code

PAGE = 4096
BASE = 0x40_0000_0000
PAGES = 64
L4, L3, L2, L1, USER_L4 = range(5)  # pfns of the tables; the user's L4 maps what the kernel's does
STACK_TOP = BASE + 8 * PAGE  # of vCPU 0; vCPU 1 has the page below
KERNEL_SP = BASE + 10 * PAGE  # where user code enters the kernel
DATA = BASE + 12 * PAGE  # four pages, kernel only
USER_DATA = BASE + 16 * PAGE  # four pages for both, stack from the top
SHARED_INFO = BASE + 20 * PAGE
HOLE = BASE + 21 * PAGE  # nothing is mapped here
READ_ONLY = BASE + 22 * PAGE
CODE = BASE + 32 * PAGE  # eight pages, executable for both
HANDLERS = BASE + 40 * PAGE  # one page: 16 bytes a vector, then the end
KERNEL_HANDLERS = 32 * 16
STOPPED = 77
EVENT = 0xFE  # what %rbx says for the event callback, the syscall entry and the failsafe callback
SYSCALL = 0xFD
FAILSAFE = 0xFC
HANDLER_OF = {EVENT: 32, SYSCALL: 33, FAILSAFE: 34}
REASON = HANDLERS + 0xF00
VGCF_IN_KERNEL, VGCF_SYSCALL_DISABLES_EVENTS, VGCF_ONLINE = 1 << 2, 1 << 4, 1 << 5
ERROR_CODES = frozenset((8, 10, 11, 12, 13, 14, 17))


class Frame(NamedTuple):
    """A bounce frame, as the guest finds it."""

    vector: int
    rcx: int
    r11: int
    error_code: int | None
    rip: int
    cs: int
    mask: int
    rflags: int
    rsp: int
    ss: int


class Lab:
    """A hypervisor and small guests on it."""

    def __init__(self, frames: int = 4096) -> None:
        self.hv = Hypervisor(memory_frames=frames)
        self.mfns: dict[int, list[int]] = {}

    # -- guests ------------------------------------------------------------------------------------------------
    def domain(
        self,
        code: Code | None = None,
        timeline: Timeline | None = None,
        vcpus: int = 1,
        room: int = 0,
        handlers: dict[int, int] | None = None,
        rflags: int = 2,
        prepare: Callable[[Domain], None] | None = None,
    ) -> Domain:
        """A guest that begins at `code`; `handlers` has entry points of its own for some vectors.

        `prepare` may change its memory before it has a context and tables that are validated.
        """
        hv = self.hv
        domain = hv.create_domain(timeline=timeline or hv.timeline("lab"), vcpus=vcpus, max_pages=PAGES + room)
        mfns = self.mfns[domain.domid] = list(hv.allocate(domain, PAGES))
        for pfn, mfn in enumerate(mfns):
            hv.m2p[mfn] = pfn
        self._tables(domain, mfns)
        self._handlers(domain)
        if code is not None:
            self.write(domain, code.at, bytes(code.bytes))
        if prepare is not None:
            prepare(domain)
        for vcpu in domain.vcpus:
            hv.ram.bytes[vcpu.vcpu_info + 1] = 1
        context = self.context(domain, CODE if code is None else code.at, rflags)
        for vector, address in (handlers or {}).items():
            context.trap_ctxt[vector].address = address
        hv.set_context(domain.vcpus[0], context)
        hv.activity.unpause(domain)
        return domain

    def context(self, domain: Domain, rip: int, rflags: int = 2, vcpu_id: int = 0) -> Any:
        """What a vCPU begins with."""
        mfns = self.mfns[domain.domid]
        context: Any = VcpuGuestContext()
        context.flags = VGCF_IN_KERNEL | VGCF_ONLINE
        context.user_regs.rip, context.user_regs.rsp = rip, STACK_TOP - PAGE * vcpu_id
        context.user_regs.cs, context.user_regs.ss = FLAT_KERNEL_CS, FLAT_KERNEL_SS
        context.user_regs.rflags = rflags
        context.ctrlreg[3], context.ctrlreg[1] = mfns[L4] << 12, mfns[USER_L4] << 12
        context.kernel_ss, context.kernel_sp = FLAT_KERNEL_SS, KERNEL_SP
        context.event_callback_eip = self.handler(EVENT)
        context.syscall_callback_eip = self.handler(SYSCALL)
        context.failsafe_callback_eip = self.handler(FAILSAFE)
        for vector in range(256):
            trap = context.trap_ctxt[vector]
            trap.vector, trap.cs = vector, FLAT_KERNEL_CS
            trap.address = self.handler(vector) if vector < 32 else 0
            trap.flags = 3 if vector in (3, 4) else 0
        return context

    def _tables(self, domain: Domain, mfns: list[int]) -> None:
        words = self.hv.ram.words
        link = PRESENT | RW | USER | ACCESSED
        for table, below, shift in ((L4, L3, 39), (USER_L4, L3, 39), (L3, L2, 30), (L2, L1, 21)):
            words[mfns[table] * 512 + (BASE >> shift & 511)] = mfns[below] << 12 | link
        for pfn, mfn in enumerate(mfns):
            va = BASE + pfn * PAGE
            flags = PRESENT | ACCESSED | DIRTY | RW | NX
            if pfn <= USER_L4 or va == READ_ONLY:
                flags &= ~RW
            if USER_DATA <= va < SHARED_INFO:
                flags |= USER
            if CODE <= va < HANDLERS:
                flags = PRESENT | ACCESSED | USER
            if va == HANDLERS:
                flags = PRESENT | ACCESSED
            if va == SHARED_INFO:
                mfn = domain.shared_info
            words[mfns[L1] * 512 + (va >> 12 & 511)] = 0 if va == HOLE else mfn << 12 | flags

    def _handlers(self, domain: Domain) -> None:
        code = Code(HANDLERS)
        end = HANDLERS + 0x800
        for number in [*range(32), EVENT, SYSCALL, FAILSAFE]:
            code.raw(b"\xbb" + struct.pack("<I", number)).jmp(end).align(16)  # mov $number, %ebx
        self.write(domain, HANDLERS, bytes(code.bytes))
        self.write(domain, end, bytes(Code(end).hypercall(HYPERVISOR_sched_op, SCHEDOP_shutdown, REASON).bytes))
        self.write(domain, REASON, struct.pack("<I", STOPPED))

    @staticmethod
    def handler(vector: int) -> int:
        """Where a vector's handler is."""
        return HANDLERS + HANDLER_OF.get(vector, vector) * 16

    # -- looking and touching ----------------------------------------------------------------------------------
    def mfn(self, domain: Domain, va: int) -> int:
        """The frame behind an address of the first mapping."""
        return domain.shared_info if va & -PAGE == SHARED_INFO else self.mfns[domain.domid][(va - BASE) >> 12]

    def write(self, domain: Domain, va: int, data: bytes) -> None:
        """Put bytes into a guest's memory, page by page."""
        while data:
            room = PAGE - (va & PAGE - 1)
            mfn = self.mfn(domain, va)
            at = mfn * PAGE + (va & PAGE - 1)
            piece = data[:room]
            self.hv.ram.bytes[at : at + len(piece)] = piece
            self.hv.host_wrote(mfn)
            va, data = va + len(piece), data[room:]

    def word(self, domain: Domain, va: int) -> int:
        """A u64 of a guest's memory."""
        return self.hv.ram.words[self.mfn(domain, va) * 512 + (va >> 3 & 511)]

    def poke(self, domain: Domain, va: int, value: int) -> None:
        """Write one."""
        self.write(domain, va, struct.pack("<Q", value))

    def register(self, vcpu: VCPU, index: int) -> int:
        """A register of a vCPU, running or not."""
        return vcpu.state[index]

    def frame(self, vcpu: VCPU) -> Frame:
        """The frame a handler of ours stopped on."""
        state = vcpu.state
        vector = state[RBX]
        count = 8 if vector in ERROR_CODES else 7
        words = [self.word(vcpu.domain, state[RSP] + 8 * n) for n in range(count)]
        code = words.pop(2) if count == 8 else None
        rcx, r11, rip, cs, rflags, rsp, ss = words
        return Frame(vector, rcx, r11, code, rip, cs & 0xFFFF, cs >> 32 & 0xFF, rflags, rsp, ss)

    # -- running -----------------------------------------------------------------------------------------------
    def run(self, *domains: Domain, timeout: float = 10) -> None:
        """Until they have stopped. Fails when they do not, or the hypervisor has a bug."""
        stopped = self.hv.run_until(lambda: all(not domain.runs for domain in domains), timeout)
        assert not self.hv.bugs, self.hv.bugs[0]
        assert stopped, [hex(domain.vcpus[0].state[RIP]) for domain in domains]

    def trap(self, code: Code, **named: Any) -> Frame:
        """Run code that ends in one of our handlers; the frame it stopped on."""
        domain = self.domain(code, **named)
        self.run(domain)
        assert domain.shutdown_code == STOPPED, domain.crash_report
        return self.frame(domain.vcpus[0])

    def crash(self, code: Code, **named: Any) -> str:
        """Run code that crashes its domain; the reason."""
        domain = self.domain(code, **named)
        self.run(domain)
        assert domain.crash_report is not None, domain.shutdown_code
        return domain.crash_report.splitlines()[0]
