# SPDX-License-Identifier: GPL-2.0-or-later
"""A port: an entry in its domain's table, in one of a few states; and what an ABI does with it.

`TRANSITIONS` is the whole machine of the states, and an operation that has no row there for a port's state is EINVAL.

How a signal looks to the one who gets it is an ABI's own: a bit among the bits of shared_info (two_level.py), a word on
a queue (fifo.py), or for domain 0 a function to call (handlers.py). `PortOps` is all that the three have in common, and
all that channels.py asks of them; none knows what a port is bound to.

Read beside it: struct evtchn in xen/include/xen/sched.h, struct evtchn_port_ops in xen/include/xen/event.h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from pvhv.abi.errno import Errno
from pvhv.abi.event_channel import (
    EVTCHNSTAT_closed,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_ipi,
    EVTCHNSTAT_unbound,
    EVTCHNSTAT_virq,
)
from pvhv.core.errors import HypercallError

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


class Queue:
    """In the FIFO ABI, one priority of one vCPU. `head` is where its head is in memory, `tail` the port put on it last
    (0: none)."""

    __slots__ = ("bit", "head", "tail")

    def __init__(self, priority: int) -> None:
        self.bit = 1 << priority  # in `ready`
        self.head = 0
        self.tail = 0


class PortTable(Protocol):
    """What a port knows of the table it stands in (channels.py)."""

    domid: int

    def set_pending(self, channel: Channel) -> None: ...


class Channel:
    """One port. `target` is whom a send signals: the other end, itself for an IPI, else nobody.

    The last three are the FIFO ABI's: `queue` is the one it was put on last, and a signal is `pending` here as long as
    the guest has given no page for the port's word.
    """

    __slots__ = ("events", "pending", "port", "priority", "queue", "remote_domid", "state", "target", "vcpu_id", "virq")

    def __init__(self, events: PortTable, port: int) -> None:
        self.events = events
        self.port = port
        self.state = FREE
        self.vcpu_id = 0
        self.target: Channel | None = None
        self.remote_domid = 0  # UNBOUND: whom it is offered to
        self.virq = 0  # VIRQ
        self.priority = 0
        self.queue: Queue | None = None
        self.pending = False

    def transition(self, what: str) -> None:
        """Change state as the table says. Raises HypercallError(EINVAL) when it says nothing."""
        state = TRANSITIONS.get((self.state, what))
        if state is None:
            raise HypercallError(Errno.EINVAL)
        self.state = state


class PortOps(Protocol):
    """What an ABI does with ports."""

    max_ports: int

    def bound(self, channel: Channel) -> None:
        """A free port came into use. (evtchn_port_init)"""

    def set_pending(self, channel: Channel) -> None: ...
    def clear_pending(self, channel: Channel) -> None: ...
    def unmask(self, channel: Channel) -> None: ...
    def is_pending(self, channel: Channel) -> bool: ...
    def is_masked(self, channel: Channel) -> bool: ...

    def shown(self, channel: Channel) -> str:
        """How it stands with the port beyond pending and masked, as Xen's debug key shows it. (print_state)"""

    def first_free(self, free: bytearray) -> int:
        """The lowest port `free` has a 1 for and that may be given out again; -1 for none. (is_busy)"""

    def set_priority(self, channel: Channel, priority: int) -> None:
        """Raises HypercallError(ENOSYS) where there are no priorities."""

    def release(self) -> None:
        """The ABI is left: give back what it has of the guest's memory."""


class TwoLevelOps(PortOps, Protocol):
    """The ABI a guest begins with, and may leave (two_level.py)."""

    def all_pending(self) -> list[int]: ...


class FifoOps(PortOps, Protocol):
    """The ABI it may go over to (fifo.py)."""

    @property
    def kept(self) -> Sequence[int]: ...
    def map_control_block(self, vcpu_id: int, mfn: int, offset: int) -> None: ...
    def add_page(self, mfn: int) -> range: ...


class HandlerOps(PortOps, Protocol):
    """What domain 0 has instead (handlers.py)."""

    def bind(self, channel: Channel, function: Callable[[], None] | None) -> None: ...


class Status(NamedTuple):
    """What EVTCHNOP_status tells."""

    status: int
    vcpu_id: int
    domid: int = 0
    port: int = 0
    virq: int = 0
