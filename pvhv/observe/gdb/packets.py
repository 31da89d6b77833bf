# SPDX-License-Identifier: GPL-2.0-or-later
"""How GDB's remote protocol is written: packets in bytes, and nothing of what they say.

A packet is `$payload#checksum`, two hexadecimal digits of the sum of the payload's bytes; the other side says `+`, or
`-` for "again", unless both have agreed to leave that out. The bytes `$ # } *` stand in a payload behind a `}`, with
bit 5 turned. A byte 0x03 between packets is an interrupt. Whatever else comes between packets is passed over, and a
packet that is longer than we said we take is dropped as a whole: what comes can waste its own time, and no more.

Read beside it: the appendix "Remote Protocol" of GDB's manual (Overview, Packet Acknowledgment, Interrupts).
"""

from __future__ import annotations

from enum import Enum

PACKET_SIZE = 0x4000  # the longest payload we take, as written
INTERRUPT = 3
_SPECIAL = b"$#}*"
_START, _END, _ESCAPE = b"$#}"


class Sign(Enum):
    """What comes besides packets."""

    INTERRUPT = "interrupt"
    ACKNOWLEDGED = "+"
    AGAIN = "-"
    DAMAGED = "damaged"  # a packet whose checksum is another, or that was too long: to be sent again


class Reader:
    """Bytes as they come in; packets' payloads (unescaped) and signs as they are whole."""

    def __init__(self) -> None:
        self._packet: bytearray | None = None  # the one that is being read
        self._too_long = False
        self._checksum = b""
        self._in_checksum = False

    def feed(self, data: bytes) -> list[bytes | Sign]:
        """What `data` completes."""
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
    """A payload as it was before it was written."""
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
    """A payload as it is written."""
    if not any(byte in plain for byte in _SPECIAL):
        return plain
    return b"".join(bytes([_ESCAPE, byte ^ 0x20]) if byte in _SPECIAL else bytes([byte]) for byte in plain)


def packet(payload: bytes | str) -> bytes:
    """A packet."""
    written = escape(payload.encode() if isinstance(payload, str) else payload)
    return b"$%b#%02x" % (written, sum(written) & 0xFF)
