# SPDX-License-Identifier: GPL-2.0-or-later
"""The store for clients: each call of the verb `xenstore` is a connection to the store, as long as the call lasts.

What the store says to a client comes as items of that call; what the client says to the store it sends by
`xenstore_feed`. Both are bytes of xenstore messages, which this module does not look into. A connection's watches and
transactions go when its call is cancelled, or its client goes.

Read beside it: pvhv.devices.xenstore.sockets; the other side of it is xenstore_client.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pvhv.core.hypervisor import Hypervisor
from pvhv.devices.xenstore.daemon import Xenstore
from pvhv.devices.xenstore.sockets import Socket
from pvhv.toolstack.beside import await_or_undo
from pvhv.toolstack.server import Call, Handler

POLL_S = 0.01


class Tool:
    """One client's connection. Made, and closed, on the hypervisor's thread."""

    def __init__(self, store: Xenstore, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ready = asyncio.Event()
        self.turn = asyncio.Lock()
        self._woken = False
        self.socket = Socket(store, self._wake)

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self.ready.set)
            except RuntimeError:
                pass  # the loop is closed: the process ends

    async def deliver(self, call: Call, hypervisor: Hypervisor) -> None:
        """Send the client what the store says, until the store ends the connection."""
        while True:
            self._woken = False
            data = self.socket.take()
            if data:
                await call.item({"bytes": data})
                hypervisor.post(self.socket.lay_out)
            elif self.socket.closed:
                return
            else:
                await self.ready.wait()
                self.ready.clear()


class StoreAccess:
    """The verbs of the host process for the store."""

    def __init__(self, hypervisor: Hypervisor, store: Xenstore) -> None:
        self.hypervisor = hypervisor
        self.store = store
        self.handlers: dict[str, Handler] = {"xenstore": self.xenstore, "xenstore_feed": self.feed}

    async def xenstore(self, call: Call) -> None:
        """Connect the client to the store, until it goes or the store ends the connection."""
        loop = asyncio.get_running_loop()
        future = self.hypervisor.post(lambda: Tool(self.store, loop))
        tool: Tool = await await_or_undo(future, lambda made: self.hypervisor.post(made.socket.close))
        ongoing: dict[int, Any] = call.session.ongoing
        ongoing[call.number] = tool
        try:
            await call.item({"connected": True})
            await tool.deliver(call, self.hypervisor)
        finally:
            del ongoing[call.number]
            self.hypervisor.post(tool.socket.close)

    async def feed(self, call: Call, connection: int, data: bytes) -> None:
        """Send bytes to the store, over the connection that is call number `connection` of this session."""
        tool = call.session.ongoing.get(connection)
        if isinstance(tool, Tool):
            async with tool.turn:  # one piece after another
                while not await asyncio.wrap_future(self.hypervisor.post(lambda: tool.socket.feed(data))):
                    await asyncio.sleep(POLL_S)
