# SPDX-License-Identifier: GPL-2.0-or-later
"""A session at a guest's console: its output goes to standard output, and standard input goes to it.

The main thread reads from pvhvd and writes out. Another thread reads standard input and sends it, a few pieces ahead
of the guest at most. A session ends with the guest, by the escape key, a timeout or a signal, or when the reader of
our output is gone. In each case the terminal is restored first.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from pvhv.cli import signals
from pvhv.cli.common import say
from pvhv.cli.terminal import raw_mode, write_all
from pvhv.toolstack.client import Client, Lost
from pvhv.toolstack.errors import ToolstackError

AHEAD = 4  # pieces of input under way
PIECE = 4096
QUIET_S = 0.5
UNTAKEN_S = 10.0  # for input that pvhvd has not taken yet: it is busy, or the guest does not read


class Detached(Exception):
    """The session ended, and the guest did not."""


class TimedOut(Exception):
    """The guest's time is over."""


@dataclass
class Session:
    """An attached console. `number` is the number of the call that follows it."""

    client: Client
    number: int
    escape: int | None = None  # the byte that detaches, for people at a terminal
    feeds: bool = True  # whether standard input is the guest's
    ends_with_input: bool = False  # detach when standard input has ended and the guest is quiet
    deadline: float | None = None

    def __post_init__(self) -> None:
        self.interactive = self.escape is not None
        self.input_ended = False
        self.detached = False
        self._credit = threading.Semaphore(AHEAD)
        self._sent = 0  # pieces of input; the feeding thread counts
        self._taken = 0  # of them; the main thread counts

    def run(self) -> dict[str, Any]:
        """Run until the guest ends. Returns how it ended. Raises Detached, TimedOut, KeyboardInterrupt, Terminated,
        Lost."""
        with signals.heard(), raw_mode() if self.interactive else nullcontext():
            if self.feeds:
                threading.Thread(target=self._feed, name="input", daemon=True).start()
            return self._follow()

    # -- output ----------------------------------------------------------------------------------------------
    def _follow(self) -> dict[str, Any]:
        heard = time.monotonic()
        while True:
            deadline = self.deadline
            if self.ends_with_input and self.input_ended:
                quiet = max(heard + QUIET_S, time.monotonic() + 0.01)
                deadline = quiet if deadline is None else min(deadline, quiet)
            elif self.ends_with_input:
                deadline = time.monotonic() + QUIET_S if deadline is None else deadline
            try:
                message = self.client.receive(deadline)
            except TimeoutError:
                if self.deadline is not None and time.monotonic() >= self.deadline:
                    raise TimedOut from None
                patience = QUIET_S if self._taken == self._sent else UNTAKEN_S
                if self.input_ended and time.monotonic() >= heard + patience:
                    raise Detached from None
                continue
            except Lost:
                if self.detached:
                    raise Detached from None
                raise
            heard = time.monotonic()
            if message.get("id") != self.number:
                self.client.settle(message)
            elif "item" not in message:
                ending: dict[str, Any] = Client.result(message)
                return ending
            else:
                self._item(message["item"])

    def _item(self, item: dict[str, Any]) -> None:
        if "out" in item:
            write_all(item["out"])
        elif "note" in item:
            say(item["note"])

    # -- input -----------------------------------------------------------------------------------------------
    def _feed(self) -> None:
        descriptor = sys.stdin.fileno()
        try:
            while data := os.read(descriptor, PIECE):
                if self.escape is not None and self.escape in data:
                    data = data[: data.index(self.escape)]
                    self._send(data)
                    self.detached = True
                    self.client.hang_up()
                    return
                self._send(data)
            self.input_ended = True
        except (OSError, ToolstackError):
            self.input_ended = True

    def _send(self, data: bytes) -> None:
        if data:
            self._credit.acquire()
            self._sent += 1
            self.client.start("input", self._settled, attached=self.number, data=data)

    def _settled(self) -> None:
        self._taken += 1
        self._credit.release()
