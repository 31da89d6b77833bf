# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical memory: one lazily committed mapping, seen as frames, words or bytes.

Frame `mfn` is bytes [mfn * 4096, mfn * 4096 + 4096) of guest-physical memory, and guest-physical
address 0 is byte 0 here: machine addresses are offsets.  Every pCPU maps the same bytes, so a
frame written by a guest on one is seen by Python and by guests on another.

Invariant: nothing here moves or shrinks while a Ram lives (engines hold its address).
It does not know who owns a frame (core/mm/frames.py does), nor that host-side writes leave
translated code stale (`PCPU.forget_code`).
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 4096
WORDS_PER_FRAME: Final = 512


class Ram:
    """`words[mfn * 512 + i]` is word i of a frame; `bytes` is the same memory, byte by byte."""

    def __init__(self, frames: int) -> None:
        if frames <= 0:
            raise ValueError(f"a machine needs memory, not {frames} frames")
        size = frames * PAGE_SIZE
        if hasattr(mmap, "MAP_ANONYMOUS"):
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
            self._memory = mmap.mmap(-1, size, flags=flags)
        else:  # Windows
            self._memory = mmap.mmap(-1, size)
        self.frames: Final = frames
        self.size: Final = size
        self.bytes: Final = memoryview(self._memory)
        self.words: Final = self.bytes.cast("Q")
        self.address: Final = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    def frame(self, mfn: int) -> memoryview:
        """One frame's bytes, writable in place."""
        return self.bytes[mfn * PAGE_SIZE : (mfn + 1) * PAGE_SIZE]

    def discard(self, mfn: int, count: int = 1) -> None:
        """Set frames to zero; where the host allows it, they use no memory until they are touched again."""
        start, length = mfn * PAGE_SIZE, count * PAGE_SIZE
        if mmap.PAGESIZE == PAGE_SIZE and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED, start, length)
        else:
            self.bytes[start : start + length] = bytes(length)
