# SPDX-License-Identifier: GPL-2.0-or-later
"""The encoding of GDB's remote protocol: from bytes to packets and back. What packets mean is in server.py.

A packet is `$payload#checksum`, two hexadecimal digits of the sum of the payload's bytes; the other side says `+`, or
`-` for "again", unless both have agreed to leave that out. The bytes `$ # } *` stand in a payload behind a `}`, with
bit 5 turned. A byte 0x03 between packets is an interrupt. Any other byte between packets is ignored, and a
packet that is longer than we announced is dropped as a whole.

Read beside it: the appendix "Remote Protocol" of GDB's manual (Overview, Packet Acknowledgment, Interrupts).
"""

from __future__ import annotations

from enum import Enum

PACKET_SIZE = 0x4000  # the longest payload we take, as written
INTERRUPT = 3
_SPECIAL = b"$#}*"
_START, _END, _ESCAPE = b"$#}"


class Sign(Enum):
    """What GDB sends besides packets."""

    INTERRUPT = "interrupt"
    ACKNOWLEDGED = "+"
    AGAIN = "-"
    DAMAGED = "damaged"  # a packet whose checksum is another, or that was too long: to be sent again


class Reader:
    """Takes bytes as they come in, and gives signs and the unescaped payloads of complete packets."""

    def __init__(self) -> None:
        self._packet: bytearray | None = None  # the one that is being read
        self._too_long = False
        self._checksum = b""
        self._in_checksum = False

    def feed(self, data: bytes) -> list[bytes | Sign]:
        """The packets and signs that `data` completes."""
        found: list[bytes | Sign] = []
        for byte in data:
            if self._packet is None:
                self._between(byte, found)
            elif self._in_checksum:
                self._checksum += bytes([byte])
                if len(self._checksum) == 2:
                    found.append(self._whole())
            elif byte == _START:  # the rest of the one before was lost
                self._begin()
            elif byte == _END:
                self._in_checksum = True
            elif len(self._packet) < PACKET_SIZE:
                self._packet.append(byte)
            else:
                self._too_long = True
        return found

    def _between(self, byte: int, found: list[bytes | Sign]) -> None:
        if byte == _START:
            self._begin()
        elif byte == INTERRUPT:
            found.append(Sign.INTERRUPT)
        elif byte == ord("+"):
            found.append(Sign.ACKNOWLEDGED)
        elif byte == ord("-"):
            found.append(Sign.AGAIN)

    def _begin(self) -> None:
        self._packet, self._too_long, self._checksum, self._in_checksum = bytearray(), False, b"", False

    def _whole(self) -> bytes | Sign:
        packet, self._packet = self._packet, None
        assert packet is not None
        try:
            right = int(self._checksum, 16) == sum(packet) & 0xFF
        except ValueError:
            right = False
        return unescape(packet) if right and not self._too_long else Sign.DAMAGED


def unescape(payload: bytes | bytearray) -> bytes:
    """A payload without its escapes."""
    if _ESCAPE not in payload:
        return bytes(payload)
    plain = bytearray()
    escaped = False
    for byte in payload:
        if byte == _ESCAPE and not escaped:
            escaped = True
        else:
            plain.append(byte ^ 0x20 if escaped else byte)
            escaped = False
    return bytes(plain)


def escape(plain: bytes) -> bytes:
    """A payload with escapes, as it is sent."""
    if not any(byte in plain for byte in _SPECIAL):
        return plain
    return b"".join(bytes([_ESCAPE, byte ^ 0x20]) if byte in _SPECIAL else bytes([byte]) for byte in plain)


def packet(payload: bytes | str) -> bytes:
    """A packet with this payload, as bytes."""
    written = escape(payload.encode() if isinstance(payload, str) else payload)
    return b"$%b#%02x" % (written, sum(written) & 0xFF)
