# SPDX-License-Identifier: GPL-2.0-or-later
"""Following a guest's console from the event loop, while the guest runs on the hypervisor's thread.

The hypervisor's thread sets flags ("there is more", "the guest was restarted", "it ended") and wakes the event loop
once, however much happens. A task of the loop takes the output when its client is ready for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from pvhv.devices.console.console import PATIENCE_S, Reader
from pvhv.toolstack.guest import Guest
from pvhv.toolstack.host import Host
from pvhv.toolstack.server import Call

GATHER_S = 0.005
MOST_NOTES = 16  # that wait for a client: of a domain that is restarted while it reads nothing, the last ones


class Follower:
    """One attached client. Made, and closed, on the hypervisor's thread.

    The guest does not say more than the client can read: it waits for the client. For a client that wants the whole run
    it waits without end; for any other one until that client has taken nothing for some seconds (it is stopped, say).
    """

    def __init__(self, host: Host, guest: Guest, loop: asyncio.AbstractEventLoop, whole_run: bool) -> None:
        self.host = host
        self.guest = guest
        self.loop = loop
        self.ready = asyncio.Event()
        self._woken = False
        self.notes: deque[str] = deque(maxlen=MOST_NOTES)
        self.ended = guest.ended is not None and not guest.restarts
        self.reader: Reader = guest.console.follow(self.wake, True, None if whole_run else PATIENCE_S)
        host.listeners.append(self._listen)

    def wake(self) -> None:
        """There may be something to take. Any thread may call this."""
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self.ready.set)
            except RuntimeError:
                pass  # the loop is closed: the process ends

    def _listen(self, guest: Guest, what: str) -> None:
        if guest.console is not self.guest.console:
            return
        if what == "restarted":
            self.guest = guest
            self.notes.append(f"{guest.name} was restarted; it is domain {guest.domid} now")
        elif what == "ended":
            self.guest = guest
            self.ended = True
        self.wake()

    async def deliver(self, call: Call) -> dict[str, Any]:
        """Send output and notes until the guest has ended and all of its output is sent. Returns how it ended."""
        while True:
            self._woken = False
            data = self.reader.take()
            if data:
                await call.item({"out": data})
                self._woken = True  # a guest says much in little pieces: gather some before looking again
                await asyncio.sleep(GATHER_S)
            elif self.notes:
                await call.item({"note": self.notes.popleft()})
            elif self.ended and self.reader.finished:
                return ending_of(self.guest)
            else:
                await self.ready.wait()
                self.ready.clear()

    def close(self) -> None:
        """Stop following."""
        self.reader.close()
        if self._listen in self.host.listeners:
            self.host.listeners.remove(self._listen)


def ending_of(guest: Guest) -> dict[str, Any]:
    """How a guest ended, in plain values."""
    assert guest.ended is not None
    return {
        "name": guest.name,
        "domid": guest.domid,
        "ending": guest.ended.name,
        "status": guest.ended.status,
        "report": guest.report,
        "kept": guest.preserved,
    }
