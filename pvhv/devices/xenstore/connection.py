# SPDX-License-Identifier: GPL-2.0-or-later
"""One party at the store: its watches, its open transactions, and what is on its way to it.

Replies and events leave in the order they were queued. An event that already waits unsent is not queued
again, and one for a party that lets its mail pile up is dropped: a guest that never reads costs a bounded
amount of memory, its own loss. `full` says that replies pile up; its requests wait in its ring until it
reads.

Read beside it: struct connection in tools/xenstore/xenstored_core.h, send_reply, send_event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pvhv.abi.io.xs_wire import (
    XENSTORE_PAYLOAD_MAX,
    XS_ERROR,
    XS_WATCH_EVENT,
    XSD_ERRORS,
    XSD_SOCKMSG_CODEC,
)
from pvhv.devices.xenstore.permissions import Caller, StoreError
from pvhv.devices.xenstore.transactions import Transaction
from pvhv.devices.xenstore.watches import Watch

MAX_OUTSTANDING = 20  # replies not yet read
MAX_WAITING_BYTES = 2 << 20


class Connection:
    """What the store knows of one domain (or of a tool in dom0). `wake` is called when there is mail."""

    def __init__(self, caller: Caller, wake: Callable[[], None] = lambda: None) -> None:
        self.caller = caller
        self.wake = wake
        self.watches: dict[tuple[str, bytes], Watch] = {}
        self.transactions: dict[int, Transaction] = {}
        self.next_transaction = 1
        self.mail: deque[tuple[bytes, bytes | None]] = deque()  # (message, the event in it)
        self.events_waiting: set[bytes] = set()
        self.bytes_waiting = 0
        self.replies_waiting = 0
        self.target: int | None = None

    @property
    def home(self) -> str:
        """Where relative paths start."""
        return f"/local/domain/{self.caller.domid}"

    @property
    def full(self) -> bool:
        """Whether it must read before it may ask more."""
        return self.replies_waiting >= MAX_OUTSTANDING

    def absolute(self, path: str) -> str:
        """A path of a request, from the root."""
        return path if path.startswith(("/", "@")) else f"{self.home}/{path}"

    def transaction(self, number: int) -> Transaction | None:
        """The transaction a request names; None for number 0. Raises StoreError(ENOENT)."""
        if number == 0:
            return None
        try:
            return self.transactions[number]
        except KeyError:
            raise StoreError("ENOENT") from None

    def reply(self, kind: int, req_id: int, tx_id: int, payload: bytes) -> None:
        """Queue an answer."""
        if len(payload) > XENSTORE_PAYLOAD_MAX:
            self.reply_error(req_id, tx_id, "E2BIG")
            return
        self._queue(XSD_SOCKMSG_CODEC.pack(kind, req_id, tx_id, len(payload)) + payload, None)
        self.replies_waiting += 1

    def reply_error(self, req_id: int, tx_id: int, name: str) -> None:
        """Queue an error."""
        assert name in XSD_ERRORS, f"{name} is not an error a guest knows"
        payload = name.encode() + b"\0"
        self._queue(XSD_SOCKMSG_CODEC.pack(XS_ERROR, req_id, tx_id, len(payload)) + payload, None)
        self.replies_waiting += 1

    def event(self, watch: Watch, path: str) -> None:
        """Queue a watch event."""
        told = watch.told(path)
        payload = told.encode() + b"\0" + watch.token + b"\0"
        repeated = payload in self.events_waiting and not path.startswith("@")
        if len(payload) > XENSTORE_PAYLOAD_MAX or repeated or self.bytes_waiting > MAX_WAITING_BYTES:
            return
        self.events_waiting.add(payload)
        self._queue(XSD_SOCKMSG_CODEC.pack(XS_WATCH_EVENT, 0, 0, len(payload)) + payload, payload)

    def _queue(self, message: bytes, event: bytes | None) -> None:
        self.mail.append((message, event))
        self.bytes_waiting += len(message)
        self.wake()

    def next_mail(self) -> bytes:
        """The next message to send, taken from the queue; empty when there is none."""
        if not self.mail:
            return b""
        message, event = self.mail.popleft()
        self.bytes_waiting -= len(message)
        if event is None:
            self.replies_waiting -= 1
        else:
            self.events_waiting.discard(event)
        return message

    def reset(self) -> None:
        """Forget its watches and transactions. (XS_RESET_WATCHES)"""
        self.watches.clear()
        self.transactions.clear()
