# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv gdb`: GDB's remote protocol for a domain, on a Unix socket, a port, or standard input and output.

Whoever is connected may do anything to the domain, and GDB's protocol knows no users. So by default GDB connects to a
socket that only its owner's processes can reach. A port, which all users of the machine can reach, has to be asked for.

This command only carries bytes between GDB and pvhvd. When either of them ends the session, or this process ends in any
way, pvhvd releases the domain.

Read beside it: tools/debugger/gdbsx in Xen, whose place it takes.
"""

from __future__ import annotations

import os
import shlex
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvhv.cli.commands import DomainArgument, command
from pvhv.cli.common import connect_if_up, say
from pvhv.toolstack import peers
from pvhv.toolstack.errors import ToolstackError, UsageError, no_domain
from pvhv.toolstack.paths import Paths, unix_sockets

if TYPE_CHECKING:
    from pvhv.toolstack.client import Client

HERE = "127.0.0.1"
PIPE = "target remote | pvhv gdb --stdio"
PIECE = 4096
PATIENCE_S = 2.0
ENDINGS = {"poweroff": "has powered off", "reboot": "reboots", "crash": "has crashed", "destroyed": "was destroyed"}


@command("gdb")
def gdb(
    domain: DomainArgument,
    port: Annotated[
        int | None,
        typer.Option("-p", "--port", help="Listen on a port, for every user of this machine.", metavar="N",
                     min=1, max=65535),
    ] = None,
    stdio: Annotated[
        bool,
        typer.Option("--stdio", help="Use standard input and output, for `target remote | pvhv gdb --stdio DOMAIN`."),
    ] = False,
) -> None:
    """Let GDB debug a domain. The domain stops when GDB connects, and runs on when GDB leaves."""
    if stdio and port is not None:
        raise UsageError("--stdio does not listen, so --port has no effect", "leave out one of them")
    if not stdio and port is None and not unix_sockets():
        raise UsageError(
            "this system has no Unix sockets, which only you could reach",
            f"give --port N for a port, which every user of this machine can reach, or type in gdb: {PIPE} {domain}",
        )
    client = connect_if_up()
    if client is None:
        raise no_domain(domain)
    with client:
        if stdio:
            _session(client, domain, lambda: os.read(0, PIECE), lambda data: _write(1, data))
            return
        facts = _facts(client, domain)
        with _on_port(port) if port is not None else _on_socket(client.paths) as listening:
            where = f"localhost:{port}" if port is not None else str(listening.getsockname())
            try:
                _invite(where, facts)
                connection = _ours(listening)
            finally:
                if port is None:
                    Path(where).unlink(missing_ok=True)
        with connection:
            if port is not None:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _session(client, domain, lambda: connection.recv(PIECE), connection.sendall)


def _facts(client: Client, domain: str) -> dict[str, Any]:
    """What has to be known about the domain before; a message is printed if that takes long."""
    patience = threading.Timer(PATIENCE_S, say, ["reading the kernel's symbols (once; then they are kept)"])
    patience.daemon = True
    patience.start()
    try:
        facts: dict[str, Any] = client.call("gdb_facts", domain=domain)
        return facts
    finally:
        patience.cancel()


def _on_port(port: int) -> socket.socket:
    """A socket that only this machine reaches. Raises ToolstackError."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HERE, port))
        listening.listen(1)
    except OSError as error:
        listening.close()
        raise ToolstackError(f"cannot listen on port {port}: {error.strerror}", "give another port, or none") from None
    return listening


def _on_socket(paths: Paths) -> socket.socket:
    """A socket that only our own user's processes reach. Raises ToolstackError."""
    _sweep(paths.directory)
    path = paths.socket_named(f"gdb-{os.getpid()}.sock")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)  # of a process that had our number
        listening.bind(str(path))
        listening.listen(1)
    except OSError as error:
        listening.close()
        raise ToolstackError(f"cannot listen on {path}: {error.strerror}", "--port N listens on a port") from None
    finally:
        os.umask(before)
    return listening


def _sweep(directory: Path) -> None:
    """Remove sockets that killed processes left behind."""
    for path in directory.glob("gdb-*.sock"):
        with suppress(OSError, ValueError):
            try:
                os.kill(int(path.stem.removeprefix("gdb-")), 0)
            except ProcessLookupError:
                path.unlink()


def _ours(listening: socket.socket) -> socket.socket:
    """The first connection from our own user or root; on a port, from any user."""
    while True:
        connection, _ = listening.accept()
        if connection.family == socket.AF_INET or peers.may_ask(connection):
            return connection
        connection.close()


def _invite(where: str, facts: dict[str, Any]) -> None:
    """Say what to type."""
    words = ["gdb", "-ex", f"target remote {where}"]
    if facts["symbols"]:
        words.append(facts["symbols"])
    else:
        say(f"{facts['name']}'s kernel has no symbols; if you have its vmlinux, give that to gdb")
    print(shlex.join(words), flush=True)


def _session(client: Client, domain: str, read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
    """Carry bytes until one side ends the session."""
    number = client.start("gdb", domain=domain)
    fed = False
    while True:
        message = client.receive()
        if message.get("id") != number:
            client.settle(message)
        elif "item" not in message:
            break
        elif "out" in message["item"]:
            with suppress(OSError):  # GDB is gone; the other thread notices
                write(message["item"]["out"])
        elif not fed:
            fed = True
            name = message["item"]["debugging"]
            threading.Thread(target=_feed, args=(client, number, read), name="gdb", daemon=True).start()
    over = client.result(message)
    say(f"{name} {ENDINGS.get(over['ending'], 'has ended')}" if over["ending"] else f"gdb has left; {name} goes on")


def _feed(client: Client, number: int, read: Callable[[], bytes]) -> None:
    """Send what GDB says to pvhvd, in pieces; an empty last one says that GDB is gone."""
    data = b" "
    with suppress(ToolstackError):
        while data:
            try:
                data = read()
            except OSError:
                data = b""
            client.start("gdb_feed", session=number, data=data)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


