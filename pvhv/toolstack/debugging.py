# SPDX-License-Identifier: GPL-2.0-or-later
"""Debuggers for clients: GDB's bytes are handled on the hypervisor's thread, its answers are sent from the event loop.

The session ends when GDB leaves, when its client leaves or dies, or when the domain is gone. In each case all
breakpoints are removed, and the domain runs on if it still can.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pvhv.core.debugger import Debugger, Stop
from pvhv.observe.gdb.server import Server
from pvhv.toolstack import symbol_files
from pvhv.toolstack.beside import await_or_undo
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import Guest
from pvhv.toolstack.host import Host
from pvhv.toolstack.lifecycle import State
from pvhv.toolstack.names import quoted
from pvhv.toolstack.server import Call, Handler

MOST_UNREAD = 1 << 20  # bytes, either way
PIECE = 4096


def require_debuggable(guest: Guest) -> None:
    """Raises ToolstackError where a domain cannot have a debugger."""
    if guest.config.type == "hvm":
        raise ToolstackError(
            f"domain {guest.name} is fully virtualized: pvhv gdb is for paravirtual domains",
            f"pvhv trace {quoted(guest.name)} shows what it does",
        )
    if guest.state is State.BUILDING or not guest.stays:
        raise ToolstackError(f"domain {guest.name} is {guest.state.value}: there is nothing to debug")
    if guest.domain.debugger is not None:
        raise ToolstackError(
            f"domain {guest.name} has a debugger already", "leave that one first (`detach` in gdb)"
        )


class Debugging:
    """One client's debugger of one guest. Made, fed and closed on the hypervisor's thread."""

    def __init__(self, host: Host, guest: Guest, loop: asyncio.AbstractEventLoop) -> None:
        require_debuggable(guest)
        self.host = host
        self.guest = guest
        self.loop = loop
        self.ready = asyncio.Event()
        self.over = False
        self._out: deque[bytes] = deque()
        self._said, self._sent = 0, 0  # bytes that went into it, and out
        self._in = bytearray()  # what GDB said and was not looked at yet
        self._working = False
        self._left = False  # GDB did
        self._gone = False
        self.server = Server(self._debugger, self._send)
        host.listeners.append(self._listen)

    def _debugger(self, on_stop: Callable[[Stop], None]) -> Debugger:
        return Debugger(self.guest.domain, on_stop)

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        self._said += len(data)
        self._wake()

    def _wake(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self.ready.set)
        except RuntimeError:
            pass  # the loop is closed: the process ends

    def _listen(self, guest: Guest, what: str) -> None:
        if guest is self.guest and what in ("ended", "gone") and not self.over:
            self._gone = True
            ended = guest.ended
            self.server.close(ended.name if ended else "destroyed", ended.status if ended else 0)
            self._end()

    def _end(self) -> None:
        self.over = True
        self._wake()

    def take(self, data: bytes) -> None:
        """Bytes from GDB; empty bytes mean that GDB is gone. Raises ToolstackError when too many wait for an answer."""
        if len(self._in) + len(data) > MOST_UNREAD:
            self.close()
            self._end()
            raise ToolstackError("gdb sent too much that is not answered yet")
        self._in += data
        self._left |= not data
        self.go_on()

    def go_on(self) -> None:
        """Handle what GDB said, as long as GDB reads the answers."""
        if not self._working:
            self._working = True
            self.host.hypervisor.scheduler.errand(self._work(), self.guest.domain)

    def _work(self) -> Iterator[int]:
        try:
            while self._in and not self.over and self._said - self._sent < MOST_UNREAD:
                piece = bytes(self._in[:PIECE])
                del self._in[:PIECE]
                yield from self.server.feeding(piece)
            if self._left and not self._in:
                self.server.close()
        except Exception:
            self.server.close()  # a mistake of ours, which must not leave the domain at rest
            raise
        finally:
            self._working = False
            if self.server.ended and not self.over:
                self._end()

    async def deliver(self, call: Call) -> dict[str, Any]:
        """Send answers to GDB until the session is over. Returns why it is over."""
        while True:
            self.ready.clear()
            if self._out:
                out = b"".join(self._out.popleft() for _ in range(len(self._out)))
                await call.item({"out": out})
                self._sent += len(out)
                if self._in:
                    self.host.hypervisor.post(self.go_on)
            elif self.over:
                ended = self.guest.ended if self._gone else None
                return {"name": self.guest.name, "ending": ended.name if ended else None}
            else:
                await self.ready.wait()

    def close(self) -> None:
        """End the session: remove breakpoints, and let the domain run."""
        self.over = True
        self.server.close()
        if self._listen in self.host.listeners:
            self.host.listeners.remove(self._listen)


class DebugAccess:
    """The verbs of the host process for debuggers."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.handlers: dict[str, Handler] = {"gdb_facts": self.facts, "gdb": self.gdb, "gdb_feed": self.feed}

    async def facts(self, call: Call, domain: str) -> dict[str, Any]:
        """Whether a domain can be debugged, its name, and a file with its kernel's symbols if there is one."""

        def find() -> Guest:
            guest = self.host.find(domain)
            require_debuggable(guest)
            return guest

        guest = await asyncio.wrap_future(self.host.hypervisor.post(find))
        path = await asyncio.wrap_future(self.host.beside.do(partial(symbol_files.for_debugger, guest.kernel)))
        return {"name": guest.name, "symbols": str(path) if path else None}

    async def gdb(self, call: Call, domain: str) -> dict[str, Any]:
        """Debug a domain. It is stopped until GDB lets it run."""
        loop, hypervisor = asyncio.get_running_loop(), self.host.hypervisor
        future = hypervisor.post(lambda: Debugging(self.host, self.host.find(domain), loop))
        debugging: Debugging = await await_or_undo(future, lambda made: hypervisor.post(made.close))
        ongoing = call.session.ongoing
        ongoing[call.number] = debugging
        try:
            await call.item({"debugging": debugging.guest.name})
            return await debugging.deliver(call)
        finally:
            del ongoing[call.number]
            hypervisor.post(debugging.close)

    async def feed(self, call: Call, session: int, data: bytes) -> None:
        """Bytes from GDB for the session that is call number `session`; empty bytes mean that GDB is gone."""
        debugging = call.session.ongoing.get(session)
        if isinstance(debugging, Debugging):
            await asyncio.wrap_future(self.host.hypervisor.post(partial(debugging.take, data)))
