# SPDX-License-Identifier: GPL-2.0-or-later
"""A console over a UART: the same record and the same readers as a paravirtual guest's, another way to the guest.

What the UART transmits is kept at once. A UART cannot be told to wait, so when a lossless reader is too far behind it
is the whole guest that waits, until the reader has caught up.

Read beside it: console.py.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.devices.console.console import Console


class SerialConsole(Console):
    """`said` is for the UART's output; `receive` takes its input."""

    def __init__(self, resume: Callable[[], None] = lambda: None) -> None:
        super().__init__(resume)
        self._receive: Callable[[bytes], None] | None = None
        self._hold: Callable[[bool], None] = lambda hold: None

    def connect(self, receive: Callable[[bytes], None], hold: Callable[[bool], None]) -> None:
        """A new guest's UART, and how to make the guest wait."""
        self._receive, self._hold = receive, hold

    def said(self, data: bytes) -> None:
        """The UART transmitted."""
        with self.lock:
            self.record.append(data)
            readers = list(self.readers)
            hold = not self.held_back and self.must_wait()
        for reader in readers:
            reader.wake()
        if hold:
            self._hold(True)

    def pump(self) -> None:
        """A reader made room."""
        with self.lock:
            released = self.held_back and not self.must_wait()
            self.held_back &= not released
        if released:
            self._hold(False)
        if not self.virtual:
            self._give_input()

    def detach(self) -> None:
        """The domain goes."""
        super().detach()
        self._receive = None
        self._hold = lambda hold: None

    def _give_input(self) -> bool:
        if self._receive is None or not self.typed:
            return False
        data = bytes(self.typed)
        self.typed.clear()
        self._receive(data)
        return True
