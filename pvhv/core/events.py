# SPDX-License-Identifier: GPL-2.0-or-later
"""Event channels: who may signal whom, by which port.

A port is an entry in its domain's table, in one of a few states; `TRANSITIONS` is the whole machine, and an
operation that has no row there for a port's state is EINVAL. An interdomain channel is a pair of ports, each
naming the other: closing one end leaves the other unbound, offered to the domain that closed, so that it may
bind again. No port ever names a port that does not name it back, and that is what conservation rests on when
a domain dies.

What a signal looks like to the one who gets it is behind `ops` (pvhv.core.event_2l for guests,
pvhv.core.event_handlers for domain 0). Who may ask for what is the hypercall's business (pvhv.core.calls),
but for the rule that one end of a channel must have been offered to the other's domain.

Closing all ports of a domain (`reset`, `destroy`) is not put aside half-way: 4095 closes take a few
milliseconds.

Not modelled: the FIFO ABI; physical interrupts; ports whose consumer is Xen itself (vm_event, ioreq servers).

Read beside it: xen/common/event_channel.c, xen/common/event_channel.h.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pvhv.abi.errno import Errno
from pvhv.abi.event_channel import (
    EVTCHNSTAT_closed,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_ipi,
    EVTCHNSTAT_unbound,
    EVTCHNSTAT_virq,
)
from pvhv.abi.xen import NR_VIRQS, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU
from pvhv.core.errors import HypercallError
from pvhv.core.event_2l import TwoLevel
from pvhv.core.event_handlers import Handlers

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.vcpu import VCPU

FREE, RESERVED, UNBOUND, INTERDOMAIN, VIRQ, IPI = range(6)
STATE_NAMES = ("free", "reserved", "unbound", "interdomain", "virq", "ipi")

# (state, what happens) -> state
TRANSITIONS: dict[tuple[int, str], int] = {
    (FREE, "alloc_unbound"): UNBOUND,
    (FREE, "bind_interdomain"): INTERDOMAIN,
    (UNBOUND, "joined"): INTERDOMAIN,  # the other end was bound to this one
    (FREE, "bind_virq"): VIRQ,
    (FREE, "bind_ipi"): IPI,
    (UNBOUND, "close"): FREE,
    (INTERDOMAIN, "close"): FREE,
    (INTERDOMAIN, "left"): UNBOUND,  # the other end was closed
    (VIRQ, "close"): FREE,
    (IPI, "close"): FREE,
}

STATUS = {
    FREE: EVTCHNSTAT_closed,
    RESERVED: EVTCHNSTAT_closed,
    UNBOUND: EVTCHNSTAT_unbound,
    INTERDOMAIN: EVTCHNSTAT_interdomain,
    VIRQ: EVTCHNSTAT_virq,
    IPI: EVTCHNSTAT_ipi,
}

PER_VCPU_VIRQS = frozenset((VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU))
PORTS_PER_BUCKET = 64  # the table grows by so many; a port in an existing bucket is valid though closed


class Channel:
    """One port. `target` is whom a send signals: the other end, itself for an IPI, else nobody."""

    __slots__ = ("events", "port", "remote_domid", "state", "target", "vcpu_id", "virq")

    def __init__(self, events: EventChannels, port: int) -> None:
        self.events = events
        self.port = port
        self.state = FREE
        self.vcpu_id = 0
        self.target: Channel | None = None
        self.remote_domid = 0  # UNBOUND: whom it is offered to
        self.virq = 0  # VIRQ

    def happen(self, what: str) -> None:
        """Change state as the table says. Raises HypercallError(EINVAL) when it says nothing."""
        state = TRANSITIONS.get((self.state, what))
        if state is None:
            raise HypercallError(Errno.EINVAL)
        self.state = state


class PortOps(Protocol):
    """What an ABI does with a port's pending and mask state."""

    max_ports: int

    def set_pending(self, channel: Channel) -> None: ...
    def clear_pending(self, channel: Channel) -> None: ...
    def unmask(self, channel: Channel) -> None: ...
    def is_pending(self, channel: Channel) -> bool: ...
    def is_masked(self, channel: Channel) -> bool: ...


class Status(NamedTuple):
    """What EVTCHNOP_status tells."""

    status: int
    vcpu_id: int
    domid: int = 0
    port: int = 0
    virq: int = 0


class EventChannels:
    """The ports of one domain."""

    def __init__(self, domain: Domain, max_port: int | None = None) -> None:
        self.domain = domain
        self.handlers = Handlers(domain) if domain.domid == 0 else None
        self.ops: PortOps = self.handlers or TwoLevel(domain)
        self.set_pending = self.ops.set_pending
        self.max_port = 0
        self.limit(max_port)
        self.channels: list[Channel] = []
        self._free: list[int] = []  # a heap of the ports that are free
        self._grow()
        self.channels[heappop(self._free)].state = RESERVED
        self._own_virqs: dict[int, int] = {}  # of a domain without vCPUs

    # -- the table -------------------------------------------------------------------------------------------
    def _grow(self) -> None:
        ports = range(len(self.channels), len(self.channels) + PORTS_PER_BUCKET)
        self.channels += [Channel(self, port) for port in ports]
        self._free += ports  # they are higher than all others: still a heap

    def limit(self, max_port: int | None) -> None:
        """Set the highest port the domain may use (xl's max_event_channels); None is what the ABI has."""
        most = self.ops.max_ports - 1
        self.max_port = most if max_port is None else min(max_port, most)

    def channel(self, port: int) -> Channel:
        """The entry of a port, in use or not. Raises HypercallError(EINVAL) beyond the table."""
        if 0 <= port < len(self.channels):
            return self.channels[port]
        raise HypercallError(Errno.EINVAL)

    def free_port(self) -> Channel:
        """The lowest free port, not taken yet. Raises EINVAL when dying, ENOSPC without one."""
        if self.domain.dying:
            raise HypercallError(Errno.EINVAL)
        if not self._free and len(self.channels) <= self.max_port:
            self._grow()
        if not self._free or self._free[0] > self.max_port:
            raise HypercallError(Errno.ENOSPC)
        return self.channels[self._free[0]]

    def _take(self, channel: Channel, what: str) -> None:
        """Make what `free_port` found a bound port."""
        heappop(self._free)
        channel.happen(what)

    def in_use(self) -> list[Channel]:
        """The ports that are not free, in order."""
        return [channel for channel in self.channels if channel.state > RESERVED]

    # -- bind and close --------------------------------------------------------------------------------------
    def alloc_unbound(self, remote_domid: int) -> int:
        """A port that domain `remote_domid` may bind to."""
        channel = self.free_port()
        self._take(channel, "alloc_unbound")
        channel.remote_domid = remote_domid
        return channel.port

    def bind_interdomain(self, remote: EventChannels, remote_port: int) -> int:
        """A port connected to one that `remote` offers to this domain."""
        channel = self.free_port()
        other = remote.channel(remote_port)
        if other.state != UNBOUND or other.remote_domid != self.domain.domid:
            raise HypercallError(Errno.EINVAL)
        self._take(channel, "bind_interdomain")
        other.happen("joined")
        channel.target, other.target = other, channel
        # What was sent before the ends met got lost; so say that something may have been.
        self.set_pending(channel)
        return channel.port

    def bind_virq(self, virq: int, vcpu_id: int) -> int:
        """A port for a virtual interrupt of vCPU `vcpu_id` (0 for a global one)."""
        if not 0 <= virq < NR_VIRQS or (virq not in PER_VCPU_VIRQS and vcpu_id != 0):
            raise HypercallError(Errno.EINVAL)
        bound = self._virq_ports(vcpu_id)
        if virq in bound:
            raise HypercallError(Errno.EEXIST)
        channel = self.free_port()
        self._take(channel, "bind_virq")
        channel.virq = virq
        channel.vcpu_id = vcpu_id
        bound[virq] = channel.port
        return channel.port

    def bind_ipi(self, vcpu_id: int) -> int:
        """A port by which the domain's vCPUs signal vCPU `vcpu_id`."""
        if self.domain.vcpu(vcpu_id) is None:
            raise HypercallError(Errno.ENOENT)
        channel = self.free_port()
        self._take(channel, "bind_ipi")
        channel.vcpu_id = vcpu_id
        channel.target = channel
        return channel.port

    def bind_vcpu(self, port: int, vcpu_id: int) -> None:
        """Let `port` notify vCPU `vcpu_id`. IPIs and per-vCPU VIRQs are where they are for good."""
        if self.domain.vcpu(vcpu_id) is None:
            raise HypercallError(Errno.ENOENT)
        channel = self.channel(port)
        movable = channel.state in (UNBOUND, INTERDOMAIN) or (
            channel.state == VIRQ and channel.virq not in PER_VCPU_VIRQS
        )
        if not movable:
            raise HypercallError(Errno.EINVAL)
        channel.vcpu_id = vcpu_id

    def close(self, port: int) -> None:
        """Free a port; the other end of a pair becomes unbound, offered to this domain."""
        channel = self.channel(port)
        if (channel.state, "close") not in TRANSITIONS:
            raise HypercallError(Errno.EINVAL)
        self.ops.clear_pending(channel)
        if channel.state == VIRQ:
            del self._virq_ports(channel.vcpu_id if channel.virq in PER_VCPU_VIRQS else 0)[channel.virq]
        elif channel.state == INTERDOMAIN and channel.target is not None:
            other = channel.target
            other.happen("left")
            other.remote_domid = self.domain.domid
            other.target = None
        channel.happen("close")
        channel.target = None
        channel.vcpu_id = 0
        heappush(self._free, port)

    def reset(self) -> None:
        """Close every port."""
        for channel in self.in_use():
            self.close(channel.port)

    def destroy(self) -> None:
        """The domain is dying: close every port; none can be made any more."""
        assert self.domain.dying
        self.reset()

    # -- signals ---------------------------------------------------------------------------------------------
    def send(self, port: int) -> None:
        """Signal the other end of `port`."""
        channels = self.channels
        if not 0 <= port < len(channels):
            raise HypercallError(Errno.EINVAL)
        channel = channels[port]
        target = channel.target
        if target is not None:
            target.events.set_pending(target)
        elif channel.state != UNBOUND:  # nobody hears an unbound one, and that is no error
            raise HypercallError(Errno.EINVAL)

    def unmask(self, port: int) -> None:
        """Clear the port's mask bit, and notify if a signal waited."""
        channel = self.channel(port)
        if channel.state > RESERVED:
            self.ops.unmask(channel)

    def is_pending(self, port: int) -> bool:
        """For SCHEDOP_poll: whether a signal waits. Raises HypercallError(EINVAL) for a closed port."""
        channel = self.channel(port)
        if channel.state <= RESERVED:
            raise HypercallError(Errno.EINVAL)
        return self.ops.is_pending(channel)

    def status(self, port: int) -> Status:
        """What `port` is bound to."""
        channel = self.channel(port)
        status = STATUS[channel.state]
        if channel.state == UNBOUND:
            return Status(status, channel.vcpu_id, domid=channel.remote_domid)
        if channel.state == INTERDOMAIN and channel.target is not None:
            other = channel.target
            return Status(status, channel.vcpu_id, domid=other.events.domain.domid, port=other.port)
        if channel.state == VIRQ:
            return Status(status, channel.vcpu_id, virq=channel.virq)
        return Status(status, channel.vcpu_id)

    def bind_handler(self, port: int, function: Callable[[], None] | None) -> None:
        """Domain 0 only: call `function` at the hypervisor's next safe point after a signal on `port`."""
        assert self.handlers is not None, "a guest's upcalls go to its vCPUs"
        channel = self.channel(port)
        if channel.state <= RESERVED:
            raise HypercallError(Errno.EINVAL)
        self.handlers.bind(channel, function)

    # -- virtual interrupts ----------------------------------------------------------------------------------
    def _virq_ports(self, vcpu_id: int) -> dict[int, int]:
        vcpu = self.domain.vcpu(vcpu_id)
        if vcpu is not None:
            return vcpu.virq_ports
        if vcpu_id == 0 and self.handlers is not None:
            return self._own_virqs
        raise HypercallError(Errno.ENOENT)

    def virq_port(self, virq: int) -> int:
        """The port a global VIRQ is bound to, 0 for none."""
        return self._virq_ports(0).get(virq, 0)


def send_virq(vcpu: VCPU, virq: int) -> None:
    """Raise a per-vCPU virtual interrupt; nothing happens where none is bound. (send_guest_vcpu_virq)"""
    port = vcpu.virq_ports.get(virq)
    if port is not None:
        events = vcpu.domain.events
        events.set_pending(events.channels[port])


def send_guest_global_virq(domain: Domain, virq: int) -> None:
    """Raise a global virtual interrupt of `domain`, on whichever vCPU the guest wants it.

    One that tells of the machine, not of one domain, goes to domain 0 (Xen's send_global_virq).
    """
    port = domain.events.virq_port(virq)
    if port:
        domain.events.set_pending(domain.events.channels[port])
