# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces for clients: records go into a queue of bounded length on the hypervisor's thread, and out of it
elsewhere.

A guest can do in a millisecond what takes a second to print. The queue never makes it wait: when it is full,
records are dropped and counted, and the stream says how many where they would have stood.
"""

from __future__ import annotations

import asyncio
from collections import deque

from pvhv.observe import decode
from pvhv.observe.trace import Record, Recorder
from pvhv.toolstack.guest import Guest
from pvhv.toolstack.host import Host
from pvhv.toolstack.server import Call

QUEUE = 1 << 14
BATCH = 256


class Tracing:
    """One client's trace of one guest. Made, and closed, on the hypervisor's thread."""

    def __init__(self, host: Host, recorder: Recorder, guest: Guest, loop: asyncio.AbstractEventLoop) -> None:
        self.host = host
        self.recorder = recorder
        self.guest = guest
        self.loop = loop
        self.symbols = guest.symbols
        self.records: deque[Record] = deque()
        self.dropped = 0
        self.ended = guest.ended is not None
        self.ready = asyncio.Event()
        self._woken = False
        recorder.start(guest.domain, self._take)
        host.listeners.append(self._listen)

    def _take(self, record: Record) -> None:
        if len(self.records) >= QUEUE:
            self.dropped += 1
            return
        self.records.append(record)
        if not self._woken:
            self._wake()

    def _listen(self, guest: Guest, what: str) -> None:
        if guest is self.guest and what in ("ended", "gone"):
            self.ended = True
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        try:
            self.loop.call_soon_threadsafe(self.ready.set)
        except RuntimeError:
            pass  # the loop is closed: the process ends

    async def deliver(self, call: Call) -> dict[str, int]:
        """Send records, decoded, until the guest has ended."""
        total = 0
        while True:
            self._woken = False
            batch = [self.records.popleft() for _ in range(min(BATCH, len(self.records)))]
            if batch:
                total += len(batch)
                await call.item({"records": [decode.plain(record, self.symbols) for record in batch]})
            elif self.dropped:
                dropped, self.dropped = self.dropped, 0
                await call.item({"dropped": dropped})
            elif self.ended:
                return {"records": total}
            else:
                await self.ready.wait()
                self.ready.clear()

    def close(self) -> None:
        """Trace no longer."""
        self.recorder.stop(self.guest.domain, self._take)
        if self._listen in self.host.listeners:
            self.host.listeners.remove(self._listen)
