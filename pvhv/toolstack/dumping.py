# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumping cores: for a client that asks for one, and where a domain file says coredump-destroy or coredump-restart.

A client gets the core as pieces and writes it itself, where it may and as fast as it can; a domain file's core goes to
the directory `dump` beside the consoles' logs, in a file of the domain's name, over the one before. Either way a thread
asks for one step after another, and nobody waits for it.

Read beside it: main_dump_core in tools/xl/xl_misc.c, handle_domain_death in tools/xl/xl_vmcontrol.c.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pvhv.toolstack.beside import settle
from pvhv.toolstack.core_dump import CoreDump
from pvhv.toolstack.core_writer import write_core
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.names import file_name

if TYPE_CHECKING:
    from pvhv.core.hypervisor import Hypervisor
    from pvhv.toolstack.guest import Guest
    from pvhv.toolstack.host import Host
    from pvhv.toolstack.server import Call, Handler

T = TypeVar("T")
LOOK_EVERY_S = 0.5
CLIENTS = 4  # whose cores are dumped at once
FILES = threading.Semaphore(2)  # that are written at once: one disk has them all


class Asker:
    """Has steps done on the hypervisor's thread, and waits for each; until it is told to stop."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self.hypervisor = hypervisor
        self.stopped = threading.Event()

    def __call__(self, step: Callable[[], T]) -> T:
        future: Future[T] = self.hypervisor.post(step)
        return self.wait(future)

    def wait(self, future: Future[T]) -> T:
        """What comes of `future`. Raises ToolstackError once nobody wants it any more."""
        while not self.stopped.is_set():
            with suppress(TimeoutError):
                return future.result(LOOK_EVERY_S)
        raise ToolstackError("the dump was broken off")


def dump_to_file(guest: Guest, directory: Path, done: Callable[[], None]) -> None:
    """Dump a domain that has stopped, and then `done()`, on the hypervisor's thread, whatever became of it."""
    hypervisor = guest.hypervisor
    path = directory / file_name(guest.name)

    def run() -> None:
        try:
            with FILES:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                written = write_core(path, dump.pieces(Asker(hypervisor)))
            told = f"{dump.name}: its core is in {path}, {written >> 20} MiB"
        except (ToolstackError, OSError) as failure:
            told = f"{dump.name}: its core could not be dumped: {failure}"
        hypervisor.post(lambda: hypervisor.console.log(told))
        hypervisor.post(done)

    try:
        dump = CoreDump(guest)
    except ToolstackError as failure:
        hypervisor.console.log(str(failure))
        hypervisor.post(done)
        return
    threading.Thread(target=run, name="core dump", daemon=True).start()


class DumpAccess:
    """The verb."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.under_way = 0
        self.handlers: dict[str, Handler] = {"dump_core": self.dump_core}

    async def dump_core(self, call: Call, domain: str) -> None:
        """A domain's core, in pieces: bytes, or how many zeros."""
        hypervisor, loop = self.host.hypervisor, asyncio.get_running_loop()
        dump = await asyncio.wrap_future(hypervisor.post(lambda: CoreDump(self.host.find(domain))))
        if self.under_way == CLIENTS:
            raise ToolstackError(f"{CLIENTS} cores are being dumped already", "wait until one of them is whole")
        ask, over = Asker(hypervisor), Future[None]()

        def run() -> None:
            try:
                for piece in dump.pieces(ask):
                    item = {"zeros": len(piece)} if piece == bytes(len(piece)) else {"piece": piece}
                    ask.wait(asyncio.run_coroutine_threadsafe(call.item(item), loop))
            except Exception as failure:
                settle(over, failure=failure)
            else:
                settle(over)

        self.under_way += 1
        try:
            await call.item({"dumping": dump.name})
            threading.Thread(target=run, name="core dump", daemon=True).start()
            await asyncio.wrap_future(over)
        finally:
            self.under_way -= 1
            ask.stopped.set()


def received(items: Iterator[dict[str, object]]) -> Iterator[bytes]:
    """The pieces again, from what the verb sends."""
    for item in items:
        zeros, piece = item.get("zeros"), item.get("piece")
        if isinstance(zeros, int):
            yield bytes(zeros)
        elif isinstance(piece, bytes):
            yield piece
