# SPDX-License-Identifier: GPL-2.0-or-later
"""Domain 0's end of the link between a backend and one guest's front end: granted pages, mapped, and a port, bound.

Domain 0 maps and binds as any domain does, by the same calls and under the same checks. So a page stays the guest's
while it is mapped here, a port that was not offered to domain 0 is refused, and whatever the guest does
meanwhile, `pages` give access to the guest's own bytes only.

Not modelled: pages that follow each other in memory, as Linux maps those of one ring. Each is a memoryview of its own,
and who uses several has to look where one ends.

Read beside it: xenbus_map_ring_valloc and bind_interdomain_evtchn_to_irq in Linux, with which a backend there begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pvhv.abi.errno import Errno
from pvhv.core.domain import Domain
from pvhv.core.errors import GrantError, HypercallError
from pvhv.core.grants.view import GrantView


class Link:
    """The pages that `refs` grant and the port that `port` offers, of domain `domid`."""

    def __init__(self, dom0: Domain, domid: int, refs: Sequence[int], port: int) -> None:
        """Map the pages and bind the port. Raises GrantError or HypercallError, and then nothing is mapped or bound."""
        self.dom0 = dom0
        self.domid = domid
        self.local_port: int | None = None
        self._handler: Callable[[], None] = lambda: None
        self._at_once: Callable[[], bool] | None = None
        self._views: list[GrantView] = []
        try:
            for ref in refs:
                self._views.append(GrantView(dom0, domid, ref))
            self._bind(port)
        except (GrantError, HypercallError):
            self._unmap()
            raise

    @property
    def page(self) -> memoryview:
        """The first mapped page, until `close`."""
        return self._views[0].bytes

    @property
    def pages(self) -> list[memoryview]:
        """All mapped pages, until `close`."""
        return [view.bytes for view in self._views]

    def notify(self) -> None:
        """Signal the guest."""
        if self.local_port is not None:
            self.dom0.events.send(self.local_port)

    def on_signal(self, handler: Callable[[], None], at_once: Callable[[], bool] | None = None) -> None:
        """Have `handler()` called when the guest signals. `at_once()` is called before, inside the guest's hypercall:
        if it returns True, nothing is left for the handler."""
        self._handler, self._at_once = handler, at_once
        if self.local_port is not None:
            self.dom0.events.bind_handler(self.local_port, handler, at_once)

    def rebind(self, port: int) -> None:
        """Use another port of the guest's. Raises HypercallError; then there is no port, and no signal arrives, until
        the next `rebind`."""
        self._unbind()
        self._bind(port)
        self.on_signal(self._handler, self._at_once)

    def _bind(self, port: int) -> None:
        domain = self.dom0.hypervisor.domain_by_id(self.domid)
        if domain is None:
            raise HypercallError(Errno.ENOENT)
        self.local_port = self.dom0.events.bind_interdomain(domain.events, port)

    def _unbind(self) -> None:
        if self.local_port is not None:
            self.dom0.events.close(self.local_port)
            self.local_port = None

    def _unmap(self) -> None:
        for view in self._views:
            view.release()

    def close(self) -> None:
        """Unbind the port and unmap the pages. May be called again."""
        self._unbind()
        self._handler = lambda: None
        self._unmap()
