# SPDX-License-Identifier: GPL-2.0-or-later
"""The ports of domain 0, whose kernel is Python: a set of pending ports, and functions to call.

It has the same operations as pvhv.core.events.two_level. A function bound to a port takes the place of a guest's upcall
handler. It is called once, however many signals came since the last call. The call is not made inside the hypercall
that signals but at the hypervisor's next safe point. A port without a function is treated as masked: the signal waits.
A port may have a second function, which is called inside the hypercall, for the little that is worth it and safe there:
then the guest need not be stopped for the rest.

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

    def __init__(self, defer: Callable[[Handler], None], patiently: Callable[[Handler], None]) -> None:
        self.defer = defer  # to the next safe point
        self.patiently = patiently  # to the next one that comes anyway, or to one that comes soon
        self.at_once: dict[int, Callable[[], bool]] = {}  # by port: called inside the hypercall
        self.pending: set[int] = set()
        self.functions: dict[int, Handler] = {}

    def bind(self, channel: Channel, function: Handler | None, at_once: Callable[[], bool] | None = None) -> None:
        """Call `function` for signals of the port (None: stop that). If a signal waits already, the call is soon.
        `at_once()` is called first, inside the hypercall. If it is True, nothing is left for `function`; if it is
        False, the guest goes on for a moment before the rest is done (Scheduler.defer_patiently)."""
        if function is None:
            self.functions.pop(channel.port, None)
            self.at_once.pop(channel.port, None)
            return
        self.functions[channel.port] = function
        if at_once is not None:
            self.at_once[channel.port] = at_once
        self.unmask(channel)

    def set_pending(self, channel: Channel) -> None:
        """Signal the port."""
        if channel.port not in self.pending:
            self.pending.add(channel.port)
            self.unmask(channel)

    def clear_pending(self, channel: Channel) -> None:
        """Forget a waiting signal and the port's function: the port is being freed."""
        self.pending.discard(channel.port)
        self.functions.pop(channel.port, None)
        self.at_once.pop(channel.port, None)

    def unmask(self, channel: Channel) -> None:
        """If a signal waits, have the function called."""
        port = channel.port
        if port in self.pending and port in self.functions:
            at_once = self.at_once.get(port)
            if at_once is None:
                self.defer(lambda: self._upcall(port))
            elif at_once():
                self.pending.discard(port)
            else:
                self.patiently(lambda: self._upcall(port))

    def _upcall(self, port: int) -> None:
        function = self.functions.get(port)
        if function is not None and port in self.pending:
            self.pending.remove(port)
            function()

    def is_pending(self, channel: Channel) -> bool:
        """Whether the port is pending."""
        return channel.port in self.pending

    def is_masked(self, channel: Channel) -> bool:
        """Whether the port has no function."""
        return channel.port not in self.functions

    def shown(self, channel: Channel) -> str:
        """A constant, for the debug key: a port has no further state."""
        return "0"

    def first_free(self, free: bytearray) -> int:
        """The lowest port that is free; -1 if there is none."""
        return free.find(1)

    def bound(self, channel: Channel) -> None:
        """Does nothing: a port needs no preparation here."""

    def set_priority(self, channel: Channel, priority: int) -> None:
        """Raises HypercallError(ENOSYS): domain 0 has no priorities."""
        raise HypercallError(Errno.ENOSYS)

    def release(self) -> None:
        """Does nothing: no memory is held."""
