# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's way to the store: messages as bytes through two queues in one shared page.

The guest owns half of the indices and may write anything into them, and into a message's header. Indices
further apart than the queue is long, or a payload longer than allowed, end the connection: its page says why
in `error`, and nothing from it is looked at again until the guest asks for a reconnection. Nothing here
waits: what is there is taken, what has room is put, and the guest's next notification brings us back.

Read beside it: tools/xenstore/xenstored_domain.c (readchn, writechn, domain_conn_reset),
docs/misc/xenstore-ring.txt.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.abi.io.xs_wire import (
    XENSTORE_CONNECTED,
    XENSTORE_ERROR_NONE,
    XENSTORE_ERROR_PROTO,
    XENSTORE_ERROR_RINGIDX,
    XENSTORE_PAYLOAD_MAX,
    XENSTORE_RECONNECT,
    XENSTORE_RING_SIZE,
    XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
    XSD_SOCKMSG_CODEC,
    XenstoreDomainInterface,
)
from pvhv.devices.xenstore.connection import Connection
from pvhv.devices.xenstore.daemon import Xenstore
from pvhv.devices.xenstore.permissions import Caller
from pvhv.devices.xenstore.requests import process

REQ = XenstoreDomainInterface.req.offset
RSP = XenstoreDomainInterface.rsp.offset
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, FEATURES, CONNECTION, ERROR = (
    getattr(XenstoreDomainInterface, name).offset // 4
    for name in ("req_cons", "req_prod", "rsp_cons", "rsp_prod", "server_features", "connection", "error")
)
HEADER = XSD_SOCKMSG_CODEC.size
MASK32 = 0xFFFF_FFFF


class Ring:
    """A domain's connection. `page` is the shared page, `notify` signals the guest's port."""

    def __init__(self, store: Xenstore, domid: int, page: memoryview, notify: Callable[[], None]) -> None:
        self.store = store
        self.bytes = page
        self.words = page.cast("I")
        self.notify = notify
        self.connection = Connection(Caller(domid), self._mail_came)
        self.incoming = bytearray()
        self.outgoing = b""
        self.broken = False
        self._pumping = False
        self.words[FEATURES] = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR
        store.introduce(self.connection)

    def pump(self) -> None:
        """The guest notified us: take its requests, answer them, send what is queued."""
        if self._pumping:
            return
        self._pumping = True
        try:
            if self.words[CONNECTION] == XENSTORE_RECONNECT:
                self._reconnect()
            moved = True
            while moved and not self.broken:
                moved = self._take()
                self._handle()
                moved = self._put() or moved
                if moved:
                    self.notify()
        finally:
            self._pumping = False

    def close(self) -> None:
        """The domain is gone."""
        self.broken = True
        self.store.release(self.connection.caller.domid)

    def _mail_came(self) -> None:
        """An event for this domain, out of somebody else's request: send it, and look at nothing else."""
        if not self._pumping and self._put():
            self.notify()

    def _reconnect(self) -> None:
        self.connection.reset()
        self.connection.mail.clear()
        self.connection = Connection(self.connection.caller, self._mail_came)
        self.store.connections[self.connection.caller.domid] = self.connection
        self.incoming.clear()
        self.outgoing = b""
        for index in (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD):
            self.words[index] = 0
        self.words[ERROR] = XENSTORE_ERROR_NONE
        self.words[CONNECTION] = XENSTORE_CONNECTED
        self.broken = False
        self.notify()

    def _fail(self, reason: int) -> None:
        """The guest broke the protocol: say so in its page and listen no more. (ignore_connection)"""
        self.broken = True
        self.words[ERROR] = reason
        self.connection.reset()
        self.notify()

    def _take(self) -> bool:
        """Move request bytes out of the ring; whether there were any."""
        if self.connection.full or len(self.incoming) >= HEADER + XENSTORE_PAYLOAD_MAX:
            return False
        cons, prod = self.words[REQ_CONS], self.words[REQ_PROD]
        size = (prod - cons) & MASK32
        if size > XENSTORE_RING_SIZE:
            self._fail(XENSTORE_ERROR_RINGIDX)
            return False
        start = cons % XENSTORE_RING_SIZE
        first = min(size, XENSTORE_RING_SIZE - start)
        self.incoming += self.bytes[REQ + start : REQ + start + first]
        self.incoming += self.bytes[REQ : REQ + size - first]
        self.words[REQ_CONS] = (cons + size) & MASK32
        return bool(size)

    def _handle(self) -> None:
        while not self.broken and not self.connection.full and len(self.incoming) >= HEADER:
            kind, req_id, tx_id, length = XSD_SOCKMSG_CODEC.unpack_from(self.incoming)
            if length > XENSTORE_PAYLOAD_MAX:
                self._fail(XENSTORE_ERROR_PROTO)
                return
            if len(self.incoming) < HEADER + length:
                return
            payload = bytes(self.incoming[HEADER : HEADER + length])
            del self.incoming[: HEADER + length]
            process(self.store, self.connection, kind, req_id, tx_id, payload)

    def _put(self) -> bool:
        """Move waiting messages into the ring; whether any byte found room."""
        moved = False
        while not self.broken:
            self.outgoing = self.outgoing or self.connection.next_mail()
            if not self.outgoing:
                break
            cons, prod = self.words[RSP_CONS], self.words[RSP_PROD]
            used = (prod - cons) & MASK32
            if used > XENSTORE_RING_SIZE:
                self._fail(XENSTORE_ERROR_RINGIDX)
                break
            start = prod % XENSTORE_RING_SIZE
            size = min(len(self.outgoing), XENSTORE_RING_SIZE - used, XENSTORE_RING_SIZE - start)
            if not size:
                break
            self.bytes[RSP + start : RSP + start + size] = self.outgoing[:size]
            self.outgoing = self.outgoing[size:]
            self.words[RSP_PROD] = (prod + size) & MASK32
            moved = True
        return moved
