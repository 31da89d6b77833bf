# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of a guest's output: its beginning, which tells what the guest is, and its end, which tells how it went.

The first `HEAD` bytes are kept for good, and so are the `TAIL` bytes said last. What a guest said in between is counted
and left out.

Read beside it: buffer_append in tools/console/daemon/io.c, which discards the middle as well.
"""

from __future__ import annotations

from collections import deque

HEAD = 256 << 10
TAIL = 1 << 20
PIECE = 2048  # pieces of the tail are joined up to that


class Record:
    """A guest's output: its beginning, its end, and its whole length. Offsets count from the first byte."""

    def __init__(self) -> None:
        self.head = bytearray()
        self.tail: deque[bytearray] = deque()
        self.tail_start = 0  # offset of the tail's first byte
        self.length = 0

    def append(self, data: bytes) -> None:
        """Add output."""
        self.length += len(data)
        room = HEAD - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
            self.tail_start = len(self.head)
        if data:
            if self.tail and len(self.tail[-1]) < PIECE:
                self.tail[-1] += data
            else:
                self.tail.append(bytearray(data))
            while self.length - self.tail_start - len(self.tail[0]) > TAIL:
                self.tail_start += len(self.tail.popleft())

    def read(self, offset: int, size: int) -> tuple[int, bytes]:
        """(offset, bytes) of the first piece that is kept at or after `offset`; about `size` bytes at most."""
        if offset < len(self.head):
            return offset, bytes(self.head[offset : offset + size])
        at = self.tail_start
        if offset < at:
            offset = at
        pieces: list[bytearray] = []
        found = 0
        for piece in self.tail:
            end = at + len(piece)
            if end > offset + found and found < size:
                pieces.append(piece[offset + found - at :] if at < offset + found else piece)
                found += len(pieces[-1])
            elif found >= size:
                break
            at = end
        return offset, b"".join(pieces)

    def everything(self) -> bytes:
        """All output that is kept, with a note in the place of what is not."""
        missing = self.tail_start - len(self.head)
        return bytes(self.head) + (left_out(missing) if missing else b"") + b"".join(self.tail)


def left_out(count: int) -> bytes:
    """The note in the place of `count` bytes that are not kept."""
    return f"\r\n[pvhv: {count} bytes of console output left out]\r\n".encode()
