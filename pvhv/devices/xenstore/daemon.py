# SPDX-License-Identifier: GPL-2.0-or-later
"""The store of a whole machine: domains are introduced by number, and no domain waits for another's long request.

Read beside it: introduce_domain in tools/xenstore/xenstored_domain.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from pvhv.abi.grant_table import GNTTAB_RESERVED_XENSTORE
from pvhv.core.domain import Domain
from pvhv.core.errors import GrantError, HypercallError
from pvhv.devices.link import Link
from pvhv.devices.xenstore.permissions import StoreError
from pvhv.devices.xenstore.ring import Ring
from pvhv.devices.xenstore.store import Store


class Xenstore(Store):
    """The store. `dom0` is the domain that maps the rings and binds the ports."""

    def __init__(self, dom0: Domain, log: Callable[[str], None] = lambda line: None) -> None:
        super().__init__(log)
        self.dom0 = dom0

    def exists(self, domid: int) -> bool:
        """Whether there is such a domain, introduced or not."""
        return domid == 0 or self.dom0.hypervisor.domain_by_id(domid) is not None

    def introduce(self, domid: int, port: int) -> None:
        """Introduce a domain: it may ask, by the page it grants and its port `port`. May be called again with another
        port.

        Raises StoreError."""
        known = self.domains.get(domid)
        if known is None:
            self._first(domid, port)
        elif known.link is not None:
            if not self.exists(domid):
                raise StoreError("ENOENT")
            with suppress(HypercallError):
                known.link.rebind(port)
        super().introduce(domid, port)

    def _first(self, domid: int, port: int) -> None:
        if domid == 0:  # it has no ring here
            raise StoreError("EINVAL")
        try:
            link = Link(self.dom0, domid, [GNTTAB_RESERVED_XENSTORE], port)
        except GrantError:
            raise StoreError("EINVAL") from None
        except HypercallError as error:
            raise StoreError(error.errno.name) from None
        ring = Ring(self, domid, link.page, link.notify)
        link.on_signal(ring.pump)
        self.domains[domid].link = link

    def run(self, work: Iterator[int], domid: int | None = None) -> None:
        """Do work in pieces, as an errand of the scheduler, so that no guest waits; `domid` is the domain it is done
        for."""
        hypervisor = self.dom0.hypervisor
        domain = None if domid is None else hypervisor.domain_by_id(domid)
        hypervisor.scheduler.errand(work, domain)
