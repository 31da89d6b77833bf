# SPDX-License-Identifier: GPL-2.0-or-later
"""The console's ring: one page, two queues of bytes.

The guest may write anything into the page. If the indices are further apart than the queue is long, nothing is moved
until they make sense again.

Read beside it: tools/console/daemon/io.c (buffer_append, handle_tty_read).
"""

from __future__ import annotations

from pvhv.abi.io.console import XenconsInterface
from pvhv.machine.x86 import MASK32

IN, OUT = getattr(XenconsInterface, "in").offset, XenconsInterface.out.offset
IN_SIZE, OUT_SIZE = getattr(XenconsInterface, "in").size, XenconsInterface.out.size
IN_CONS, IN_PROD, OUT_CONS, OUT_PROD = (
    getattr(XenconsInterface, name).offset // 4 for name in ("in_cons", "in_prod", "out_cons", "out_prod")
)


class Ring:
    """Domain 0's end of the queues in `page`."""

    def __init__(self, page: memoryview) -> None:
        self._bytes, self._words = page, page.cast("I")

    def said(self) -> int:
        """How many bytes of output are in the queue; 0 if the indices make no sense."""
        size = (self._words[OUT_PROD] - self._words[OUT_CONS]) & MASK32
        return size if size <= OUT_SIZE else 0

    def take(self, size: int) -> bytes:
        """Take `size` bytes of output from the queue."""
        cons = self._words[OUT_CONS]
        start = cons % OUT_SIZE
        data = bytes(self._bytes[OUT + start : OUT + min(start + size, OUT_SIZE)])
        data += bytes(self._bytes[OUT : OUT + size - len(data)])
        self._words[OUT_CONS] = (cons + size) & MASK32
        return data

    def give(self, data: bytes) -> int:
        """Put input into the queue; returns how many bytes found room."""
        cons, prod = self._words[IN_CONS], self._words[IN_PROD]
        used = (prod - cons) & MASK32
        if used >= IN_SIZE:
            return 0
        data = data[: IN_SIZE - used]
        start = prod % IN_SIZE
        first = data[: IN_SIZE - start]
        self._bytes[IN + start : IN + start + len(first)] = first
        self._bytes[IN : IN + len(data) - len(first)] = data[len(first) :]
        self._words[IN_PROD] = (prod + len(data)) & MASK32
        return len(data)

    def close(self) -> None:
        """Let go of the page; it is not touched afterwards."""
        self._words.release()
