# SPDX-License-Identifier: GPL-2.0-or-later
"""The host process's side of the socket: who asks, and which answers are under way.

Each connection is served by itself; each call is a task of its own, so that a console may be followed and
other things asked on the same connection. Sending waits until the client has read enough (`Call.item`), and
only that task waits: a client that reads nothing stops nobody. When a client goes, its tasks are cancelled
and clean up after themselves.

This room knows no verbs; they are in pvhv.toolstack.service.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from pvhv.toolstack import rpc
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.paths import Paths, unix_sockets
from pvhv.toolstack.rpc import Message

Handler = Callable[..., Awaitable[Any]]
READ_SIZE = 64 << 10
INTERNAL_ERROR_STATUS = 70


class Call:
    """One call under way."""

    def __init__(self, session: Session, number: int) -> None:
        self.session = session
        self.number = number

    async def item(self, value: Any) -> None:
        """Send a piece of the answer, at the client's own speed."""
        await self.session.send({"id": self.number, "item": value})


class Session:
    """One client."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.kept: dict[int, Any] = {}  # what a call under way left for other calls of this session
        self.known = server.token is None
        self._sending = asyncio.Lock()

    async def send(self, message: Message) -> None:
        """Send, and wait until the client keeps up."""
        async with self._sending:
            self.writer.write(rpc.pack(message))
            await self.writer.drain()

    async def serve(self) -> None:
        """Until the client goes."""
        unpacker = rpc.Unpacker()
        try:
            while data := await self.reader.read(READ_SIZE):
                for message in unpacker.feed(data):
                    self._take(message)
        except (rpc.ProtocolError, ConnectionError):
            pass
        finally:
            for task in list(self.tasks.values()):
                task.cancel()
            self.writer.close()

    def _take(self, message: Message) -> None:
        if "cancel" in message:
            task = self.tasks.get(message["cancel"])
            if task is not None:
                task.cancel()
            return
        number, name, arguments = message.get("id"), message.get("call"), message.get("args", {})
        if not isinstance(number, int) or not isinstance(name, str) or not isinstance(arguments, dict):
            raise rpc.ProtocolError("not a call")
        if not self.known:
            if name != "hello" or not hmac.compare_digest(
                str(arguments.get("token")), str(self.server.token)
            ):
                raise rpc.ProtocolError("no token")
            self.known = True
        task = asyncio.create_task(self._answer(number, name, arguments))
        self.tasks[number] = task
        task.add_done_callback(lambda _task: self.tasks.pop(number, None))

    async def _answer(self, number: int, name: str, arguments: dict[str, Any]) -> None:
        try:
            handler = self.server.handlers.get(name)
            if handler is None:
                raise ToolstackError(
                    f"pvhvd does not know '{name}'", "it may be of another version than this pvhv"
                )
            answer = {"id": number, "ok": await handler(Call(self, number), **arguments)}
        except ToolstackError as error:
            answer = {"id": number, "error": rpc.error_to_wire(error)}
        except ConnectionError:
            return
        except Exception as failure:
            # A mistake of ours must not leave a client waiting; the log has the traceback.
            self.server.log("".join(traceback.format_exception(failure)))
            answer = {
                "id": number,
                "error": {
                    "message": f"pvhvd made a mistake: {failure!r}",
                    "hint": f"its log has more: {self.server.paths.log}",
                    "status": INTERNAL_ERROR_STATUS,
                },
            }
        try:
            await self.send(answer)
        except ConnectionError:
            pass


class Server:
    """The listening socket."""

    def __init__(self, paths: Paths, handlers: dict[str, Handler], log: Callable[[str], None]) -> None:
        self.paths = paths
        self.handlers = handlers
        self.log = log
        self.token: str | None = None
        self.sessions: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def is_there(self) -> bool:
        """Whether clients find us: what they look for is still there."""
        return self.paths.socket.exists() if unix_sockets() else self.paths.endpoint.exists()

    async def start(self) -> None:
        """Begin to listen, or do so anew. The lock is held, so a socket that is there already is a dead one's."""
        if self._server is not None:
            self._server.close()
        if unix_sockets():
            path = self.paths.socket
            path.unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                self._server = await asyncio.start_unix_server(self._connected, path)
            finally:
                os.umask(before)
            path.chmod(0o600)
        else:
            self.token = secrets.token_hex(32)
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            port = self._server.sockets[0].getsockname()[1]
            self.paths.endpoint.unlink(missing_ok=True)
            descriptor = os.open(self.paths.endpoint, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{port} {self.token}\n")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.sessions.add(task)
        try:
            await Session(self, reader, writer).serve()
        finally:
            self.sessions.discard(task)

    def close(self, ours: bool = True) -> None:
        """Listen no longer; what clients look for is taken away unless it is another's by now."""
        if self._server is not None:
            self._server.close()
        if not ours:
            return
        with suppress(OSError):  # what is left behind is found dead by whoever tries it
            self.paths.endpoint.unlink(missing_ok=True)
            if unix_sockets():
                self.paths.socket.unlink(missing_ok=True)
