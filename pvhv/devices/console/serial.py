# SPDX-License-Identifier: GPL-2.0-or-later
"""A console over a UART: the record and the readers are those of console.py; only the way to the guest differs.

What the UART transmits is kept at once. A UART cannot be told to wait. So when a lossless reader is too far behind, the
whole guest is stopped until the reader has caught up.

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
        """Use a guest's UART: `receive(data)` takes input, `hold(True)` makes the guest wait."""
        self._receive, self._hold = receive, hold

    def said(self, data: bytes) -> None:
        """The UART transmitted bytes."""
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
        """The domain is going: its UART is not used any more."""
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
