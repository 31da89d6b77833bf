# SPDX-License-Identifier: GPL-2.0-or-later
"""One party at the store: its watches, its open transactions, and what is on its way to it.

Replies and events leave in the order they were queued. An event that waits unsent is not queued
again, and events for a party with too much unread mail are dropped: so a guest that never reads costs a bounded amount
of memory. `must_read_first` says that replies pile up; the party's requests then wait in its ring until it reads.

Requests come as bytes, in pieces of any length (`take` joins them): a header, then as many bytes as it says.

Read beside it: struct connection in tools/xenstore/xenstored_core.h, handle_input, send_reply, send_event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from pvhv.abi.io.xs_wire import (
    XENSTORE_PAYLOAD_MAX,
    XS_ERROR,
    XS_WATCH_EVENT,
    XSD_ERRORS,
    XSD_SOCKMSG_CODEC,
)
from pvhv.devices.xenstore.permissions import Caller, StoreError
from pvhv.devices.xenstore.quotas import Accounts
from pvhv.devices.xenstore.transactions import Transaction
from pvhv.devices.xenstore.watches import Watch

HEADER = XSD_SOCKMSG_CODEC.size
SMALL = 16  # a reply that short is sent even where there is no memory left: an error's name is


class TooLong(Exception):
    """A request's header announces a payload that is longer than allowed."""


class Message(NamedTuple):
    """One request."""

    kind: int
    req_id: int
    tx_id: int
    payload: bytes


class Connection:
    """What the store knows of one domain (or of a tool in dom0). `wake` is called when there is mail."""

    def __init__(self, caller: Caller, accounts: Accounts, rank: int, wake: Callable[[], None] = lambda: None) -> None:
        self.caller = caller
        self.accounts = accounts
        self.rank = rank  # among connections: those made first hear of a change first
        self.wake = wake
        self.watches: dict[tuple[str, bytes], tuple[Watch, int]] = {}  # with its rank among them
        self.transactions: dict[int, Transaction] = {}
        self.next_transaction = 1
        self.incoming = bytearray()
        self.mail: deque[tuple[bytes, bytes | None]] = deque()  # (message, the event in it)
        self.events_waiting: set[bytes] = set()
        self.bytes_waiting = 0
        self.replies_waiting = 0
        self.gone = False  # nobody will read any more

    @property
    def domid(self) -> int:
        return self.caller.domid

    @property
    def home(self) -> str:
        """Where relative paths start."""
        return f"/local/domain/{self.domid}"

    @property
    def must_read_first(self) -> bool:
        """Whether the party has to read replies before it may ask more."""
        if self.caller.privileged:
            return False
        return self.replies_waiting >= self.accounts.quotas.outstanding or self.accounts.stalled(self.domid)

    def absolute(self, path: str) -> str:
        """The absolute path that a request's path stands for."""
        return path if path.startswith(("/", "@")) else f"{self.home}/{path}"

    def transaction(self, number: int) -> Transaction | None:
        """The transaction a request names; None for number 0. Raises StoreError(ENOENT)."""
        if number == 0:
            return None
        try:
            return self.transactions[number]
        except KeyError:
            raise StoreError("ENOENT") from None

    # -- from it ---------------------------------------------------------------------------------------------
    def take(self) -> Message | None:
        """The first whole request of `incoming`, taken out of it. Raises TooLong."""
        if len(self.incoming) < HEADER:
            return None
        kind, req_id, tx_id, length = XSD_SOCKMSG_CODEC.unpack_from(self.incoming)
        if length > XENSTORE_PAYLOAD_MAX:
            raise TooLong
        if len(self.incoming) < HEADER + length:
            return None
        payload = bytes(self.incoming[HEADER : HEADER + length])
        del self.incoming[: HEADER + length]
        return Message(kind, req_id, tx_id, payload)

    # -- to it -----------------------------------------------------------------------------------------------
    def reply(self, kind: int, req_id: int, tx_id: int, payload: bytes) -> None:
        """Queue an answer."""
        if len(payload) > XENSTORE_PAYLOAD_MAX:
            self.reply_error(req_id, tx_id, "E2BIG")
        elif len(payload) > SMALL and self.accounts.refuses(self.domid, HEADER + len(payload)):
            self.reply_error(req_id, tx_id, "ENOMEM")
        else:
            self._queue(XSD_SOCKMSG_CODEC.pack(kind, req_id, tx_id, len(payload)) + payload, None)

    def reply_error(self, req_id: int, tx_id: int, name: str) -> None:
        """Queue an error."""
        payload = (name if name in XSD_ERRORS else "EINVAL").encode() + b"\0"
        self._queue(XSD_SOCKMSG_CODEC.pack(XS_ERROR, req_id, tx_id, len(payload)) + payload, None)

    def event(self, watch: Watch, path: str) -> None:
        """Queue a watch event."""
        payload = watch.told(path).encode("latin-1") + b"\0" + watch.token + b"\0"
        if len(payload) > XENSTORE_PAYLOAD_MAX or (payload in self.events_waiting and not path.startswith("@")):
            return
        size = HEADER + len(payload)
        # Tools are domain 0's, which has no quota; yet none of them shall have us keep more than a domain may.
        if self.accounts.refuses(self.domid, size) or self.bytes_waiting + size > self.accounts.quotas.memory:
            return
        self.events_waiting.add(payload)
        self._queue(XSD_SOCKMSG_CODEC.pack(XS_WATCH_EVENT, 0, 0, len(payload)) + payload, payload)

    def _queue(self, message: bytes, event: bytes | None) -> None:
        if self.gone:
            return
        self.mail.append((message, event))
        self.bytes_waiting += len(message)
        self.replies_waiting += event is None
        self.accounts.charge(self.domid, len(message))
        self.wake()

    def next_mail(self) -> bytes:
        """The next message to send, taken from the queue; empty when there is none."""
        if not self.mail:
            return b""
        message, event = self.mail.popleft()
        self.bytes_waiting -= len(message)
        self.accounts.charge(self.domid, -len(message))
        if event is None:
            self.replies_waiting -= 1
        else:
            self.events_waiting.discard(event)
        return message

    def drop_mail(self) -> None:
        """Drop all messages that wait to be sent, and the part of a request that has come."""
        while self.mail:
            self.next_mail()
        self.incoming.clear()
