# SPDX-License-Identifier: GPL-2.0-or-later
"""The domains that were introduced, and each one's way in.

Introducing a domain takes its number and a port of its. The page of its ring is the grant that is reserved for it
(GNTTAB_RESERVED_XENSTORE), which the toolstack filled in when it built the domain; the frame number in the message is
not looked at.

Read beside it: struct domain, introduce_domain and new_domain in tools/xenstore/xenstored_domain.c.
"""

from __future__ import annotations

from typing import Protocol

from pvhv.devices.link import Link
from pvhv.devices.xenstore.connection import Connection


class WayIn(Protocol):
    """What the store asks of a domain's ring (pvhv.devices.xenstore.ring)."""

    domid: int
    connection: Connection

    def pump(self) -> None:
        """Take requests, answer them, send what is queued."""

    def closed(self) -> None:
        """The store let go of the domain."""

    def reset(self) -> None:
        """Begin anew."""

    def reconnected(self) -> None:
        """Let the guest know, if it waits for that."""


class Known:
    """A domain that was introduced."""

    def __init__(self, ring: WayIn) -> None:
        self.ring = ring
        self.link: Link | None = None
        self.shut_down = False
