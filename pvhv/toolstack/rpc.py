# SPDX-License-Identifier: GPL-2.0-or-later
"""How clients and the host process talk: msgpack maps, each after its length in four bytes.

    {"id": 7, "call": "list", "args": {...}}      a client asks; ids are its own
    {"id": 7, "item": ...}                        an answer that comes in pieces, none to many
    {"id": 7, "ok": ...}                          the answer, which ends it
    {"id": 7, "error": {"message", "hint", "status"}}
    {"cancel": 7}                                 a client wants no more of it

The first call on a connection is "hello". This module knows bytes and maps, but neither sockets nor verbs.
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from pvhv.toolstack.errors import ToolstackError

LENGTH = struct.Struct(">I")
LARGEST = 16 << 20  # of an answer
LARGEST_REQUEST = 2 << 20  # with what was typed ahead, or requests to the store
LARGEST_GREETING = 4 << 10  # of the first one, when nobody knows yet who it is

# What a request may be made of: none is wide or deep, and no text in it is long.
MOST_CONTAINERS = 512
LONGEST_LIST, LARGEST_MAP, LONGEST_TEXT = 1024, 256, 64 << 10

Message = dict[str, Any]


class ProtocolError(Exception):
    """What came is not a message. The connection cannot be used any more."""


def pack(message: Message) -> bytes:
    """A message as it is sent."""
    body: bytes = msgpack.packb(message, use_bin_type=True, unicode_errors="surrogateescape")
    return LENGTH.pack(len(body)) + body


def require_short(arguments: Message) -> None:
    """Check that the host process takes texts so long; at a longer one it hangs up. Raises ToolstackError."""
    for value in arguments.values():
        for each in value if isinstance(value, (list, tuple)) else (value,):
            size = len(each.encode(errors="replace")) if isinstance(each, str) else 0
            if size > LONGEST_TEXT:
                raise ToolstackError(f"a word of {size} bytes is too long: pvhvd takes {LONGEST_TEXT} at most")


class Unpacker:
    """Takes bytes as they come in, and gives messages when they are complete."""

    def __init__(self, largest: int = LARGEST) -> None:
        self.largest = largest
        self.sizes: list[int] = []  # of the messages that came last
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes. Raises ProtocolError."""
        buffer = self._buffer
        buffer += data
        messages = []
        self.sizes = []
        while len(buffer) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(buffer)
            if size > self.largest:
                raise ProtocolError(f"a message of {size} bytes")
            end = LENGTH.size + size
            if len(buffer) < end:
                break
            message = self._read(bytes(buffer[LENGTH.size : end]))
            if not isinstance(message, dict):
                raise ProtocolError("not a map")
            messages.append(message)
            self.sizes.append(size)
            del buffer[:end]
        return messages

    def _read(self, body: bytes) -> Any:
        return _unpacked(body)


class RequestUnpacker(Unpacker):
    """The same for requests, which have to be small: a larger one is refused while it is read. The first is a
    greeting."""

    def __init__(self) -> None:
        super().__init__(LARGEST_GREETING)
        self._containers = 0

    def greeted(self) -> None:
        """The client has greeted: from now on requests may be larger."""
        self.largest = LARGEST_REQUEST

    def _read(self, body: bytes) -> Any:
        self._containers = MOST_CONTAINERS
        return _unpacked(
            body, object_hook=self._count, list_hook=self._count, max_array_len=LONGEST_LIST, max_map_len=LARGEST_MAP,
            max_str_len=LONGEST_TEXT, max_ext_len=0,
        )  # fmt: skip

    def _count(self, container: Any) -> Any:
        self._containers -= 1
        if self._containers < 0:
            raise ProtocolError("a message of too many parts")
        return container


def _unpacked(body: bytes, **limits: Any) -> Any:
    try:
        return msgpack.unpackb(body, raw=False, unicode_errors="surrogateescape", **limits)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError(f"not msgpack: {error}") from None


def error_to_wire(error: ToolstackError) -> dict[str, Any]:
    """An error as it is sent."""
    return {"message": error.message, "hint": error.hint, "status": error.status}


def error_from_wire(plain: dict[str, Any]) -> ToolstackError:
    """The reverse of `error_to_wire`."""
    return ToolstackError(plain["message"], plain.get("hint", ""), plain.get("status", 1))
