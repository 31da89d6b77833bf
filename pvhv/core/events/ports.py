# SPDX-License-Identifier: GPL-2.0-or-later
"""A port: an entry in its domain's table, in one of a few states; and what an ABI does with it.

`TRANSITIONS` is the whole state machine. An operation without a row there for the port's state fails with EINVAL.

Each ABI shows a signal to the receiver in its own way: as a bit in shared_info (two_level.py), as a word on a queue
(fifo.py), or for domain 0 as a function call (handlers.py). `PortOps` has the operations of all three, by which
channels.py uses them. No ABI knows what a port is bound to.

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
    """A queue of the FIFO ABI: one priority of one vCPU. `head` is the index of its head in memory; `tail` is the port
    put on it last (0: none)."""

    __slots__ = ("bit", "head", "tail")

    def __init__(self, priority: int) -> None:
        self.bit = 1 << priority  # in `ready`
        self.head = 0
        self.tail = 0


class PortTable(Protocol):
    """The part of a domain's table of ports that a port uses (channels.py)."""

    domid: int

    def set_pending(self, channel: Channel) -> None: ...


class Channel:
    """One port. `target` is the port that a send signals: the other end; for an IPI, itself; else None.

    `priority`, `queue` and `pending` are for the FIFO ABI: `queue` is the queue it was put on last; `pending` keeps a
    signal as long as the guest has given no page for the port's word.
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
        """Change state by TRANSITIONS. Raises HypercallError(EINVAL) when the operation has no row for this state."""
        state = TRANSITIONS.get((self.state, what))
        if state is None:
            raise HypercallError(Errno.EINVAL)
        self.state = state


class PortOps(Protocol):
    """The operations of an ABI on ports."""

    max_ports: int

    def bound(self, channel: Channel) -> None:
        """Prepare a port that comes into use. (evtchn_port_init)"""

    def set_pending(self, channel: Channel) -> None: ...
    def clear_pending(self, channel: Channel) -> None: ...
    def unmask(self, channel: Channel) -> None: ...
    def is_pending(self, channel: Channel) -> bool: ...
    def is_masked(self, channel: Channel) -> bool: ...

    def shown(self, channel: Channel) -> str:
        """The port's state beyond pending and masked, as text for Xen's debug key. (print_state)"""

    def first_free(self, free: bytearray) -> int:
        """The lowest port with a 1 in `free` that may be used again; -1 if there is none. (is_busy)"""

    def set_priority(self, channel: Channel, priority: int) -> None:
        """Choose the priority of future signals. Raises HypercallError: ENOSYS if the ABI has none, EINVAL."""

    def release(self) -> None:
        """Give back all of the guest's memory that the ABI holds."""


class TwoLevelOps(PortOps, Protocol):
    """The operations of the 2-level ABI, with which a guest begins (two_level.py)."""

    def all_pending(self) -> list[int]: ...


class FifoOps(PortOps, Protocol):
    """The operations of the FIFO ABI, to which a guest may change (fifo.py)."""

    @property
    def kept(self) -> Sequence[int]: ...
    def map_control_block(self, vcpu_id: int, mfn: int, offset: int) -> None: ...
    def add_page(self, mfn: int) -> range: ...


class HandlerOps(PortOps, Protocol):
    """The operations on domain 0's ports (handlers.py)."""

    def bind(
        self, channel: Channel, function: Callable[[], None] | None, at_once: Callable[[], bool] | None = None
    ) -> None: ...


class Status(NamedTuple):
    """The answer of EVTCHNOP_status."""

    status: int
    vcpu_id: int
    domid: int = 0
    port: int = 0
    virq: int = 0
