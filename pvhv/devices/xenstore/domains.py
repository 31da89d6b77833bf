# SPDX-License-Identifier: GPL-2.0-or-later
"""The domains that were introduced, and each one's way in.

A domain is introduced by its number and one of its ports. The page of its ring is the grant that is reserved for it
(GNTTAB_RESERVED_XENSTORE), which the toolstack filled in when it built the domain; the frame number in the message is
not looked at.

Read beside it: struct domain, introduce_domain and new_domain in tools/xenstore/xenstored_domain.c.
"""

from __future__ import annotations

from typing import Protocol

from pvhv.devices.link import Link
from pvhv.devices.xenstore.connection import Connection


class WayIn(Protocol):
    """What the store needs of a domain's ring (pvhv.devices.xenstore.ring)."""

    domid: int
    connection: Connection

    def pump(self) -> None:
        """Take requests, answer them, send what is queued."""

    def closed(self) -> None:
        """The store has dropped the domain."""

    def reset(self) -> None:
        """Empty the queues, and begin anew."""

    def reconnected(self) -> None:
        """Signal the guest that it is connected again, if it asked for that."""


class Known:
    """A domain that was introduced."""

    def __init__(self, ring: WayIn) -> None:
        self.ring = ring
        self.link: Link | None = None
        self.shut_down = False
