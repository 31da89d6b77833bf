# SPDX-License-Identifier: GPL-2.0-or-later
"""The store as domain 0's programs use it: requests and answers in Python's values, over a connection to pvhvd.

A request waits for its answer. Many requests can be on their way together (`ask_all`), so that a whole tree is read
quickly. Watch events that come meanwhile are kept for `next_event`. An error is a StoreFault: the errno's name as the
store gave it, and a sentence.

Read beside it: tools/libs/store/xs.c.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from pvhv.abi.io.xs_wire import (
    XENSTORE_PAYLOAD_MAX,
    XS_DIRECTORY,
    XS_DIRECTORY_PART,
    XS_ERROR,
    XS_GET_PERMS,
    XS_MKDIR,
    XS_READ,
    XS_RM,
    XS_SET_PERMS,
    XS_TRANSACTION_END,
    XS_TRANSACTION_START,
    XS_WATCH,
    XS_WATCH_EVENT,
    XS_WRITE,
    XSD_SOCKMSG_CODEC,
)
from pvhv.toolstack.client import ANSWER_WITHIN_S, Client
from pvhv.toolstack.errors import ToolstackError

T = TypeVar("T")
HEADER = XSD_SOCKMSG_CODEC.size
TOGETHER = 256  # requests on their way at a time

PATHS = "a path is made of letters, digits, - _ @ and /, without // and without / at its end"
WORDS = {
    "ENOENT": ("there is no such node", "`pvhv xenstore-ls -f` shows what there is"),
    "EINVAL": ("the store cannot make sense of it", PATHS),
    "EACCES": ("that is not allowed", "`pvhv xenstore-ls -p` shows who may do what"),
    "EPERM": ("that is not allowed", "`pvhv xenstore-ls -p` shows who may do what"),
    "EEXIST": ("it is there already", ""),
    "E2BIG": ("it is too long for a message", f"a path and a value have {XENSTORE_PAYLOAD_MAX} bytes together"),
    "ENOSPC": ("a quota of the store is used up", "remove nodes that nobody needs any more"),
    "ENOMEM": ("a domain's memory in the store is used up", "remove nodes of it that nobody needs any more"),
    "EIO": ("the owner's memory in the store is used up", "remove nodes of its that nobody needs any more"),
    "EAGAIN": ("somebody else changed it meanwhile", "try again"),
}


class StoreFault(ToolstackError):
    """The store answered with an error; `name` is the errno's."""

    def __init__(self, name: str, doing: str = "") -> None:
        words, hint = WORDS.get(name, ("the store refuses", ""))
        super().__init__(f"{doing}: {words} ({name})" if doing else f"{words} ({name})", hint)
        self.name = name


class Event(NamedTuple):
    """A watch event: the path that changed, and the watch's token."""

    path: bytes
    token: bytes


class Store:
    """A connection to the store. `transaction` is the transaction that requests belong to, 0 for none."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.number = client.start("xenstore")
        self.transaction = 0
        self.events: deque[Event] = deque()
        self._answers: dict[int, bytes | StoreFault] = {}
        self._incoming = bytearray()
        self._last_id = 0
        self._receive(time.monotonic() + ANSWER_WITHIN_S)  # it is there

    # -- messages --------------------------------------------------------------------------------------------
    def ask_all(self, requests: Sequence[tuple[int, bytes]]) -> list[bytes | StoreFault]:
        """The answers, in the requests' order."""
        answers: list[bytes | StoreFault] = []
        for at in range(0, len(requests), TOGETHER):
            answers += self._ask_some(requests[at : at + TOGETHER])
        return answers

    def _ask_some(self, requests: Sequence[tuple[int, bytes]]) -> list[bytes | StoreFault]:
        data, ids = b"", []
        for kind, payload in requests:
            self._last_id += 1
            ids.append(self._last_id)
            if len(payload) > XENSTORE_PAYLOAD_MAX:
                self._answers[self._last_id] = StoreFault("E2BIG")
                continue
            data += XSD_SOCKMSG_CODEC.pack(kind, self._last_id, self.transaction, len(payload)) + payload
        self.client.start("xenstore_feed", connection=self.number, data=data)
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while not all(number in self._answers for number in ids):
            self._receive(deadline)
        return [self._answers.pop(number) for number in ids]

    def ask(self, kind: int, *strings: bytes, raw: bytes = b"") -> bytes:
        """Send one request, and wait for its answer. Raises StoreFault, ToolstackError."""
        (answer,) = self.ask_all([(kind, b"".join(string + b"\0" for string in strings) + raw)])
        if isinstance(answer, StoreFault):
            raise answer
        return answer

    def _receive(self, deadline: float | None) -> None:
        """Receive one message. Raises ToolstackError."""
        try:
            message = self.client.receive(deadline)
        except TimeoutError:
            raise ToolstackError(
                f"pvhvd's store did not answer within {ANSWER_WITHIN_S:.0f} s",
                f"its log may say why: {self.client.paths.log}",
            ) from None
        if message.get("id") != self.number:
            self.client.settle(message)
        elif "item" not in message:
            self.client.result(message)
            raise ToolstackError("pvhvd's store ended the connection")
        else:
            self._incoming += message["item"].get("bytes", b"")
            self._take()

    def _take(self) -> None:
        at = 0
        while len(self._incoming) - at >= HEADER:
            kind, number, _tx_id, length = XSD_SOCKMSG_CODEC.unpack_from(self._incoming, at)
            if len(self._incoming) - at < HEADER + length:
                break
            payload = bytes(self._incoming[at + HEADER : at + HEADER + length])
            at += HEADER + length
            if kind == XS_WATCH_EVENT:
                path, token = payload.split(b"\0")[:2]
                self.events.append(Event(path, token))
            elif kind == XS_ERROR:
                self._answers[number] = StoreFault(payload.rstrip(b"\0").decode("ascii", "replace"))
            else:
                self._answers[number] = payload
        del self._incoming[:at]

    # -- what can be done ------------------------------------------------------------------------------------
    def read(self, path: bytes) -> bytes:
        """A node's value."""
        return self.ask(XS_READ, path)

    def write(self, path: bytes, value: bytes) -> None:
        """Set a node's value; the node is made if it is missing."""
        self.ask(XS_WRITE, path, raw=value)

    def mkdir(self, path: bytes) -> None:
        """Make a node, if it is not there."""
        self.ask(XS_MKDIR, path)

    def remove(self, path: bytes) -> None:
        """Remove a node and all below it."""
        self.ask(XS_RM, path)

    def directory(self, path: bytes) -> list[bytes]:
        """The names below a node, in as many parts as it takes."""
        try:
            return self.ask(XS_DIRECTORY, path).split(b"\0")[:-1]
        except StoreFault as fault:
            if fault.name != "E2BIG":
                raise
        while True:
            names = self._directory_in_parts(path)
            if names is not None:
                return names

    def _directory_in_parts(self, path: bytes) -> list[bytes] | None:
        """The names in several parts; None when the node changed between two of them."""
        listed, first = b"", b""
        while True:
            generation, _nul, part = self.ask(XS_DIRECTORY_PART, path, str(len(listed)).encode()).partition(b"\0")
            if first and generation != first:
                return None
            first = generation
            if part == b"\0" or part.endswith(b"\0\0"):
                return (listed + part[:-1]).split(b"\0")[:-1]
            listed += part

    def permissions(self, path: bytes) -> list[str]:
        """A node's permissions (`n0`, `r5`), the owner's first."""
        return self.ask(XS_GET_PERMS, path).decode().split("\0")[:-1]

    def set_permissions(self, path: bytes, permissions: Sequence[str]) -> None:
        """Set a node's permissions."""
        self.ask(XS_SET_PERMS, path, *(each.encode() for each in permissions))

    def watch(self, path: bytes, token: bytes) -> None:
        """Watch a path: an event for each change at or below it, and one at once."""
        self.ask(XS_WATCH, path, token)

    def next_event(self) -> Event:
        """Wait for a watch event."""
        while not self.events:
            self._receive(None)
        return self.events.popleft()

    def together(self, work: Callable[[], T]) -> T:
        """Do `work()` in a transaction. It is repeated until no other change conflicts with it. An error ends the
        transaction."""
        while True:
            self.transaction = int(self.ask(XS_TRANSACTION_START, b"").rstrip(b"\0"))
            try:
                done = work()
                self.ask(XS_TRANSACTION_END, b"T")
            except StoreFault as fault:
                if fault.name == "EAGAIN":
                    continue
                with _whatever_it_says():
                    self.ask(XS_TRANSACTION_END, b"F")
                raise
            finally:
                self.transaction = 0
            return done


@contextmanager
def _whatever_it_says() -> Iterator[None]:
    try:
        yield
    except StoreFault:
        pass
