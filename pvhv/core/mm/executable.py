# SPDX-License-Identifier: GPL-2.0-or-later
"""Instruction-cache coherence: translations made from a frame must be dropped when its bytes change.

The engine translates guest code once and keeps the translation. It notices a store to that code by one of its own
guests, but neither a write by the hypervisor nor a store by a guest on another engine. So `code[mfn]` of the frame
table says whether translations of a frame may exist, and every L1 entry that makes a frame executable is checked here.
The stock engine notices only some of its guests' stores (`sees_stores` is false): with it, every entry that makes a
frame with code writable is checked as well.

Not modelled on the stock engine: code that is changed through the one writable mapping its frame had before it was made
executable (see `made_executable`), because the engine notices only the first such store after a TLB flush; the guest
has to remove or flush that mapping before it runs the new code. Nor is code whose bytes were changed, run, and changed
back before the frame is mapped again.

Writes by the hypervisor, and the watched frames, are the task of pvhv.core.mm.coherence.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.core.mm.frames import CODE_MAPPED, CODE_NONE, CODE_STALE, L1, L4, TYPE_MASK, WRITABLE, FrameTable
from pvhv.core.mm.linear import LinearTables
from pvhv.core.mm.pte import ADDRESS, NX, PRESENT, RW
from pvhv.machine import seam


class Executable:
    """Which frames hold translated code. The hypervisor sets `forget_code` and `watch_code` (coherence.py)."""

    def __init__(self, frames: FrameTable, linear: LinearTables) -> None:
        self.frames = frames
        self.linear = linear
        self.sees_stores = seam.corrected  # the engine, those of its own guests
        self.digests: dict[int, int] = {}  # mfn -> hash of its bytes when it was last made executable
        self.forget_code: Callable[[int], None] = lambda mfn: None
        self.watch_code: Callable[[int, bool], None] = lambda mfn, wanted: None

    def made_executable(self, mfn: int, entry: int, old: int) -> None:
        """`entry`, an executable mapping of `mfn`, is about to be installed: drop translations older than the last
        write.

        A writable alias (another, writable mapping of the frame) may change the code without the stock engine noticing,
        unless the frame is watched. Most kernels have one writable alias of every frame, the map of all memory, and do
        not change code through it; watching all these frames would cost too much. So a frame is watched only if it has
        more writable uses than that one. `old` is the entry that `entry` replaces, whose use is about to be dropped.
        """
        frames = self.frames
        code = frames.code
        if code[mfn] == CODE_STALE and self._changed(mfn):
            self.forget_code(mfn)
        if self.sees_stores:
            code[mfn] = CODE_MAPPED
            return
        writers = frames.type_counts[mfn] if frames.types[mfn] & TYPE_MASK == WRITABLE else 0
        code[mfn] = CODE_STALE if writers else CODE_MAPPED
        if writers > 1:
            own = entry & RW or (old & (PRESENT | RW) == PRESENT | RW and not (old ^ entry) & ADDRESS)
            if writers > (2 if own else 1):
                self.watch_code(mfn, True)

    def _changed(self, mfn: int) -> bool:
        """Whether a frame's bytes differ from those at the last call; compared by their hash.

        A kernel has a writable alias of all its memory, so a program's pages may have been written whenever they are
        mapped again. Nearly always they were not, and the translations serve the next process, too.
        """
        digest = hash(bytes(self.frames.ram.frame(mfn)))
        if self.digests.get(mfn) == digest:
            return False
        self.digests[mfn] = digest
        return True

    def made_writable(self, mfn: int, entry: int, old: int) -> None:
        """`entry`, a writable mapping of a frame that may hold code, is about to replace `old`.

        The frame is watched if another mapping, itself not writable, can make it executable at the same time. (A
        mapping that is both writable and executable cannot be told from a program's data here.)
        """
        frames = self.frames
        frames.code[mfn] = CODE_STALE
        if entry & NX:
            others = frames.refs[mfn] - frames.allocated[mfn] - frames.type_counts[mfn]
            if old & (PRESENT | RW) == PRESENT and not (old ^ entry) & ADDRESS:
                others -= 1
            self.watch_code(mfn, others > 0)

    def retyped(self, mfn: int) -> None:
        """A frame changes its type: the hypervisor will write it, so its translations count as stale."""
        if self.frames.code[mfn] or self._ran_as_code(mfn):
            self.frames.code[mfn] = CODE_STALE

    def freed(self, mfn: int) -> None:
        """A frame was freed or changed its owner: drop its translations."""
        if self.frames.code[mfn] or self._ran_as_code(mfn):
            self.forget_code(mfn)
            self.frames.code[mfn] = CODE_NONE
            self.digests.pop(mfn, None)

    def _ran_as_code(self, mfn: int) -> bool:
        """Whether a frame may have been executed while it was a page table: only a linear mapping allows that."""
        frames, owners = self.frames, self.linear.owners
        return bool(owners) and frames.owner[mfn] in owners and L1 <= frames.types[mfn] & TYPE_MASK <= L4
