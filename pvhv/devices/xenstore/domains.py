# SPDX-License-Identifier: GPL-2.0-or-later
"""The domains that were introduced, and domain 0's end of what joins each of them to the store.

Introducing a domain takes its number and a port of its. The page of its ring is the grant that is reserved for it
(GNTTAB_RESERVED_XENSTORE), which the toolstack filled in when it built the domain; the frame number in the message is
not looked at. Domain 0 maps and binds as any domain does, by the same calls and under the same checks.

Read beside it: struct domain, introduce_domain and new_domain in tools/xenstore/xenstored_domain.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pvhv.abi.grant_table import GNTTAB_RESERVED_XENSTORE
from pvhv.core.errors import GrantError, HypercallError
from pvhv.core.grants.view import GrantView
from pvhv.devices.xenstore.permissions import StoreError

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.devices.xenstore.ring import Ring


class Door:
    """The mapped page and the bound port of one domain."""

    def __init__(self, dom0: Domain, domid: int, port: int) -> None:
        """Raises StoreError."""
        self.dom0 = dom0
        self.domid = domid
        self.local_port: int | None = None
        self._handler: Callable[[], None] = lambda: None
        try:
            self.view = GrantView(dom0, domid, GNTTAB_RESERVED_XENSTORE)
        except GrantError:
            raise StoreError("EINVAL") from None
        try:
            self._bind(port)
        except HypercallError as error:
            self.view.release()
            raise StoreError(error.errno.name) from None

    @property
    def page(self) -> memoryview:
        """The ring's page."""
        return self.view.bytes

    def notify(self) -> None:
        """Signal the domain."""
        if self.local_port is not None:
            self.dom0.events.send(self.local_port)

    def opens(self, handler: Callable[[], None]) -> None:
        """What to call when the domain signals."""
        self._handler = handler
        if self.local_port is not None:
            self.dom0.events.bind_handler(self.local_port, handler)

    def rebind(self, port: int) -> None:
        """Use another port of the domain; where that is none, it is not heard until there is one."""
        self._unbind()
        try:
            self._bind(port)
        except HypercallError:
            return
        self.opens(self._handler)

    def _bind(self, port: int) -> None:
        domain = self.dom0.hypervisor.domain_by_id(self.domid)
        if domain is None:
            raise StoreError("ENOENT")
        self.local_port = self.dom0.events.bind_interdomain(domain.events, port)

    def _unbind(self) -> None:
        if self.local_port is not None:
            self.dom0.events.close(self.local_port)
            self.local_port = None

    def close(self) -> None:
        """Let go of the domain."""
        self._unbind()
        self._handler = lambda: None
        self.view.release()


class Known:
    """A domain that was introduced."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.door: Door | None = None
        self.shut_down = False
