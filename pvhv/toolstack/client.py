# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of the host process: finds it, starts it where it is missing, asks, and reads answers.

`connect` deals with everything that can be in the way: no process yet, one that was killed (its domains are
reported lost, its socket is replaced), one that was started by older code. It returns a Client, which is a connection:
`call` is for one answer, `start` and `receive` are for answers in pieces. One thread reads; any thread may `send`.

An answer that is not a stream has to come within a minute.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pvhv
from pvhv.toolstack import peers, rpc
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.fingerprint import fingerprint
from pvhv.toolstack.lock import is_held
from pvhv.toolstack.paths import Paths, unix_sockets
from pvhv.toolstack.plainfile import LARGEST_TEXT, open_to_append, read_text, write_text

START_WITHIN_S = 20.0
ANSWER_WITHIN_S = 60.0
POLL_S = 0.01
STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")

Warn = Callable[[str], None]


class Lost(ToolstackError):
    """The host process went away while we talked to it."""

    def __init__(self, paths: Paths) -> None:
        super().__init__("pvhvd went away, and its domains with it", f"its log may say why: {paths.log}")


class Client:
    """A connection to the host process."""

    def __init__(self, connection: socket.socket, paths: Paths) -> None:
        self.paths = paths
        self._connection = connection
        self._unpacker = rpc.Unpacker()
        self._received: deque[rpc.Message] = deque()
        self._sending = threading.Lock()
        self._last_number = 0
        self._on_answer: dict[int, Callable[[], None]] = {}
        self.same_code = True  # whether the host process runs the code that is on disk

    # -- sending ---------------------------------------------------------------------------------------------
    def start(self, call: str, on_answer: Callable[[], None] | None = None, **arguments: Any) -> int:
        """Send a call, and return its number. The reading thread calls `on_answer` when the answer comes. Any thread
        may. Raises ToolstackError if the host process would not take it."""
        rpc.require_short(arguments)
        with self._sending:
            self._last_number += 1
            number = self._last_number
        if on_answer is not None:
            self._on_answer[number] = on_answer
        self.send({"id": number, "call": call, "args": arguments})
        return number

    def send(self, message: rpc.Message) -> None:
        """Send a message. Any thread may."""
        try:
            with self._sending:
                self._connection.sendall(rpc.pack(message))
        except OSError:
            raise Lost(self.paths) from None

    # -- receiving -------------------------------------------------------------------------------------------
    def receive(self, deadline: float | None = None) -> rpc.Message:
        """The next message. Raises TimeoutError at `deadline` (of time.monotonic), Lost when the host process is
        gone."""
        while not self._received:
            try:
                if deadline is None:
                    self._connection.settimeout(None)
                else:
                    self._connection.settimeout(max(deadline - time.monotonic(), 0.001))
                data = self._connection.recv(256 << 10)
                if not data:
                    raise Lost(self.paths)
                self._received.extend(self._unpacker.feed(data))
            except TimeoutError:
                raise
            except (OSError, rpc.ProtocolError):
                raise Lost(self.paths) from None
        return self._received.popleft()

    def call(self, call: str, on_item: Callable[[Any], None] | None = None, **arguments: Any) -> Any:
        """Ask, and wait for the answer; pieces that come before it go to `on_item`.

        Raises ToolstackError: the host process's own, or that it does not answer.
        """
        number = self.start(call, **arguments)
        deadline = None if arguments.get("wait") else time.monotonic() + ANSWER_WITHIN_S
        while True:
            try:
                message = self.receive(deadline)
            except TimeoutError:
                raise ToolstackError(
                    f"pvhvd did not answer '{call}' within {ANSWER_WITHIN_S:.0f} s",
                    f"its log may say why: {self.paths.log}",
                ) from None
            if message.get("id") != number:
                self.settle(message)
            elif "item" not in message:
                return self.result(message)
            elif on_item is not None:
                on_item(message["item"])

    def settle(self, message: rpc.Message) -> None:
        """Call the `on_answer` of the call that a message answers, if it has one."""
        waiting = self._on_answer.pop(message.get("id", 0), None)
        if waiting is not None:
            waiting()

    @staticmethod
    def result(message: rpc.Message) -> Any:
        """The value of an answer. Raises ToolstackError if the answer is an error."""
        if "error" in message:
            raise rpc.error_from_wire(message["error"])
        return message.get("ok")

    def hang_up(self) -> None:
        """End the connection from another thread; the thread that reads gets Lost."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


# -- finding the host process --------------------------------------------------------------------------------
def connect(warn: Warn, start: bool = True) -> Client | None:
    """Connect to this user's host process. It is started if there is none; without `start`, None is returned then."""
    paths = Paths()
    deadline = time.monotonic() + START_WITHIN_S
    while True:
        try:
            return _connect(paths, warn, start)
        except Lost:  # somebody else had it end between our finding it and our greeting
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)


def _connect(paths: Paths, warn: Warn, start: bool) -> Client | None:
    client = _try(paths)
    started = False
    if client is None:
        report_lost(paths, warn)
        if not start:
            return None
        client = _start(paths)
        started = True
    hello = _greet(client)
    if hello["same_code"]:
        _tell_of_engine(started, hello, warn)
        return client
    if hello["domains"] or not _end(client):
        _tell_once(paths, hello, warn)
        return client
    client.close()
    if not start:
        return None
    client = _start(paths)
    _tell_of_engine(True, _greet(client), warn)
    return client


def _end(client: Client) -> bool:
    """End a host process that runs other code than ours, if nobody needs it. Returns whether it ends."""
    try:
        return bool(client.call("stop", unneeded=True))
    except Lost:
        return True  # somebody else may have thought the same
    except ToolstackError:
        return False  # it is so old that it cannot tell


def _tell_of_engine(started: bool, hello: dict[str, Any], warn: Warn) -> None:
    """Warn of the engine of a host process that was just started, if that process says so."""
    if started and hello.get("warning"):
        warn(hello["warning"])


def _tell_once(paths: Paths, hello: dict[str, Any], warn: Warn) -> None:
    """Warn that the host process runs other code than ours. Only the first command that finds out says so."""
    pid = str(hello["pid"])
    with suppress(OSError):
        if paths.told.exists() and read_text(paths.told) == pid:
            return
        write_text(paths.told, pid)
    needed = f"as long as it has domains ({hello['domains']})" if hello["domains"] else "as another command needs it"
    warn(
        f"pvhvd (process {pid}) runs older code than this command, and goes on {needed}\n"
        "`pvhv daemon stop` ends it and them; the next command starts a new one"
    )


def _greet(client: Client) -> dict[str, Any]:
    nonce, token = secrets.token_hex(16), _token(client.paths)
    proof = "" if token is None else peers.proof(token, "client", nonce)
    hello: dict[str, Any] = client.call("hello", fingerprint=fingerprint(), nonce=nonce, proof=proof)
    if token is not None and hello.get("proof") != peers.proof(token, "server", nonce):
        raise ToolstackError(
            f"another program answers on the port that {client.paths.endpoint} names, not our pvhvd",
            f"remove {client.paths.endpoint}, and the next command starts a new one",
        )
    client.same_code = hello["same_code"]
    return hello


def _endpoint(paths: Paths) -> tuple[int, str] | None:
    """Port and token, from the file that a host process on a port writes; None if there is none."""
    try:
        port, token = read_text(paths.endpoint).split()
        return int(port), token
    except (OSError, ValueError):
        return None


def _token(paths: Paths) -> str | None:
    if unix_sockets():
        return None
    endpoint = _endpoint(paths)
    if endpoint is None:
        raise Lost(paths)
    return endpoint[1]


def _try(paths: Paths) -> Client | None:
    """A connection, if somebody listens. Raises ToolstackError when that is not our host process."""
    if unix_sockets():
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address: Any = str(paths.socket)
    else:
        endpoint = _endpoint(paths)
        if endpoint is None:
            return None
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        address = ("127.0.0.1", endpoint[0])
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        return None
    if unix_sockets() and not peers.is_mine(connection):
        whose = peers.uid_of(connection)
        connection.close()
        raise ToolstackError(
            f"{address} is not our pvhvd's: a process of another user (uid {whose}) listens there",
            "set PVHV_RUNTIME_DIR to a directory that only you may write to",
        )
    return Client(connection, paths)


def listens(paths: Paths) -> bool:
    """Whether a host process of this user takes connections."""
    try:
        client = _try(paths)
    except ToolstackError:
        return False
    if client is not None:
        client.close()
    return client is not None


def report_lost(paths: Paths, warn: Warn) -> None:
    """Say once which domains were lost when the host process was killed."""
    if not paths.domains.exists() or is_held(paths.lock):
        return
    try:
        left = json.loads(read_text(paths.domains))
        names = [name for _domid, name in left["domains"]]
        paths.domains.unlink()
    except (OSError, ValueError, KeyError, TypeError):
        return
    if names:
        what = (
            f"its domains are lost: {', '.join(names)}"
            if len(names) > 1
            else f"its domain {names[0]} is lost"
        )
        warn(f"pvhvd (process {left.get('pid')}) was killed; {what}\nits log: {paths.log}")


def _start(paths: Paths) -> Client:
    """Start the host process, and connect to it (or to one that another command started meanwhile)."""
    environment = dict(os.environ)
    root = str(Path(pvhv.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    environment["PVHV_RUNTIME_DIR"] = str(paths.directory)
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    try:
        log = open(open_to_append(paths.log), "ab")
    except OSError as error:
        raise ToolstackError(
            f"cannot write {paths.log}: {error.strerror}", "set PVHV_RUNTIME_DIR to a directory of yours"
        ) from None
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pvhv.toolstack.daemon", "pvhvd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=paths.directory,
            env=environment,
            **options,
        )
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        client = _try(paths)
        if client is not None:
            return client
        if process.poll() not in (None, 0):
            break
        time.sleep(POLL_S)
    status = process.poll()
    what = "did not come up in time" if status is None else f"ended at once (status {status})"
    raise ToolstackError(f"pvhvd {what}", f"its log says: {_last_line(paths.log)}\n(all of it: {paths.log})")


def _last_line(path: Path) -> str:
    try:
        lines = read_text(path, LARGEST_TEXT).strip().splitlines()
    except OSError:
        lines = []
    return STAMP.sub("", lines[-1]) if lines else "nothing"
