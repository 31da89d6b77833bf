# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumping a core for a client that asks for one.

The client gets the core in pieces, and writes the file with its own rights. A thread asks the hypervisor for one step
after another; no guest waits for it.

Read beside it: main_dump_core in tools/xl/xl_misc.c.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING

from pvhv.toolstack.beside import settle
from pvhv.toolstack.core_dump import CoreDump
from pvhv.toolstack.dumping import Asker
from pvhv.toolstack.errors import ToolstackError

if TYPE_CHECKING:
    from pvhv.toolstack.host import Host
    from pvhv.toolstack.server import Call, Handler

CLIENTS = 4  # whose cores are dumped at once


class DumpAccess:
    """The verb of the host process for cores."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.under_way = 0
        self.handlers: dict[str, Handler] = {"dump_core": self.dump_core}

    async def dump_core(self, call: Call, domain: str) -> None:
        """Send a domain's core in pieces: each is bytes, or a number of zeros."""
        hypervisor, loop = self.host.hypervisor, asyncio.get_running_loop()
        dump = await asyncio.wrap_future(hypervisor.post(lambda: CoreDump(self.host.find(domain))))
        if self.under_way == CLIENTS:
            raise ToolstackError(f"{CLIENTS} cores are being dumped already", "wait until one of them is complete")
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
    """The core's bytes, from the items that the verb sends."""
    for item in items:
        zeros, piece = item.get("zeros"), item.get("piece")
        if isinstance(zeros, int):
            yield bytes(zeros)
        elif isinstance(piece, bytes):
            yield piece
