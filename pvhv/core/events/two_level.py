# SPDX-License-Identifier: GPL-2.0-or-later
"""The 2-level ABI: a port's state as bits in shared_info and vcpu_info.

Level one is `evtchn_pending_sel` in vcpu_info, one bit for each word of level two; level two are the words
`evtchn_pending` and `evtchn_mask` in shared_info, one bit for each port. The guest's upcall handler looks at level one
first. The order of the steps is part of the ABI: pending bit, then (if the port is not masked) selector bit, then
`evtchn_upcall_pending`. If a bit is set already, the remaining steps are skipped: they were done when that bit was set.

This file works on words in machine memory and does not know what a port is bound to. pvhv.core.events.ports has what
all ABIs share.

Not modelled: guests that change these words while we do. Guest code stands still while the hypervisor works,
so plain reads and writes stand for Xen's locked ones.

Read beside it: xen/common/event_2l.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvhv.abi.errno import Errno
from pvhv.abi.event_channel import EVTCHN_2L_NR_CHANNELS
from pvhv.abi.xen import SharedInfo, VcpuInfo
from pvhv.core.errors import HypercallError
from pvhv.core.events.ports import Channel

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU

PENDING_WORD = SharedInfo.evtchn_pending.offset // 8
MASK_WORD = SharedInfo.evtchn_mask.offset // 8
SELECTOR = VcpuInfo.evtchn_pending_sel.offset


class TwoLevel:
    """The 2-level ABI for the ports of one domain."""

    max_ports = EVTCHN_2L_NR_CHANNELS

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        ram = domain.hypervisor.ram
        self.words = ram.words
        self.pending = (domain.shared_info << 9) + PENDING_WORD
        self.to_mask = MASK_WORD - PENDING_WORD
        self.mark_events_pending = domain.hypervisor.activity.mark_events_pending
        self.check_pollers = domain.hypervisor.activity.check_pollers

    def set_pending(self, channel: Channel) -> None:
        """Signal the port to the vCPU it notifies."""
        domain, words = self.domain, self.words
        port = channel.port
        at = self.pending + (port >> 6)
        bit = 1 << (port & 63)
        word = words[at]
        if word & bit:
            return
        words[at] = word | bit
        if not words[at + self.to_mask] & bit:
            self.select(domain.vcpus[channel.vcpu_id], port)
        if domain.pollers:
            self.check_pollers(domain, port)

    def select(self, vcpu: VCPU, port: int) -> None:
        """Set the selector bit of a port that is pending and not masked, and mark an upcall pending on `vcpu`."""
        info = vcpu.vcpu_info
        if not info:  # as in mark_events_pending
            return
        at = info + SELECTOR >> 3
        selector = self.words[at]
        bit = 1 << (port >> 6)
        if not selector & bit:
            self.words[at] = selector | bit
            self.mark_events_pending(vcpu)

    def clear_pending(self, channel: Channel) -> None:
        """Clear the pending bit of a port."""
        at = self.pending + (channel.port >> 6)
        self.words[at] &= ~(1 << (channel.port & 63))

    def unmask(self, channel: Channel) -> None:
        """Clear the mask bit; if the port is pending, notify its vCPU."""
        at = self.pending + (channel.port >> 6)
        bit = 1 << (channel.port & 63)
        mask = self.words[at + self.to_mask]
        if mask & bit:
            self.words[at + self.to_mask] = mask & ~bit
            if self.words[at] & bit:
                self.select(self.domain.vcpus[channel.vcpu_id], channel.port)

    def is_pending(self, channel: Channel) -> bool:
        """Whether the pending bit of a port is set."""
        return bool(self.words[self.pending + (channel.port >> 6)] >> (channel.port & 63) & 1)

    def is_masked(self, channel: Channel) -> bool:
        """Whether the mask bit of a port is set."""
        return bool(self.words[self.pending + self.to_mask + (channel.port >> 6)] >> (channel.port & 63) & 1)

    def shown(self, channel: Channel) -> str:
        """The selector bit of the port, 0 or 1, for the debug key."""
        info = self.domain.vcpus[channel.vcpu_id].vcpu_info
        return str(self.words[info + SELECTOR >> 3] >> (channel.port >> 6) & 1 if info else 0)

    def all_pending(self) -> list[int]:
        """Every port whose pending bit is set, in use or not."""
        words = self.words[self.pending : self.pending + EVTCHN_2L_NR_CHANNELS // 64].tolist()
        return [index << 6 | bit for index, word in enumerate(words) if word for bit in range(64) if word >> bit & 1]

    def first_free(self, free: bytearray) -> int:
        """The lowest port that is free; -1 if there is none."""
        return free.find(1)

    def bound(self, channel: Channel) -> None:
        """Does nothing: a port needs no preparation here."""

    def set_priority(self, channel: Channel, priority: int) -> None:
        """Raises HypercallError(ENOSYS): this ABI has no priorities."""
        raise HypercallError(Errno.ENOSYS)

    def release(self) -> None:
        """Does nothing: the bits are in shared_info, which the hypervisor keeps."""
