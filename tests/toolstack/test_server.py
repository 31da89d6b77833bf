# SPDX-License-Identifier: GPL-2.0-or-later
"""The door of the host process: who gets in, what is no message, and what becomes of those who say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from pvhv.toolstack import peers, rpc, server
from pvhv.toolstack.paths import Paths
from pvhv.toolstack.server import Call, Server


def frame(body: bytes, size: int | None = None) -> bytes:
    return struct.pack(">I", len(body) if size is None else size) + body


def nested(depth: int) -> bytes:
    return b"\x81\xa1x" + b"\x91" * depth + b"\x90"


# Each is as much as somebody can make of a message, and no call.
BOMBS: dict[str, bytes] = {
    "long": frame(b"", 16 << 20) + b"\x80" * (1 << 20),
    "maps": frame(b"\x82\xa2id\x01\xa4args\xdd" + struct.pack(">I", 3000) + b"\x80" * 3000),
    "deep": frame(nested(900)),
    "deeper": frame(nested(3000)),
    "a list that says it is long": frame(b"\x81\xa1x\xdd\xff\xff\xff\xff"),
    "a text that says it is long": frame(b"\x81\xa1x\xdb\xff\xff\xff\xff"),
    "an extension": frame(b"\x81\xa1x\xc7\x01\x01\x01"),
    "numbers for names": frame(msgpack.packb({"id": 1, "call": "list", "args": {1: 2}})),
    "no map": frame(b"\x93\1\2\3"),
    "no call": rpc.pack({"id": 1}),
    "http": b"GET / HTTP/1.1\r\n\r\n",
}


class Door:
    """A server on a loop of its own, with some verbs."""

    def __init__(self, directory: Path) -> None:
        self.said: list[str] = []
        verbs = {"hello": self.hello, "wait": self.wait, "listen": self.listen, "err": self.err}
        self.server = Server(Paths(directory), verbs, self.said.append)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.do(self.server.start())

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    async def hello(self, call: Call, **arguments: Any) -> str:
        return "hello"

    async def wait(self, call: Call) -> None:
        await asyncio.sleep(100)

    async def listen(self, call: Call, data: bytes) -> None:
        await asyncio.sleep(100)

    async def err(self, call: Call) -> None:
        raise ValueError("a mistake")

    def knock(self) -> socket.socket:
        assert self.server._listening is not None
        connection = socket.socket(self.server._listening.family)
        connection.settimeout(20)
        connection.connect(self.server._listening.getsockname())
        return connection

    def greeting(self, proof: str | None = None) -> bytes:
        token = self.server.token or ""
        known = peers.proof(token, "client", "once") if proof is None else proof
        return rpc.pack({"id": 0, "call": "hello", "args": {"nonce": "once", "proof": known}})

    def greeted(self) -> socket.socket:
        connection = self.knock()
        connection.sendall(self.greeting())
        assert rpc.Unpacker().feed(connection.recv(1000)) == [{"id": 0, "ok": "hello"}]
        return connection

    def end(self) -> None:
        async def end() -> None:
            self.server.close()
            for task in list(self.server.sessions):
                task.cancel()
            await asyncio.sleep(0.01)

        self.do(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(params=["unix", "loopback"])
def door(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    if request.param == "loopback":
        monkeypatch.setenv("PVHV_LOOPBACK", "1")
    made = Door(tmp_path)
    yield made
    made.end()
    assert not any("Traceback" in line and "a mistake" not in line for line in made.said)


def is_hung_up_on(connection: socket.socket) -> bool:
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass
    return True


def until(door: Door, number: int) -> None:
    deadline = time.monotonic() + 20
    while len(door.server.sessions) != number:
        assert time.monotonic() < deadline, len(door.server.sessions)
        time.sleep(0.005)


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("who", ["stranger", "client"])
def test_what_is_no_message_is_not_answered(door: Door, bomb: str, who: str) -> None:
    with door.knock() if who == "stranger" else door.greeted() as connection:
        with contextlib.suppress(OSError):
            connection.sendall(BOMBS[bomb])
            connection.shutdown(socket.SHUT_WR)
        assert is_hung_up_on(connection)
    until(door, 0)
    door.greeted().close()
    assert door.said == []


@pytest.mark.parametrize("door", ["loopback"], indirect=True)
def test_only_who_knows_the_token_is_let_in(door: Door) -> None:
    own = door.server.token
    assert own is not None
    for greeting in (
        door.greeting("x"), door.greeting(""), door.greeting(own), door.greeting(peers.proof(own, "server", "once")),
        door.greeting("\udcff"), rpc.pack({"id": 1, "call": "wait"}), rpc.pack({"cancel": [1]}) + door.greeting(""),
    ):  # fmt: skip
        with door.knock() as connection:
            connection.sendall(greeting)
            assert is_hung_up_on(connection)


def test_who_says_nothing_is_hung_up_on(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GREET_WITHIN_S", 0.2)
    with door.knock() as silent, door.knock() as slow, door.greeted() as client:
        slow.sendall(door.greeting()[:-1])
        assert is_hung_up_on(silent) and is_hung_up_on(slow)
        client.sendall(door.greeting())
        assert client.recv(1000)


def test_strangers_make_room(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each other, the oldest first, and so for whoever is none."""
    monkeypatch.setattr(server, "MOST_STRANGERS", 4)
    strangers = [door.knock() for _ in range(4)]
    until(door, 4)
    with door.greeted() as client:
        assert is_hung_up_on(strangers[0])
        later = [door.knock() for _ in range(3)]
        until(door, 5)
        assert is_hung_up_on(strangers[1]) and is_hung_up_on(strangers[2])
        client.sendall(door.greeting())
        assert client.recv(1000)
        for each in strangers + later:
            each.close()


def test_what_strangers_say_waits_in_the_system(door: Door) -> None:
    connections = [door.knock() for _ in range(8)]
    for connection in connections:
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                connection.send(frame(b"", 4000)[:4] + bytes(3000))  # which is not all of it, and then a wrong one
    for connection in connections:
        connection.setblocking(True)
        connection.settimeout(20)
        assert is_hung_up_on(connection)
        connection.close()


def test_a_client_has_so_many_calls_under_way(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CALLS", 20)
    with door.greeted() as client:
        client.sendall(b"".join(rpc.pack({"id": n, "call": "wait", "args": {}}) for n in range(1, 26)))
        unpacker, refused = rpc.Unpacker(), []
        while len(refused) < 5:
            refused += unpacker.feed(client.recv(1 << 16))
        assert {answer["id"] for answer in refused} == set(range(21, 26))
        assert all("too many calls at once" in answer["error"]["message"] for answer in refused)
        client.sendall(rpc.pack({"cancel": 3}))
        time.sleep(0.1)
        client.sendall(door.greeting())  # for which there is room now
        assert rpc.Unpacker().feed(client.recv(1000)) == [{"id": 0, "ok": "hello"}]
        client.sendall(rpc.pack({"id": 4, "call": "wait", "args": {}}))  # whose number is another's
        assert is_hung_up_on(client)


def test_without_descriptors_nobody_is_accepted_and_a_line_says_so(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PAUSE_S", 0.02)
    tries = 0
    accept = door.loop.sock_accept

    async def refuse(listening: socket.socket) -> Any:
        nonlocal tries
        tries += 1
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(door.loop, "sock_accept", refuse)
    door.knock().close()  # ends the accept that was under way
    with door.knock() as waits:
        waits.sendall(door.greeting())
        time.sleep(0.3)
        assert 2 < tries < 30
        monkeypatch.setattr(door.loop, "sock_accept", accept)
        assert waits.recv(1000)
    assert door.said == [
        "clients wait, for there are no descriptors for them: Too many open files",
        "there are descriptors again: clients are accepted",
    ]


def test_more_clients_than_there_may_be_wait(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PAUSE_S", 0.02)
    door.server.most = 3
    clients = [door.greeted() for _ in range(3)]
    fourth = door.knock()
    fourth.sendall(door.greeting())
    fourth.settimeout(0.2)
    with pytest.raises(TimeoutError):
        fourth.recv(1000)
    clients.pop().close()
    fourth.settimeout(20)
    assert fourth.recv(1000)
    for client in [*clients, fourth]:
        client.close()


def test_both_ends_are_told_who_is_there() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peers.uid_of(ours) == peers.uid_of(theirs) == os.getuid()
        assert peers.is_mine(ours) and peers.may_ask(theirs)


def test_a_client_has_so_many_bytes_under_way(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_IN_FLIGHT", 1 << 20)
    with door.greeted() as client:
        long = [rpc.pack({"id": n, "call": "listen", "args": {"data": bytes(300 << 10)}}) for n in range(1, 6)]
        client.sendall(b"".join(long))
        unpacker, refused = rpc.Unpacker(), []
        while len(refused) < 2:
            refused += unpacker.feed(client.recv(1 << 16))
        assert {answer["id"] for answer in refused} == {4, 5}
        assert all("with 1 MiB in all" in answer["error"]["message"] for answer in refused)
        client.sendall(rpc.pack({"cancel": 1}) + long[0])  # what was answered, or called off, counts no longer
        time.sleep(0.1)
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_a_mistake_of_ours_leaves_nobody_waiting(door: Door) -> None:
    with door.greeted() as client:
        client.sendall(rpc.pack({"id": 1, "call": "err", "args": {}}) + rpc.pack({"id": 2, "call": "hello"}))
        unpacker, answers = rpc.Unpacker(), []
        while len(answers) < 2:
            answers += unpacker.feed(client.recv(1 << 16))
    told = {answer["id"]: answer for answer in answers}
    assert told[1]["error"]["status"] == 70 and "pvhvd made a mistake" in told[1]["error"]["message"]
    assert told[2]["ok"] == "hello"
    assert "ValueError: a mistake" in door.said[-1]
