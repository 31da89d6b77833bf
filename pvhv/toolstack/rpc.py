# SPDX-License-Identifier: GPL-2.0-or-later
"""How clients and the host process talk: msgpack maps, each after its length in four bytes.

    {"id": 7, "call": "list", "args": {...}}      a client asks; ids are its own
    {"id": 7, "item": ...}                        an answer that comes in pieces, none to many
    {"id": 7, "ok": ...}                          the answer, which ends it
    {"id": 7, "error": {"message", "hint", "status"}}
    {"cancel": 7}                                 a client wants no more of it

The first call on a connection is "hello". This room knows bytes and maps, neither sockets nor verbs.
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from pvhv.toolstack.errors import ToolstackError

PROTOCOL = 1
LENGTH = struct.Struct(">I")
LARGEST = 16 << 20

Message = dict[str, Any]


class ProtocolError(Exception):
    """What came is no message: the connection is of no more use."""


def pack(message: Message) -> bytes:
    """A message as it is sent."""
    body: bytes = msgpack.packb(message, use_bin_type=True, unicode_errors="surrogateescape")
    return LENGTH.pack(len(body)) + body


class Unpacker:
    """Bytes as they come in, messages as they are whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes. Raises ProtocolError."""
        buffer = self._buffer
        buffer += data
        messages = []
        while len(buffer) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(buffer)
            if size > LARGEST:
                raise ProtocolError(f"a message of {size} bytes")
            end = LENGTH.size + size
            if len(buffer) < end:
                break
            body = bytes(buffer[LENGTH.size : end])
            try:
                message = msgpack.unpackb(body, raw=False, unicode_errors="surrogateescape")
            except (ValueError, msgpack.exceptions.UnpackException) as error:
                raise ProtocolError(f"not msgpack: {error}") from None
            if not isinstance(message, dict):
                raise ProtocolError("not a map")
            messages.append(message)
            del buffer[:end]
        return messages


def error_to_wire(error: ToolstackError) -> dict[str, Any]:
    """An error as it is sent."""
    return {"message": error.message, "hint": error.hint, "status": error.status}


def error_from_wire(plain: dict[str, Any]) -> ToolstackError:
    """The reverse."""
    return ToolstackError(plain["message"], plain.get("hint", ""), plain.get("status", 1))
