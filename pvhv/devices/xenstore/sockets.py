# SPDX-License-Identifier: GPL-2.0-or-later
"""The way of domain 0's tools to the store: the same messages as in a ring, over a stream of bytes.

Each tool has a connection of its own, so its open transactions and its watches end with it. A tool is domain 0, and may
do everything. What it does not read yet waits in the connection, where an event is not added twice, and only `AHEAD`
bytes are made ready for it. Beyond that its requests wait, too.

`feed` and `lay_out` are called on the hypervisor's thread, `take` on any one.

Read beside it: socket_funcs in tools/xenstore/xenstored_core.c.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from pvhv.devices.xenstore.connection import TooLong
from pvhv.devices.xenstore.permissions import DOM0
from pvhv.devices.xenstore.requests import processing
from pvhv.devices.xenstore.store import Store

AHEAD = 64 << 10
MOST_UNHEARD = 64 << 10  # bytes of requests that wait until what came of others was read


class Socket:
    """One tool's connection. `wake` is called when there is something to take."""

    def __init__(self, store: Store, wake: Callable[[], None] = lambda: None) -> None:
        self.store = store
        self.wake = wake
        self.connection = store.connect(DOM0, self.lay_out)
        self.closed = False
        self._working = False
        self._lock = threading.Lock()
        self._laid_out = bytearray()

    def feed(self, data: bytes) -> bool:
        """Take bytes of requests. Returns False, and takes none, while too many requests wait. A request that is longer
        than allowed ends the connection."""
        if self.closed:
            return True
        if len(self.connection.incoming) >= MOST_UNHEARD:
            return False
        self.connection.incoming += data
        self._go_on()
        return True

    def _go_on(self) -> None:
        if not self._working:
            self._working = True
            self.store.run(self._work())

    def _work(self) -> Iterator[int]:
        try:
            while not self.closed and self.connection.bytes_waiting < AHEAD and (message := self.connection.take()):
                yield from processing(self.store, self.connection, *message)
        except TooLong:
            self.close()
        finally:
            self._working = False

    def lay_out(self) -> None:
        """Make waiting messages ready for `take`, as far as there is room."""
        with self._lock:
            while len(self._laid_out) < AHEAD and (message := self.connection.next_mail()):
                self._laid_out += message
        self.wake()
        if self.connection.incoming and self.connection.bytes_waiting < AHEAD:
            self._go_on()  # it waited for room

    def take(self) -> bytes:
        """Take the bytes that are ready. If they were many, more may wait for `lay_out`."""
        with self._lock:
            data = bytes(self._laid_out)
            self._laid_out.clear()
        return data

    def close(self) -> None:
        """The tool is gone: end its connection."""
        if not self.closed:
            self.closed = self.connection.gone = True
            self.store.disconnect(self.connection)
            self.wake()
