# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's side of the FIFO ABI, as the ABI's design asks for it: where it put its pages, and how it takes events.

    queues = FifoGuest(machine, domain)
    queues.begin()                      control blocks for all vCPUs and the first page of words
    queues.take(0)                      what vCPU 0's upcall handler would be told of, in order

Nothing of pvhv.core.events.fifo is asked: this is another writing of the same ABI.
"""

from __future__ import annotations

from typing import Any

from pvhv.abi.event_channel import EvtchnInitControl, EVTCHNOP_expand_array, EVTCHNOP_init_control
from pvhv.abi.xen import HYPERVISOR_event_channel_op
from pvhv.core.domain import Domain
from tests.core.guests import Machine

PENDING, MASKED, LINKED, BUSY = 1 << 31, 1 << 30, 1 << 29, 1 << 28
LINK = (1 << 17) - 1
REQUEST, BLOCKS, ARRAY = 10, 12, 16  # pfns: requests, a page for each vCPU's control block, the event array
BLOCK_OFFSET = 64


class FifoGuest:
    """The queues of one guest."""

    def __init__(self, machine: Machine, domain: Domain) -> None:
        self.machine = machine
        self.domain = domain
        self.words = machine.ram.bytes.cast("I")
        self.array: list[int] = []  # mfns
        self.blocks: dict[int, int] = {}  # vcpu_id -> place of its control block, in words
        self.heads: dict[tuple[int, int], int] = {}  # (vcpu_id, priority) -> head, once it was read

    # -- asking for it ---------------------------------------------------------------------------------------
    def op(self, command: int, record: Any) -> int:
        """An event_channel_op; its result."""
        vcpu = self.domain.vcpus[0]
        address = self.machine.put(vcpu, REQUEST, record)
        return self.machine.call(vcpu, HYPERVISOR_event_channel_op, command, address)

    def init_control(self, vcpu_id: int, pfn: int | None = None, offset: int = BLOCK_OFFSET) -> int:
        mfn = self.machine.mfn(self.domain, BLOCKS + vcpu_id if pfn is None else pfn)
        result = self.op(EVTCHNOP_init_control, EvtchnInitControl(mfn, offset, vcpu_id))
        if not result:
            self.blocks[vcpu_id] = (mfn << 12) + offset >> 2
        return result

    def expand(self, pfn: int | None = None, masked: bool = False) -> int:
        """A page more of words, all masked if that is wanted."""
        mfn = self.machine.mfn(self.domain, ARRAY + len(self.array) if pfn is None else pfn)
        if masked:
            for index in range(1024):
                self.words[(mfn << 10) + index] = MASKED
        result = self.op(EVTCHNOP_expand_array, mfn.to_bytes(8, "little"))
        if not result:
            self.array.append(mfn)
        return result

    def begin(self) -> None:
        for vcpu in self.domain.vcpus:
            assert self.init_control(vcpu.vcpu_id) == 0
        assert self.expand() == 0

    # -- words -----------------------------------------------------------------------------------------------
    def place(self, port: int) -> int:
        return (self.array[port >> 10] << 10) + (port & 1023)

    def word(self, port: int) -> int:
        return self.words[self.place(port)]

    def set(self, port: int, value: int) -> None:
        self.words[self.place(port)] = value

    def mask(self, port: int) -> None:
        self.set(port, self.word(port) | MASKED)

    def ready(self, vcpu_id: int) -> int:
        return self.words[self.blocks[vcpu_id]]

    def head(self, vcpu_id: int, priority: int) -> int:
        return self.words[self.blocks[vcpu_id] + 2 + priority]

    # -- the upcall ------------------------------------------------------------------------------------------
    def upcall(self, vcpu_id: int) -> bool:
        """Whether the vCPU has an upcall to take; it is taken."""
        info = self.domain.vcpus[vcpu_id].vcpu_info
        pending = self.machine.ram.bytes[info]
        self.machine.ram.bytes[info] = 0
        return bool(pending)

    def take(self, vcpu_id: int, most: int = 1 << 20) -> list[int]:
        """Take events off the vCPU's queues, the highest priority first, until none is ready (or `most` were)."""
        if not self.upcall(vcpu_id):
            return []
        at, taken = self.blocks[vcpu_id], []
        ready, self.words[at] = self.words[at], 0
        while ready and len(taken) < most:
            priority = (ready & -ready).bit_length() - 1
            head = self.heads.get((vcpu_id, priority), 0)
            if not head:
                head = self.words[at + 2 + priority]
            word = self.word(head)
            self.set(head, word & ~(LINKED | LINK))
            self.heads[vcpu_id, priority] = word & LINK
            if not word & LINK:
                ready &= ~(1 << priority)
            if word & PENDING and not word & MASKED:
                self.set(head, self.word(head) & ~PENDING)
                taken.append(head)
            fresh, self.words[at] = self.words[at], 0
            ready |= fresh
        if ready:  # interrupted: it comes back
            self.words[at] |= ready
            self.machine.ram.bytes[self.domain.vcpus[vcpu_id].vcpu_info] = 1
        return taken
