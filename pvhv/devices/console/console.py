# SPDX-License-Identifier: GPL-2.0-or-later
"""A console: a guest's output is kept from its first byte, and what is typed goes to the guest.

Output. When the guest signals, bytes are taken from the ring and kept in a record of bounded size (record.py). Readers
come and go; each has its own position in the record. A reader whose position is no longer in the record is told how
much it missed. A *lossless* reader (an attached console, a pipe, the log) holds the guest back instead: with too much
unread the ring is left full, and the guest waits for room as on Xen. It waits for `patience` at most, unless the reader
has none: a reader that took nothing for so long is left behind until it has caught up, and loses what falls out of the
record meanwhile. Readers are on other threads, so a lock guards what they share with the backend; no reader can make
the hypervisor wait.

Input. Typed bytes wait in `typed`, and go into the ring as the guest makes room. On a virtual timeline they go when its
domains are next idle, so that a session does not depend on the host's speed.

Read beside it: tools/console/daemon/io.c (handle_ring_read, handle_tty_read).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pvhv.devices.console.record import Record, left_out
from pvhv.devices.console.ring import Ring

LOSSLESS_BACKLOG = 512 << 10  # what a lossless reader may have unread before the guest has to wait
PATIENCE_S = 5.0  # for a reader that takes nothing: a Linux kept waiting for twenty calls itself locked up
TYPED_LIMIT = 64 << 10


class Reader:
    """A reader of a console. `wake()` is called, on any thread, when there may be more to `take`."""

    def __init__(
        self, console: Console, wake: Callable[[], None], lossless: bool, patience: float | None
    ) -> None:
        self.console = console
        self.wake = wake
        self.lossless = lossless
        self.patience = patience  # None is endless
        self.left_behind = False  # it took nothing for too long
        self.moved = console.clock()
        self.offset = 0

    def take(self, size: int = 64 << 10) -> bytes:
        """The next bytes, about `size` of them at most; empty when there are none yet. Any thread may call this."""
        console = self.console
        with console.lock:
            offset, data = console.record.read(self.offset, size)
            missed = offset - self.offset if data else 0
            if data:
                self.offset = offset + len(data)
                self.moved = console.clock()
            self.left_behind &= self.offset < console.record.length
            resume = console.held_back and not console.too_far_behind()
        if resume:
            console.resume()
        return left_out(missed) + data if missed else data

    def holds(self, length: int) -> bool:
        """Whether the guest has to wait for this reader, when it has said `length` bytes."""
        return self.lossless and not self.left_behind and length - self.offset > LOSSLESS_BACKLOG

    @property
    def finished(self) -> bool:
        """Whether the console is closed, and all output was taken."""
        with self.console.lock:
            return self.console.closed and self.offset >= self.console.record.length

    def close(self) -> None:
        """Stop following."""
        self.console.leave(self)


class Console:
    """One guest's console. A reader's thread calls `resume` to have `pump` called on the hypervisor's."""

    def __init__(
        self, resume: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lock = threading.Lock()
        self.clock = clock
        self.record = Record()
        self.readers: list[Reader] = []
        self.typed = bytearray()
        self.resume = resume
        self.held_back = False
        self._held_since = 0.0
        self._alarm: threading.Timer | None = None  # to look again whether somebody took nothing for too long
        self.closed = False
        self.virtual = False  # on a virtual timeline: input goes by `deliver`, when it idles
        self._ring: Ring | None = None
        self._notify: Callable[[], None] = lambda: None

    # -- the ring --------------------------------------------------------------------------------------------
    def attach(self, page: memoryview, notify: Callable[[], None]) -> None:
        """Use a domain's ring; `notify()` signals its port. The record goes on: a reboot makes no new console."""
        self._ring, self._notify = Ring(page), notify

    def detach(self) -> None:
        """The domain is going: take its last output from the ring."""
        self.held_back = False
        self._take_output(ignore_backlog=True)
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        self._notify = lambda: None

    def pump(self) -> None:
        """The guest signalled, or a reader made room: move what can be moved."""
        took = self._take_output()
        gave = not self.virtual and self._give_input()
        if took or gave:
            self._notify()

    def _take_output(self, ignore_backlog: bool = False) -> bool:
        ring = self._ring
        size = 0 if ring is None else ring.said()
        if ring is None or not size:
            return False
        with self.lock:
            if not ignore_backlog and self.must_wait():
                return False
            self.held_back = False
            self.record.append(ring.take(size))
            readers = list(self.readers)
        for reader in readers:
            reader.wake()
        return True

    def _give_input(self) -> bool:
        if self._ring is None or not self.typed:
            return False
        given = self._ring.give(bytes(self.typed))
        del self.typed[:given]
        return bool(given)

    # -- input -----------------------------------------------------------------------------------------------
    def feed(self, data: bytes) -> int:
        """Type bytes; returns how many were taken. The hypervisor's thread only."""
        taken = data[: max(TYPED_LIMIT - len(self.typed), 0)]
        self.typed += taken
        if not self.virtual and self._give_input():
            self._notify()
        return len(taken)

    def type_ahead(self, data: bytes) -> None:
        """Type input that is complete before the guest begins. All of it is taken."""
        self.typed += data
        if not self.virtual and self._give_input():
            self._notify()

    def deliver(self) -> bool:
        """A virtual timeline is idle: hand over what was typed. Returns whether there was anything."""
        if not self._give_input():
            return False
        self._notify()
        return True

    # -- readers ---------------------------------------------------------------------------------------------
    def follow(
        self, wake: Callable[[], None] = lambda: None, lossless: bool = False, patience: float | None = None
    ) -> Reader:
        """Add a reader, at the first byte. The guest waits for a lossless one, for `patience` seconds at most (None:
        without end)."""
        reader = Reader(self, wake, lossless, patience)
        with self.lock:
            self.readers.append(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Remove a reader. If the guest waited for it, the guest goes on."""
        with self.lock:
            if reader in self.readers:
                self.readers.remove(reader)
            resume = self.held_back and not self.too_far_behind()
        if resume:
            self.resume()

    def too_far_behind(self) -> bool:
        """Whether a lossless reader has too much unread. The caller holds the lock."""
        if self.virtual:
            return False  # a virtual timeline waits for nobody
        return any(reader.holds(self.record.length) for reader in self.readers)

    def must_wait(self) -> bool:
        """Whether the guest has to wait. Readers whose patience is over are left behind. The caller holds the lock."""
        if not self.too_far_behind():
            return False
        now = self.clock()
        if not self.held_back:
            self.held_back, self._held_since = True, now
        slow = [reader for reader in self.readers if reader.holds(self.record.length)]
        for reader in slow:
            if reader.patience is not None and now - max(reader.moved, self._held_since) >= reader.patience:
                reader.left_behind = True
        if not self.too_far_behind():
            return False
        patience = min((reader.patience for reader in slow if reader.patience is not None), default=None)
        if patience is not None and self._alarm is None:
            self._alarm = threading.Timer(patience, self._look_again)
            self._alarm.daemon = True
            self._alarm.start()
        return True

    def _look_again(self) -> None:
        with self.lock:
            self._alarm = None
            held_back = self.held_back
        if held_back:
            self.resume()

    def close(self) -> None:
        """The domain is gone for good: readers get the rest, and are finished."""
        self.detach()
        self.resume = lambda: None  # there is nobody to go on
        with self.lock:
            self.closed = True
            readers = list(self.readers)
            if self._alarm is not None:
                self._alarm.cancel()
        for reader in readers:
            reader.wake()

    def output(self) -> bytes:
        """All output that was kept."""
        with self.lock:
            return self.record.everything()
