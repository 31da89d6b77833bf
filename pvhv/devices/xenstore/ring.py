# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's way to the store: messages as bytes through two queues in one shared page.

The guest owns half of the indices and may write anything into them, and into a message's header. Indices
further apart than the queue is long, or a payload longer than allowed, end the connection: its page says why
in `error`, and nothing from it is looked at again until the guest asks for a reconnection, or is introduced anew.
Nothing here waits: requests that are there are taken, messages that have room are put, and the guest's next
notification makes us go on.

Both features of the page are offered, as docs/misc/xenstore-ring.txt has them; of Xen 4.17's two daemons the one in
OCaml offers reconnection, and the one in C sets `error` without saying so.

Read beside it: tools/xenstore/xenstored_domain.c (readchn, writechn, domain_conn_reset).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
    XenstoreDomainInterface,
)
from pvhv.devices.xenstore.connection import HEADER, TooLong
from pvhv.devices.xenstore.permissions import Caller
from pvhv.devices.xenstore.requests import processing
from pvhv.devices.xenstore.store import Store
from pvhv.machine.x86 import MASK32

REQ = XenstoreDomainInterface.req.offset
RSP = XenstoreDomainInterface.rsp.offset
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, FEATURES, CONNECTION, ERROR = (
    getattr(XenstoreDomainInterface, name).offset // 4
    for name in ("req_cons", "req_prod", "rsp_cons", "rsp_prod", "server_features", "connection", "error")
)

LOOK_COST = 10


class Ring:
    """A domain's connection. `page` is the shared page, `notify` signals the guest's port."""

    def __init__(self, store: Store, domid: int, page: memoryview, notify: Callable[[], None]) -> None:
        self.store = store
        self.domid = domid
        self.bytes = page
        self.words = page.cast("I")
        self.notify = notify
        self.connection = store.connect(Caller(domid), self._mail_came)
        self.outgoing = b""
        self.broken = False
        self.gone = False
        self._pumping = False
        self._again = False  # it notified us since we looked
        self.words[FEATURES] = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR
        store.arrived(self)

    def pump(self) -> None:
        """The guest signalled: take its requests, answer them, send what is queued."""
        self._again = True
        if not self._pumping and not self.gone:
            self._pumping = True
            self.store.run(self._work(), self.domid)

    def _work(self) -> Iterator[int]:
        try:
            while self._again and not self.gone:
                self._again = False
                if self.words[CONNECTION] == XENSTORE_RECONNECT:
                    self.reset()
                    self.reconnected()
                moved = True
                while moved and not self.broken:
                    moved = self._take()
                    yield LOOK_COST
                    yield from self._handle()
                    moved = (not self.broken and self._put()) or moved
                    if moved and not self.gone:
                        self.notify()
        finally:
            self._pumping = False

    def close(self) -> None:
        """The domain is gone."""
        self.store.release(self.domid)

    def closed(self) -> None:
        """The store has dropped the domain: its page is not touched any more."""
        self.broken = self.gone = self.connection.gone = True
        self.words.release()
        self.notify = self.connection.wake = lambda: None

    def reset(self) -> None:
        """Begin anew, without requests, without messages, with empty queues. (domain_conn_reset)"""
        self.store.disconnect(self.connection)
        self.outgoing = b""
        for index in (REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD):
            self.words[index] = 0

    def reconnected(self) -> None:
        """Signal the guest that it is connected again, if it asked for that."""
        self.words[ERROR] = XENSTORE_ERROR_NONE
        self.broken = False
        if self.words[CONNECTION] == XENSTORE_RECONNECT:
            self.words[CONNECTION] = XENSTORE_CONNECTED
            self.notify()

    def _mail_came(self) -> None:
        """Another party's request made an event for this domain: send it. No request is taken here."""
        if not self._pumping and self._put():
            self.notify()

    def _fail(self, reason: int) -> None:
        """The guest broke the protocol: write the reason into its page, and take no more requests.
        (ignore_connection)"""
        self.broken = True
        self.words[ERROR] = reason
        self.store.disconnect(self.connection)
        self.outgoing = b""
        self.notify()

    def _take(self) -> bool:
        """Move request bytes out of the ring. Returns whether there were any."""
        incoming = self.connection.incoming
        if self.store.accounts.stalled(self.domid):
            self.store.stalled.add(self)
        if self.connection.must_read_first or len(incoming) >= HEADER + XENSTORE_PAYLOAD_MAX:
            return False
        cons, prod = self.words[REQ_CONS], self.words[REQ_PROD]
        size = (prod - cons) & MASK32
        if size > XENSTORE_RING_SIZE:
            self._fail(XENSTORE_ERROR_RINGIDX)
            return False
        start = cons % XENSTORE_RING_SIZE
        first = min(size, XENSTORE_RING_SIZE - start)
        incoming += self.bytes[REQ + start : REQ + start + first]
        incoming += self.bytes[REQ : REQ + size - first]
        self.words[REQ_CONS] = (cons + size) & MASK32
        return bool(size)

    def _handle(self) -> Iterator[int]:
        while not self.broken and not self.connection.must_read_first:
            try:
                message = self.connection.take()
            except TooLong:
                self._fail(XENSTORE_ERROR_PROTO)
                return
            if message is None:
                return
            yield from processing(self.store, self.connection, *message)

    def _put(self) -> bool:
        """Move waiting messages into the ring. Returns whether any byte found room."""
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
