# SPDX-License-Identifier: GPL-2.0-or-later
"""A tool's end of a connection to the store, for tests."""

from __future__ import annotations

from pvhv.abi.io import xs_wire as wire
from pvhv.abi.io.xs_wire import XSD_SOCKMSG_CODEC
from pvhv.devices.xenstore.daemon import Xenstore
from pvhv.devices.xenstore.sockets import Socket


class Tool:
    """Asks as domain 0; an error comes back as its name, without the NUL."""

    def __init__(self, store: Xenstore) -> None:
        self.socket = Socket(store)
        self.events: list[tuple[str, str]] = []

    def ask(self, kind: int, *strings: str | bytes, raw: bytes = b"", tx: int = 0) -> bytes:
        payload = b"".join((each.encode() if isinstance(each, str) else each) + b"\0" for each in strings) + raw
        self.socket.feed(XSD_SOCKMSG_CODEC.pack(kind, 7, tx, len(payload)) + payload)
        answers = self.messages()
        assert len(answers) == 1
        return answers[0].removesuffix(b"\0") if kind not in (wire.XS_READ, wire.XS_DIRECTORY) else answers[0]

    def messages(self) -> list[bytes]:
        """What came, events put aside."""
        self.socket.lay_out()
        data, found = self.socket.take(), []
        while data:
            kind, number, _tx, length = XSD_SOCKMSG_CODEC.unpack_from(data)
            payload, data = data[16 : 16 + length], data[16 + length :]
            if kind == wire.XS_WATCH_EVENT:
                path, token, _rest = payload.split(b"\0")
                self.events.append((path.decode(), token.decode()))
            else:
                assert number == 7
                found.append(payload)
        return found

    def take_events(self) -> list[tuple[str, str]]:
        assert self.messages() == []
        events, self.events = self.events, []
        return events

    def begin(self) -> int:
        return int(self.ask(wire.XS_TRANSACTION_START, ""))

    def end(self, tx: int, commit: bool = True) -> bytes:
        return self.ask(wire.XS_TRANSACTION_END, "T" if commit else "F", tx=tx)
