# SPDX-License-Identifier: GPL-2.0-or-later
"""XENMEM_exchange: as many new frames as frames are given back, in extents of another size.

It works in chunks: the smallest number of extents on both sides that comes to the same number of frames. A whole chunk
is checked before any of it changes. So when the call stops, `nr_exchanged` tells the guest which frames it still has. A
frame that is given back must have no reference but the domain's own.

Read beside it: memory_exchange in xen/common/memory.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pvhv.abi import memory as abi
from pvhv.abi.errno import Errno
from pvhv.abi.memory import XENMEM
from pvhv.core.calls.memory import EXTENT_COST, find, load, max_order, node_acceptable, not_continued
from pvhv.core.errors import GuestFault, HypercallError
from pvhv.core.mm.reservation import can_change_hands, give_back, name, take
from pvhv.core.privilege import require_control
from pvhv.core.traps.dispatch import Continue, handles
from pvhv.machine.x86 import MASK64

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU


class Exchange:
    """A call under way: the reservation `given`, the reservation `gained`, and the size of chunks."""

    def __init__(self, vcpu: VCPU, op: Any) -> None:
        self.memory = vcpu.memory
        self.given = getattr(op, "in")
        self.gained = op.out
        difference = self.given.extent_order - self.gained.extent_order
        self.given_shift = max(-difference, 0)  # extents given per chunk, as a power of two
        self.gained_shift = max(difference, 0)
        self.next = op.nr_exchanged >> self.given_shift
        self.end = self.given.nr_extents >> self.given_shift

    def lists_accessible(self, done: int) -> bool:
        """Whether the rest of both lists is outside the hypervisor's range."""
        gained_done = done >> self.given_shift if self.given_shift else done << self.gained_shift
        return all(
            self.memory.accessible(extents.extent_start + first * 8 & MASK64, (extents.nr_extents - first) * 8)
            for extents, first in ((self.given, done), (self.gained, gained_done))
        )

    def chunk(self, domain: Domain) -> None:
        """Exchange one chunk. Raises HypercallError or GuestFault."""
        frames = domain.hypervisor.frames
        leaving = self._leaving(domain)
        bits = abi.XENMEMF_get_address_bits(self.gained.mem_flags)
        coming: list[int] = []
        while len(coming) < 1 << self.gained_shift:
            mfn = take(domain, self.gained.extent_order, bits)
            if mfn is None:
                for taken in coming:
                    give_back(domain, taken, self.gained.extent_order)
                raise HypercallError(Errno.ENOMEM)
            coming.append(mfn)
        for mfn in leaving:
            frames.release_allocation(mfn)
        domain.tot_pages += len(leaving)
        self._tell(domain, coming)

    def _leaving(self, domain: Domain) -> list[int]:
        """The frames that the domain gives in this chunk. Raises HypercallError(EINVAL) if one cannot change hands."""
        leaving: list[int] = []
        for index in range(1 << self.given_shift):
            at = self.given.extent_start + ((self.next << self.given_shift) + index) * 8
            first = self.memory.read_words(at, 1)[0]
            leaving += range(first, first + (1 << self.given.extent_order))
        if len(set(leaving)) != len(leaving) or not all(can_change_hands(domain, mfn) for mfn in leaving):
            raise HypercallError(Errno.EINVAL)
        return leaving

    def _tell(self, domain: Domain, coming: list[int]) -> None:
        """Record the pfns of the new frames, from the guest's list, and overwrite the list with their mfns."""
        failure: GuestFault | None = None
        for index, mfn in enumerate(coming):
            at = self.gained.extent_start + ((self.next << self.gained_shift) + index) * 8
            try:
                name(domain, mfn, self.memory.read_words(at, 1)[0], self.gained.extent_order)
                self.memory.write(at, mfn.to_bytes(8, "little"))
            except GuestFault as fault:
                failure = fault
        if failure is not None:
            raise failure


@handles(XENMEM.exchange)
def exchange(vcpu: VCPU, arg: int, place: int) -> int:
    not_continued(place)
    op = load(vcpu, abi.XenMemoryExchange, arg)
    answer_at = arg + abi.XenMemoryExchange.nr_exchanged.offset
    answer = None
    try:
        answer = attempt(vcpu, arg, op)
    finally:
        if answer is None:  # done or failed: either way the guest is told how far it came
            vcpu.memory.write(answer_at, op.nr_exchanged.to_bytes(8, "little"))
    return answer or 0


def attempt(vcpu: VCPU, arg: int, op: Any) -> int | None:
    """Check, then exchange chunk by chunk; `op.nr_exchanged` follows. 0 when there was nothing left to do."""
    given, gained = getattr(op, "in"), op.out
    if max(given.extent_order, gained.extent_order) > max_order(vcpu):
        raise HypercallError(Errno.EPERM)
    if (
        op.nr_exchanged > given.nr_extents
        or given.domid != gained.domid
        or MASK64 >> given.extent_order < given.nr_extents
        or MASK64 >> gained.extent_order < gained.nr_extents
        or given.nr_extents << given.extent_order != gained.nr_extents << gained.extent_order
    ):
        raise HypercallError(Errno.EINVAL)
    if op.nr_exchanged == given.nr_extents:
        return 0
    exchanging = Exchange(vcpu, op)
    if not exchanging.lists_accessible(op.nr_exchanged):
        raise GuestFault(given.extent_start)
    if not node_acceptable(vcpu, gained.mem_flags):
        raise HypercallError(Errno.EINVAL)
    domain = find(vcpu, given.domid)
    require_control(vcpu.domain, domain)
    first = exchanging.next
    op.nr_exchanged = first << exchanging.given_shift
    cost = EXTENT_COST << max(given.extent_order, gained.extent_order)
    while exchanging.next < exchanging.end:
        if domain.hypervisor.must_yield(cost) and exchanging.next > first:
            raise Continue(abi.XENMEM_exchange, arg)
        exchanging.chunk(domain)
        exchanging.next += 1
        op.nr_exchanged = exchanging.next << exchanging.given_shift
    op.nr_exchanged = given.nr_extents
    return None
