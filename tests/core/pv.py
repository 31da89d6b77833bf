# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's page tables, worked on by a test: what tests of the PV MMU share.

`Bench` is the Machine of guests.py with one guest `g` whose frames come in two kinds: PAGES of them are mapped from
BASE on, and `spare` ones are mapped nowhere, so that a test can fill them (`fill`) and have them taken as tables.
Hypercalls go through `do`, which can be given shares of work as small as one likes and calls `put_aside` at each
point where the call was interrupted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from pvhv.abi.xen import HYPERVISOR_mmu_update, HYPERVISOR_mmuext_op
from pvhv.core.mm.frames import NONE, TYPE_MASK
from pvhv.core.mm.pte import ACCESSED, GLOBAL, NX, PRESENT, RW, USER
from pvhv.core.sched.scheduler import UNDIVIDED, WORK_SHARE
from pvhv.core.sched.timeline import SLICE_NS, Turn
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import RAX, RIP
from tests.core.accounting import problems
from tests.core.guests import ARGUMENTS, BASE, ENTRY, Machine

DOMID_SELF = 0x7FF0
PAGES = 48
REQUESTS = 40  # pfn of the first page of request lists; eight follow
PDONE = BASE + 39 * 4096
PIN_L1, PIN_L2, PIN_L3, PIN_L4, UNPIN, NEW_BASEPTR = range(6)
NEW_USER_BASEPTR = 15
LINK = PRESENT | RW | USER | ACCESSED
DATA = PRESENT | ACCESSED | NX


class Bench(Machine):
    """One guest and its page tables."""

    def __init__(self, spare: int = 32, frames: int = 2048) -> None:
        super().__init__(frames)
        self.g = self.guest(PAGES, room=spare)
        self.vcpu = self.g.vcpus[0]
        self.spare = list(self.hv.allocate(self.g, spare))
        self.l4, self.l3, self.l2, self.l1 = (self.mfn(self.g, pfn) for pfn in range(4))
        self.put_aside: Callable[[], bool | None] = lambda: None
        self.shares: Callable[[], int] = lambda: WORK_SHARE

    # -- hypercalls --------------------------------------------------------------------------------------------
    def do(self, number: int, *arguments: int, vcpu: VCPU | None = None) -> int:
        """A hypercall, each time with a share of work from `shares`; its result, negative for an error.

        Where it is put aside `put_aside` is called; if that says True the guest never comes back to it (result 0).
        """
        vcpu = vcpu or self.vcpu
        self.enter(vcpu)
        state = self.cpu.state
        state[RAX] = number
        for register, value in zip(ARGUMENTS, arguments, strict=False):
            state[register] = value & 0xFFFF_FFFF_FFFF_FFFF
        state[RIP] = ENTRY
        self.continued = 0
        scheduler = self.hv.scheduler
        while True:
            scheduler.current_turn = scheduler.share = Turn(vcpu, 0, SLICE_NS, self.shares())
            try:
                self.cpu.pcpu.on_syscall()
            finally:
                scheduler.current_turn, scheduler.share = None, UNDIVIDED
            if state[RIP] != ENTRY - 2:
                break
            state[RIP] = ENTRY
            self.continued += 1
            if self.put_aside():
                return 0
        result = state[RAX]
        return result - (1 << 64) if result >> 63 else result

    def updates(self, *requests: tuple[int, int], foreigndom: int = DOMID_SELF, pdone: int = PDONE) -> int:
        """mmu_update of (ptr, val) pairs."""
        self.enter(self.vcpu)
        address = BASE + REQUESTS * 4096
        self.cpu.memory.write(address, b"".join(struct.pack("<QQ", *each) for each in requests))
        self.cpu.memory.write(PDONE, bytes(4))
        return self.do(HYPERVISOR_mmu_update, address, len(requests), pdone, foreigndom)

    def update(self, table: int, index: int, value: int, command: int = 0) -> int:
        """One entry by mmu_update."""
        return self.updates((table << 12 | index * 8 | command, value))

    def exts(self, *operations: tuple[int, int, int], foreigndom: int = DOMID_SELF, pdone: int = PDONE) -> int:
        """mmuext_op of (cmd, arg1, arg2) triples."""
        self.enter(self.vcpu)
        address = BASE + REQUESTS * 4096
        self.cpu.memory.write(address, b"".join(struct.pack("<I4xQQ", *each) for each in operations))
        self.cpu.memory.write(PDONE, bytes(4))
        return self.do(HYPERVISOR_mmuext_op, address, len(operations), pdone, foreigndom)

    def ext(self, command: int, first: int = 0, second: int = 0) -> int:
        """One operation by mmuext_op."""
        return self.exts((command, first, second))

    @property
    def done(self) -> int:
        """What the last batch wrote to its done-count."""
        self.enter(self.vcpu)
        return int.from_bytes(self.cpu.memory.read(PDONE, 4), "little")

    # -- frames ------------------------------------------------------------------------------------------------
    def fill(self, mfn: int, entries: dict[int, int]) -> int:
        """Write a whole frame, as a guest could while it is no table; the frame."""
        words = self.ram.words
        words[mfn << 9 : (mfn + 1) << 9] = memoryview(bytes(4096)).cast("Q")
        for index, value in entries.items():
            words[(mfn << 9) + index] = value
        return mfn

    def table(self, entries: dict[int, int] | None = None) -> int:
        """A spare frame filled so."""
        return self.fill(self.spare.pop(), entries or {})

    def word(self, mfn: int, index: int) -> int:
        """One word of a frame."""
        return self.ram.words[(mfn << 9) + index]

    def unmap(self, pfn: int) -> int:
        """Take a page out of the guest's own mapping; its frame."""
        mfn = self.mfn(self.g, pfn)
        self.set_entry(self.g, pfn, 0)
        return mfn

    def type(self, mfn: int) -> int:
        """What a frame is in use as, NONE if it is not in use."""
        return self.frames.types[mfn] & TYPE_MASK if self.frames.type_counts[mfn] else NONE

    def balanced(self) -> bool:
        """Whether the frame table is right; says what is not."""
        wrong = problems(self.hv)
        assert not wrong, "\n".join(wrong[:12])
        return True


def link(mfn: int, flags: int = LINK) -> int:
    """An entry that names a table of the next lower level."""
    return mfn << 12 | flags


def fixed_up(entry: int) -> int:
    """What an accepted L1 entry reads as: anybody may, and it is global or noted as the kernel's."""
    if not entry & PRESENT:
        return entry
    if not entry & USER:
        return entry | USER | 1 << 52
    return entry if entry >> 52 & 1 else entry | GLOBAL


def page(mfn: int, flags: int = DATA) -> int:
    """An L1 entry: read-only unless RW is in `flags`."""
    return mfn << 12 | flags
