# SPDX-License-Identifier: GPL-2.0-or-later
"""The FIFO ABI: a port's state as a word in the event array, linked into a queue while an event waits.

Each port has a word in the event array, pages of the guest's: PENDING, MASKED, LINKED, BUSY, and the number of the port
that is next on its queue. Each vCPU has sixteen queues, one for each priority; their heads, and a bit for each that is
`ready`, are in the vCPU's control block, in another page of the guest's. Only the hypervisor knows the tails.

A signal sets PENDING; if the port is neither masked nor on a queue already, it sets LINKED and puts the port behind the
tail of the queue it belongs to now, or at the head of one that is empty. The guest takes ports off at the head. Guest
and hypervisor both write the words. A queue is empty when its tail's word is no longer LINKED. The hypervisor never
follows a link that the guest may have written, so a guest that writes wrong values can only lose its own events.

Invariant: a port is the tail of at most one queue, the one its channel remembers (`queue`), and a tail has a word.

Not modelled: words that change while we look (guest code stands still while the hypervisor works, so that the loops
around Xen's compare-and-exchange end at their first turn); Xen's lines on its console about ports without a control
block or still queued.

Read beside it: xen/common/event_fifo.c, and David Vrabel's "FIFO-based event channel ABI" (draft H).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.abi.errno import Errno
from pvhv.abi.event_channel import (
    EVTCHN_FIFO_BUSY,
    EVTCHN_FIFO_LINK_MASK,
    EVTCHN_FIFO_LINKED,
    EVTCHN_FIFO_MASKED,
    EVTCHN_FIFO_MAX_QUEUES,
    EVTCHN_FIFO_NR_CHANNELS,
    EVTCHN_FIFO_PENDING,
    EVTCHN_FIFO_PRIORITY_DEFAULT,
    EVTCHN_FIFO_PRIORITY_MIN,
    EvtchnFifoControlBlock,
)
from pvhv.core.errors import HypercallError
from pvhv.core.events.ports import Channel, Queue
from pvhv.core.mm.kept_pages import keep_page

if TYPE_CHECKING:
    from pvhv.core.domain import Domain

PENDING, MASKED, LINKED, BUSY = (
    1 << bit for bit in (EVTCHN_FIFO_PENDING, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_BUSY)
)
MASKED_OR_LINKED = MASKED | LINKED
UNLINK = 0xFFFF_FFFF & ~(BUSY | EVTCHN_FIFO_LINK_MASK)
WORDS_PER_PAGE = 1024
PAGE_COST = 10  # of looking through one for a port that is free
MAX_PAGES = EVTCHN_FIFO_NR_CHANNELS // WORDS_PER_PAGE
READY = EvtchnFifoControlBlock.ready.offset // 4
HEADS = EvtchnFifoControlBlock.head.offset // 4
# Of a word's highest byte, whether it says LINKED, as the byte that masks a port out.
NOT_LINKED = bytes(0 if byte & LINKED >> 24 else 1 for byte in range(256))


class ControlBlock:
    """One vCPU's control block; `ready` is the index of its ready word, 0 as long as the guest has given no page."""

    __slots__ = ("mfn", "queues", "ready")

    def __init__(self) -> None:
        self.mfn = 0
        self.ready = 0
        self.queues = [Queue(priority) for priority in range(EVTCHN_FIFO_MAX_QUEUES)]


class Fifo:
    """The FIFO ABI for the ports of one domain. Places in memory are indices of 32-bit words."""

    max_ports = EVTCHN_FIFO_NR_CHANNELS

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        hypervisor = domain.hypervisor
        self.words = hypervisor.ram.bytes.cast("I")
        self.bytes = hypervisor.ram.bytes
        self.pages: list[int] = []  # of the event array: where each begins
        self.blocks = [ControlBlock() for _ in domain.vcpus]
        self.mark_events_pending = hypervisor.activity.mark_events_pending
        self.check_pollers = hypervisor.activity.check_pollers

    # -- pages of the guest's --------------------------------------------------------------------------------
    def map_control_block(self, vcpu_id: int, mfn: int, offset: int) -> None:
        """Put a vCPU's control block at `offset` in a frame. Raises HypercallError(EINVAL), also if it has one."""
        block = self.blocks[vcpu_id]
        if block.ready:
            raise HypercallError(Errno.EINVAL)
        keep_page(self.domain.hypervisor.pagetables, self.domain.domid, mfn)
        at = (mfn << 12) + offset >> 2
        block.mfn, block.ready = mfn, at + READY
        for priority, queue in enumerate(block.queues):
            queue.head = at + HEADS + priority

    def add_page(self, mfn: int) -> range:
        """Add a page to the event array; returns the ports it serves. Raises HypercallError: ENOSPC, EINVAL."""
        if len(self.pages) >= MAX_PAGES:
            raise HypercallError(Errno.ENOSPC)
        keep_page(self.domain.hypervisor.pagetables, self.domain.domid, mfn)
        first = len(self.pages) * WORDS_PER_PAGE
        self.pages.append(mfn << 10)
        return range(first, first + WORDS_PER_PAGE)

    @property
    def kept(self) -> list[int]:
        """The frames held, one entry for each hold."""
        return [at >> 10 for at in self.pages] + [block.mfn for block in self.blocks if block.ready]

    def release(self) -> None:
        """Give back all frames held."""
        kept = self.kept
        self.pages = []
        self.blocks = []
        for mfn in kept:
            self.domain.hypervisor.frames.put_page_and_type(mfn)

    # -- signals ---------------------------------------------------------------------------------------------
    def set_pending(self, channel: Channel) -> None:
        """Signal the port to the vCPU it notifies. Without a control block of that vCPU the signal is lost."""
        port = channel.port
        pages, words = self.pages, self.words
        if port >> 10 >= len(pages):
            channel.pending = True
            return
        block = self.blocks[channel.vcpu_id]
        if not block.ready:
            return
        at = pages[port >> 10] + (port & 1023)
        word = words[at]
        if word & MASKED_OR_LINKED:
            if word & PENDING:
                return
            words[at] = word | PENDING
        else:
            words[at] = word | PENDING | LINKED
            last = channel.queue
            if last is not None and last.tail == port:
                last.tail = 0  # and empty: the word is not LINKED to it any more
            queue = channel.queue = block.queues[channel.priority]
            tail = queue.tail
            queue.tail = port
            if tail and (before := words[at := pages[tail >> 10] + (tail & 1023)]) & LINKED:
                words[at] = before & UNLINK | port
            else:
                words[queue.head] = port
                ready = words[block.ready]
                if not ready & queue.bit:
                    words[block.ready] = ready | queue.bit
                    self.mark_events_pending(self.domain.vcpus[channel.vcpu_id])
            if word & PENDING:
                return
        if self.domain.pollers:
            self.check_pollers(self.domain, port)

    def unmask(self, channel: Channel) -> None:
        """Clear the mask bit; if the port is pending, notify its vCPU."""
        at = self._place(channel.port)
        if at:
            word = self.words[at]
            self.words[at] = word & ~MASKED
            if word & PENDING:
                self.set_pending(channel)

    def clear_pending(self, channel: Channel) -> None:
        """Clear the pending bit. The port stays on its queue until the guest takes it off."""
        at = self._place(channel.port)
        if at:
            self.words[at] &= ~PENDING

    def is_pending(self, channel: Channel) -> bool:
        """Whether the port is pending."""
        at = self._place(channel.port)
        return bool(at and self.words[at] & PENDING)

    def is_masked(self, channel: Channel) -> bool:
        """Whether the port is masked, or has no word yet."""
        at = self._place(channel.port)
        return not at or bool(self.words[at] & MASKED)

    def shown(self, channel: Channel) -> str:
        """For the debug key: B if the word is marked busy, and the next port on the queue, or - if it is on none."""
        at = self._place(channel.port)
        if not at:
            return "?     "
        word = self.words[at]
        busy = "B" if word & BUSY else " "
        return f"{busy} {word & EVTCHN_FIFO_LINK_MASK:<4}" if word & LINKED else f"{busy} -   "

    def _place(self, port: int) -> int:
        """The index of the port's word; 0 if the array does not reach that far yet."""
        return self.pages[port >> 10] + (port & 1023) if port >> 10 < len(self.pages) else 0

    # -- ports -----------------------------------------------------------------------------------------------
    def bound(self, channel: Channel) -> None:
        """Give a port that comes into use the default priority."""
        channel.priority = EVTCHN_FIFO_PRIORITY_DEFAULT

    def set_priority(self, channel: Channel, priority: int) -> None:
        """Choose the queue for future signals. Raises HypercallError(EINVAL) above the largest number."""
        if priority > EVTCHN_FIFO_PRIORITY_MIN:
            raise HypercallError(Errno.EINVAL)
        channel.priority = priority

    def first_free(self, free: bytearray) -> int:
        """The lowest free port whose word is not LINKED; -1 if there is none. A LINKED word is still on a queue.

        A guest may leave, or set, any number of words LINKED. So they are searched a page at a time, and each page is
        charged as work.
        """
        port = free.find(1)
        while port >= 0:
            page = port >> 10
            if page >= len(self.pages):
                return port
            end = page + 1 << 10
            start = self.pages[page] << 2
            linked = bytes(self.bytes[start + 3 : start + 4096 : 4]).translate(NOT_LINKED)
            both = int.from_bytes(free[page << 10 : end], "little") & int.from_bytes(linked, "little")
            if both:
                return (page << 10) + ((both & -both).bit_length() - 1 >> 3)
            self.domain.hypervisor.must_yield(PAGE_COST)
            port = free.find(1, end)
        return -1
