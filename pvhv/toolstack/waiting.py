# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for a domain to end for good, through all its restarts: what `create -F` does.

Read beside it: create_domain in tools/xl/xl_vmcontrol.c, from "Waiting for domain" on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pvhv.toolstack.beside import await_or_undo
from pvhv.toolstack.follow import ending_of

if TYPE_CHECKING:
    from pvhv.toolstack.guest import Guest
    from pvhv.toolstack.host import Host
    from pvhv.toolstack.server import Call, Handler


class Waiter:
    """One who waits for one domain. Made, and closed, on the hypervisor's thread."""

    def __init__(self, host: Host, guest: Guest, loop: asyncio.AbstractEventLoop) -> None:
        self.host = host
        self.lineage = guest.lineage
        self.loop = loop
        self.over = asyncio.Event()
        self.ending: dict[str, Any] = {}
        if guest.ended is not None and not guest.restarts and not guest.dumping:
            self._note(guest)
        host.listeners.append(self._listen)

    def _listen(self, guest: Guest, what: str) -> None:
        if guest.lineage is not self.lineage:
            return
        if what == "ended":
            self._note(guest)
        elif what == "gone" and self.ending:
            self._wake()

    def _note(self, guest: Guest) -> None:
        """A guest has ended. One that is not kept is waited for until it is gone."""
        self.ending = ending_of(guest)
        if guest.preserved and guest.stays:
            self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self.loop.call_soon_threadsafe(self.over.set)

    def close(self) -> None:
        """Stop waiting."""
        if self._listen in self.host.listeners:
            self.host.listeners.remove(self._listen)


class WaitAccess:
    """The verb of the host process for waiting."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.handlers: dict[str, Handler] = {"wait_end": self.wait_end}

    async def wait_end(self, call: Call, domain: str, wait: bool = True) -> dict[str, Any]:
        """Wait until a domain has ended for good. Returns how."""
        loop, hypervisor = asyncio.get_running_loop(), self.host.hypervisor
        future = hypervisor.post(lambda: Waiter(self.host, self.host.find(domain), loop))
        waiter: Waiter = await await_or_undo(future, lambda made: hypervisor.post(made.close))
        try:
            await waiter.over.wait()
            return waiter.ending
        finally:
            hypervisor.post(waiter.close)
