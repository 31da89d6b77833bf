# SPDX-License-Identifier: GPL-2.0-or-later
"""Event channels: the ports of a domain, and the channels between them.

A domain's ports are a table (pvhv.core.events.ports has an entry and its states). An interdomain channel is a pair of
ports, each naming the other: closing one end leaves the other unbound, offered to the domain that closed, so that it
may bind again. So a port never names a port that does not name it back, and when a domain dies, no reference to its
ports remains.

How a signal is shown to the receiver is decided by `ops`, the ABI. A guest begins with the 2-level ABI. Its first
control block changes all its ports and vCPUs to the FIFO ABI; a reset changes them back. Privilege is checked by the
hypercall (pvhv.core.calls), except for one rule: a domain can bind only to a port that was offered to it.

Not modelled: physical interrupts; ports whose consumer is Xen itself (vm_event, ioreq servers).

Read beside it: xen/common/event_channel.c, xen/common/event_channel.h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

from pvhv.abi.errno import Errno
from pvhv.abi.event_channel import EVTCHN_2L_NR_CHANNELS, EVTCHN_FIFO_PRIORITY_DEFAULT
from pvhv.abi.xen import NR_VIRQS, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU
from pvhv.core.errors import HypercallError
from pvhv.core.events.ports import (
    INTERDOMAIN,
    RESERVED,
    STATUS,
    TRANSITIONS,
    UNBOUND,
    VIRQ,
    Channel,
    FifoOps,
    HandlerOps,
    PortOps,
    Status,
    TwoLevelOps,
)

PER_VCPU_VIRQS = frozenset((VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU))
PORTS_PER_BUCKET = 64  # the table grows by so many; a port in an existing bucket is valid though closed
CLOSE_COST = 2


class Notified(Protocol):
    """The part of a vCPU that is used here (core/vcpu.py): the port each of its VIRQs is bound to."""

    virq_ports: dict[int, int]


class Owner(Protocol):
    """The part of a domain that is used here (core/domain.py)."""

    domid: int
    dying: bool

    def vcpu(self, vcpu_id: int) -> Notified | None: ...


class EventChannels:
    """The ports of one domain, and the ABIs it may use (abis.py)."""

    WRAPPABLE: ClassVar = frozenset({"set_pending"})

    def __init__(
        self,
        domain: Owner,
        two_level: TwoLevelOps,
        make_fifo: Callable[[], FifoOps],
        handlers: HandlerOps | None,
        must_yield: Callable[[int], bool],
    ) -> None:
        self.domain = domain
        self.domid = domain.domid
        self.handlers = handlers  # domain 0's
        self.two_level = two_level
        self.make_fifo = make_fifo
        self.fifo: FifoOps | None = None  # once the guest asked for it
        self.ops: PortOps = handlers or two_level
        self.must_yield = must_yield
        self._configured: int | None = None
        self.channels: list[Channel] = []
        self._free = bytearray()  # 1 for each port that is free
        self._grow()
        self.channels[0].state = RESERVED
        self._free[0] = 0
        self.active = 0  # ports in use
        self.next_to_reset = 0  # where a reset that was put aside goes on; 0 when none is under way
        self._own_virqs: dict[int, int] = {}  # of a domain without vCPUs

    # -- the table -------------------------------------------------------------------------------------------
    def _grow(self) -> None:
        ports = range(len(self.channels), len(self.channels) + PORTS_PER_BUCKET)
        self.channels += [Channel(self, port) for port in ports]
        self._free += bytes([1]) * PORTS_PER_BUCKET

    def limit(self, max_port: int | None) -> None:
        """Set the highest port the domain may use (xl's max_event_channels); None is what the ABI has."""
        self._configured = max_port

    @property
    def max_port(self) -> int:
        """The highest port it may use now."""
        most = self.ops.max_ports - 1
        return most if self._configured is None else min(self._configured, most)

    def channel(self, port: int) -> Channel:
        """The entry of a port, in use or not. Raises HypercallError(EINVAL) beyond the table."""
        if 0 <= port < len(self.channels):
            return self.channels[port]
        raise HypercallError(Errno.EINVAL)

    def free_port(self) -> Channel:
        """The lowest free port, not taken yet. Raises EINVAL when dying, ENOSPC without one."""
        if self.domain.dying:
            raise HypercallError(Errno.EINVAL)
        port = self.ops.first_free(self._free)
        if port < 0:
            port = len(self.channels)
        if port > self.max_port:
            raise HypercallError(Errno.ENOSPC)
        if port == len(self.channels):
            self._grow()
        return self.channels[port]

    def _take(self, channel: Channel, what: str) -> None:
        """Bring the port that `free_port` found into use."""
        channel.transition(what)
        self._free[channel.port] = 0
        self.active += 1
        self.ops.bound(channel)

    def in_use(self) -> list[Channel]:
        """The ports that are not free, in order."""
        return [channel for channel in self.channels if channel.state > RESERVED]

    # -- the ABI ---------------------------------------------------------------------------------------------
    def init_control(self, vcpu_id: int, mfn: int, offset: int) -> None:
        """Give a vCPU its control block; the first one changes over to the FIFO ABI. Raises HypercallError(EINVAL).

        An event that is pending then is signalled again when the guest gives the page with the port's word.
        """
        if self.fifo is not None:
            self.fifo.map_control_block(vcpu_id, mfn, offset)
            return
        fifo = self.make_fifo()
        fifo.map_control_block(vcpu_id, mfn, offset)
        self.ops = self.fifo = fifo
        known = self.channels[:EVTCHN_2L_NR_CHANNELS]
        for channel in known:
            channel.priority = EVTCHN_FIFO_PRIORITY_DEFAULT
        for port in self.two_level.all_pending():
            if 0 < port < len(known):
                known[port].pending = True

    def expand_array(self, mfn: int) -> None:
        """Add a page of event words. Raises HypercallError: EOPNOTSUPP in the 2-level ABI, ENOSPC, EINVAL."""
        if self.fifo is None:
            raise HypercallError(Errno.EOPNOTSUPP)
        ports = self.fifo.add_page(mfn)
        for channel in self.channels[ports.start : ports.stop]:
            if channel.pending:  # for good: as in Xen it is told again after another change of ABI, be it bound or not
                self.fifo.set_pending(channel)

    def set_priority(self, port: int, priority: int) -> None:
        """Set a port's priority. Raises HypercallError: EINVAL, ENOSYS (2-level ABI), EACCES (the port is closed)."""
        channel = self.channel(port)
        if self.fifo is not None and channel.state <= RESERVED:
            raise HypercallError(Errno.EACCES)
        self.ops.set_priority(channel, priority)

    def _leave_fifo(self) -> None:
        """Go back to the 2-level ABI; the pages the guest gave are released."""
        if self.fifo is not None:
            fifo, self.fifo = self.fifo, None
            self.ops = self.two_level
            fifo.release()

    # -- bind and close --------------------------------------------------------------------------------------
    def alloc_unbound(self, remote_domid: int) -> int:
        """Make a port that domain `remote_domid` may bind to; returns its number."""
        channel = self.free_port()
        self._take(channel, "alloc_unbound")
        channel.remote_domid = remote_domid
        return channel.port

    def bind_interdomain(self, remote: EventChannels, remote_port: int) -> int:
        """Make a port connected to the one that `remote` offers to this domain; returns its number."""
        channel = self.free_port()
        other = remote.channel(remote_port)
        if other.state != UNBOUND or other.remote_domid != self.domain.domid:
            raise HypercallError(Errno.EINVAL)
        self._take(channel, "bind_interdomain")
        other.transition("joined")
        channel.target, other.target = other, channel
        # What was sent before the ends met got lost; so say that something may have been.
        self.set_pending(channel)
        return channel.port

    def bind_virq(self, virq: int, vcpu_id: int) -> int:
        """Make a port for a virtual interrupt of vCPU `vcpu_id` (0 for a global one); returns its number."""
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
        """Make a port by which the domain's vCPUs signal vCPU `vcpu_id`; returns its number."""
        if self.domain.vcpu(vcpu_id) is None:
            raise HypercallError(Errno.ENOENT)
        channel = self.free_port()
        self._take(channel, "bind_ipi")
        channel.vcpu_id = vcpu_id
        channel.target = channel
        return channel.port

    def bind_vcpu(self, port: int, vcpu_id: int) -> None:
        """Let `port` notify vCPU `vcpu_id`. An IPI or per-vCPU VIRQ cannot be moved: EINVAL."""
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
            other.transition("left")
            other.remote_domid = self.domain.domid
            other.target = None
        channel.transition("close")
        channel.target = None
        channel.vcpu_id = 0
        self._free[port] = 1
        self.active -= 1

    def reset(self, resuming: bool = False) -> bool:
        """Close every port, a share of work at a time, and go back to the 2-level ABI; True when it is done.

        Raises HypercallError: EBUSY when a reset is under way already, or there is none to resume; EAGAIN when a port
        that was closed already has been bound again meanwhile.
        """
        if bool(self.next_to_reset) is not resuming:
            raise HypercallError(Errno.EBUSY)
        self.next_to_reset = self._close_from(self.next_to_reset or 1)
        if self.next_to_reset:
            return False
        if self.active:
            raise HypercallError(Errno.EAGAIN)
        self._leave_fifo()
        return True

    def destroy(self) -> Iterator[None]:
        """The domain is dying and can make no new port: close every port, step by step."""
        assert self.domain.dying
        port = 1
        while port := self._close_from(port):
            yield
        self._leave_fifo()

    def fall_apart(self) -> None:
        """Drop all references to other objects; the table cannot be used afterwards."""
        self.channels.clear()
        del self.ops, self.two_level, self.fifo, self.make_fifo

    def _close_from(self, first: int) -> int:
        """Close ports from `first` on. Returns 0 when none is left, or the last one when a share of work is used up."""
        must_yield = self.must_yield
        for port in range(first, len(self.channels)):
            if not self.active:
                break
            if self.channels[port].state > RESERVED:
                self.close(port)
            if not port & 63 and must_yield(CLOSE_COST * 64) and port > first:
                return port
        must_yield(CLOSE_COST * 64)
        return 0

    # -- signals ---------------------------------------------------------------------------------------------
    def set_pending(self, channel: Channel) -> None:
        """Signal a port of this domain. All signals pass here, so that an observer can wrap this method."""
        self.ops.set_pending(channel)

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
            return Status(status, channel.vcpu_id, domid=other.events.domid, port=other.port)
        if channel.state == VIRQ:
            return Status(status, channel.vcpu_id, virq=channel.virq)
        return Status(status, channel.vcpu_id)

    def bind_handler(
        self, port: int, function: Callable[[], None] | None, at_once: Callable[[], bool] | None = None
    ) -> None:
        """Domain 0 only: call `function` at the hypervisor's next safe point after a signal on `port`.
        `at_once()` is called before, inside the hypercall, and returns whether nothing is left to do."""
        assert self.handlers is not None, "a guest's upcalls go to its vCPUs"
        channel = self.channel(port)
        if channel.state <= RESERVED:
            raise HypercallError(Errno.EINVAL)
        self.handlers.bind(channel, function, at_once)

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
