# SPDX-License-Identifier: GPL-2.0-or-later
"""The host process's side of the socket: the clients, and the calls that are being answered.

Each connection is served by itself. Each call is a task of its own, so that a client can follow a console and ask other
things on one connection. Sending waits until the client has read enough (`Call.item`), and only that task waits: a
client that does not read stops no other. When a client goes, its tasks are cancelled, and clean up.

A connection is a *stranger* until it has greeted (and proved that it knows the token, where there is one). Without Unix
sockets any user of this machine can connect, and a client may be broken. So a stranger costs a few kilobytes for a few
seconds. There may be few strangers, and a new one replaces the one that has been silent longest. There may be as many
clients as there are descriptors for, less a reserve. When there are no descriptors all the same, no connection is
accepted until there are, and the log says so.

This module knows no verbs; they are in pvhv.toolstack.service.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import os
import secrets
import socket
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from pvhv.toolstack import peers, requests, rpc
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.paths import Paths, unix_sockets
from pvhv.toolstack.rpc import Message

Handler = Callable[..., Awaitable[Any]]
READ_SIZE = 64 << 10
BACKLOG = 128
MOST_CLIENTS = 256
MOST_STRANGERS = 32  # who have not said who they are
MOST_CALLS = 256  # of one client under way
MOST_IN_FLIGHT = 16 << 20  # bytes that these were asked with
GREET_WITHIN_S = 10.0
LEAST_DESCRIPTORS = 64  # without which there is no point in listening
SPARED_DESCRIPTORS = 40  # of them, for logs, kernels, engines
PAUSE_S = 0.5  # before it is tried again to accept somebody
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
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
    """One connection: a client, or a stranger who may become one."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.ongoing: dict[int, Any] = {}  # what a call under way left for other calls of this session
        self._in_flight = 0  # bytes of the requests that are not answered yet
        self.known = False  # it has said something sensible, with the token
        self.same_code: bool | None = None  # whether it runs our code; nobody knows before it said hello
        self._unpacker = rpc.RequestUnpacker()
        self._sending = asyncio.Lock()

    async def send(self, message: Message) -> None:
        """Send a message, and wait until the client has read enough."""
        async with self._sending:
            self.writer.write(rpc.pack(message))
            await self.writer.drain()

    async def serve(self) -> None:
        """Serve until the client goes."""
        try:
            async with asyncio.timeout(GREET_WITHIN_S):
                while not self.known and (data := await self.reader.read(rpc.LARGEST_GREETING)):
                    self._take(data)
            while self.known and (data := await self.reader.read(READ_SIZE)):
                self._take(data)
        except (rpc.ProtocolError, ConnectionError, TimeoutError):
            pass
        finally:
            for task in list(self.tasks.values()):
                task.cancel()
            self.writer.close()

    def _take(self, data: bytes) -> None:
        for message, size in zip(self._unpacker.feed(data), self._unpacker.sizes, strict=True):
            if "cancel" in message:
                self._cancel(message["cancel"])
            else:
                self._begin(message, size)

    def _cancel(self, number: object) -> None:
        task = self.tasks.get(number) if isinstance(number, int) else None
        if task is not None:
            task.cancel()

    def _begin(self, message: Message, size: int) -> None:
        number, name, arguments = message.get("id"), message.get("call"), message.get("args", {})
        if not isinstance(number, int) or not isinstance(name, str) or not isinstance(arguments, dict):
            raise rpc.ProtocolError("not a call")
        if not all(isinstance(argument, str) for argument in arguments):
            raise rpc.ProtocolError("an argument without a name")
        if not self.known:
            self._greet(name, arguments)
        if number in self.tasks or len(self.tasks) >= 2 * MOST_CALLS:  # it does not listen to answers
            raise rpc.ProtocolError("a call too many")
        too_many = len(self.tasks) >= MOST_CALLS or self._in_flight + size > MOST_IN_FLIGHT
        handler = _one_too_many if too_many else self.server.handlers.get(name)
        if too_many:
            arguments, size = {}, 0
        task = asyncio.create_task(self._answer(number, name, handler, arguments))
        self.tasks[number] = task
        self._in_flight += size

        def answered(_task: object) -> None:
            self.tasks.pop(number, None)
            self._in_flight -= size

        task.add_done_callback(answered)

    def _greet(self, name: str, arguments: dict[str, Any]) -> None:
        token = self.server.token
        if token is not None:
            nonce, given = str(arguments.get("nonce")), str(arguments.get("proof"))
            expected = peers.proof(token, "client", nonce)
            if name != "hello" or not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
                raise rpc.ProtocolError("it does not know the token")
        self.known = True
        self._unpacker.greeted()
        self.server.greeted()

    async def _answer(self, number: int, name: str, handler: Handler | None, arguments: dict[str, Any]) -> None:
        try:
            if handler is None:
                raise ToolstackError(
                    f"pvhvd does not know '{name}'", "it may be of another version than this pvhv"
                )
            requests.check(name, handler, arguments)
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


async def _one_too_many(_call: Call) -> None:
    raise ToolstackError(
        f"too many calls at once: at most {MOST_CALLS}, with {MOST_IN_FLIGHT >> 20} MiB in all"
    )


class Server:
    """The listening socket, and its connections."""

    def __init__(self, paths: Paths, handlers: dict[str, Handler], log: Callable[[str], None]) -> None:
        self.paths = paths
        self.handlers = handlers
        self.log = log
        self.token: str | None = None
        self.most = most_clients()
        self.sessions: dict[asyncio.Task[None], Session | None] = {}
        self._strangers: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    def is_there(self) -> bool:
        """Whether clients can find us: the socket, or the file that names the port, is still there."""
        return self.paths.socket.exists() if unix_sockets() else self.paths.endpoint.exists()

    async def start(self) -> None:
        """Begin to listen, or listen anew. The caller holds the lock, so an existing socket is a dead process's."""
        self._stop_listening()
        self._listening = self._on_unix_socket() if unix_sockets() else self._on_loopback()
        self._listening.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(self._listening))

    def _on_unix_socket(self) -> socket.socket:
        path = self.paths.socket
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
        return listening

    def _on_loopback(self) -> socket.socket:
        self.token = secrets.token_hex(32)
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind(("127.0.0.1", 0))
        listening.listen(BACKLOG)
        port = listening.getsockname()[1]
        self.paths.endpoint.unlink(missing_ok=True)
        descriptor = os.open(self.paths.endpoint, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{port} {self.token}\n")
        return listening

    # -- who comes -------------------------------------------------------------------------------------------
    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        paused = False
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
                if paused:
                    paused = False
                    self.log("there are descriptors again: clients are accepted")
                self._receive(connection)
            except ConnectionError:
                pass  # it went before it was there
            except OSError as error:
                if error.errno not in NO_ROOM:
                    self.log(f"clients cannot be accepted: {error}")
                    return
                if not paused:
                    paused = True
                    self.log(f"clients wait, for there are no descriptors for them: {error.strerror}")
                await asyncio.sleep(PAUSE_S)
            while len(self.sessions) >= self.most:
                await asyncio.sleep(PAUSE_S)
                if len(self.sessions) >= self.most:
                    self._make_room()

    def _receive(self, connection: socket.socket) -> None:
        if connection.family != socket.AF_INET and not peers.may_ask(connection):
            connection.close()
            return
        if len(self._strangers) >= MOST_STRANGERS:
            self._make_room()
        task = asyncio.create_task(self._serve(connection))
        self.sessions[task] = None
        self._strangers[task] = None
        task.add_done_callback(self._left)

    def _make_room(self) -> None:
        """Close the connection of the stranger who was silent longest."""
        for task in self._strangers:
            del self._strangers[task]
            task.cancel()
            return

    def _left(self, task: asyncio.Task[None]) -> None:
        self.sessions.pop(task, None)
        self._strangers.pop(task, None)

    async def _serve(self, connection: socket.socket) -> None:
        reader = asyncio.StreamReader(limit=rpc.LARGEST_GREETING)  # a stranger's bytes wait in the system, not here
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
        except BaseException:
            connection.close()
            raise
        session = Session(self, reader, asyncio.StreamWriter(transport, protocol, reader, loop))
        task = asyncio.current_task()
        assert task is not None
        self.sessions[task] = session
        await session.serve()

    def greeted(self) -> None:
        """The connection that is being served is a client's from now on."""
        task = asyncio.current_task()
        if task is not None:
            self._strangers.pop(task, None)

    # -- the end ---------------------------------------------------------------------------------------------
    def _stop_listening(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
        if self._listening is not None:
            self._listening.close()

    def close(self, ours: bool = True) -> None:
        """Stop listening. With `ours`, what clients find us by (the socket, or the file with the port) is removed."""
        self._stop_listening()
        if not ours:
            return
        with suppress(OSError):  # what is left behind is found dead by whoever tries it
            self.paths.endpoint.unlink(missing_ok=True)
            if unix_sockets():
                self.paths.socket.unlink(missing_ok=True)


def most_clients() -> int:
    """How many clients there are descriptors for."""
    try:
        import resource
    except ImportError:  # Windows: as many as are wanted
        return MOST_CLIENTS
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CLIENTS
    return min(MOST_CLIENTS, soft - SPARED_DESCRIPTORS)
