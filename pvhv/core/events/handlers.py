# SPDX-License-Identifier: GPL-2.0-or-later
"""How a port's state looks to domain 0, whose kernel is Python: a pending set, and functions to call.

It stands beside pvhv.core.events.two_level with the same operations. A function bound to a port plays the
guest's upcall handler: it is called once for however many signals came since it was called last, never from
inside the hypercall that signalled but at the hypervisor's next safe point. A port without a function is like
one that is masked: the signal waits.

Read beside it: drivers/xen/events/events_base.c in Linux, for what a kernel does with a port.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.abi.errno import Errno
from pvhv.abi.event_channel import EVTCHN_2L_NR_CHANNELS
from pvhv.core.errors import HypercallError
from pvhv.core.events.ports import Channel

Handler = Callable[[], None]


class Handlers:
    """Ports that call Python functions."""

    max_ports = EVTCHN_2L_NR_CHANNELS

    def __init__(self, defer: Callable[[Handler], None]) -> None:
        self.defer = defer  # to the next safe point
        self.pending: set[int] = set()
        self.functions: dict[int, Handler] = {}

    def bind(self, channel: Channel, function: Handler | None) -> None:
        """Call `function` at every signal of the port (None: no more); at once if one waits already."""
        if function is None:
            self.functions.pop(channel.port, None)
            return
        self.functions[channel.port] = function
        self.unmask(channel)

    def set_pending(self, channel: Channel) -> None:
        """Signal the port."""
        if channel.port not in self.pending:
            self.pending.add(channel.port)
            self.unmask(channel)

    def clear_pending(self, channel: Channel) -> None:
        """Forget a signal, and with it whom to call: the port is being freed."""
        self.pending.discard(channel.port)
        self.functions.pop(channel.port, None)

    def unmask(self, channel: Channel) -> None:
        """Have the function called if a signal waits."""
        port = channel.port
        if port in self.pending and port in self.functions:
            self.defer(lambda: self._upcall(port))

    def _upcall(self, port: int) -> None:
        function = self.functions.get(port)
        if function is not None and port in self.pending:
            self.pending.remove(port)
            function()

    def is_pending(self, channel: Channel) -> bool:
        """Whether a signal waits."""
        return channel.port in self.pending

    def is_masked(self, channel: Channel) -> bool:
        """Whether nobody would be called."""
        return channel.port not in self.functions

    def shown(self, channel: Channel) -> str:
        """There is nothing else."""
        return "0"

    def first_free(self, free: bytearray) -> int:
        """Any that is."""
        return free.find(1)

    def bound(self, channel: Channel) -> None:
        """Nothing to prepare."""

    def set_priority(self, channel: Channel, priority: int) -> None:
        """There are none."""
        raise HypercallError(Errno.ENOSYS)

    def release(self) -> None:
        """Nothing is the guest's."""
