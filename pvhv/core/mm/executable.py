# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames that may hold code: what the engine translated from them must go when their bytes change.

The engine sees the stores of its own guests, but not what the hypervisor writes, nor what another engine's guests do.
So `code[mfn]` of the frame table says whether translations may exist, and every L1 entry that makes a frame executable
comes by here. The published engine sees only some of its guests' stores (`sees_stores` is false): there, every entry
that makes a frame with code in it writable comes by, too.

Not modelled there: code that is changed through the one writable mapping its frame had before it was made executable
(see `made_executable`): of such stores the engine sees the first after a TLB flush, so that mapping has to be closed,
or flushed, before what was written is run; and bytes that were others for a while, were run so, and are the old ones
again when they are mapped.

The other side of it, what the hypervisor itself writes and which frames are watched, is pvhv.core.mm.coherence.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.core.mm.frames import CODE_MAPPED, CODE_NONE, CODE_STALE, L1, L4, TYPE_MASK, WRITABLE, FrameTable
from pvhv.core.mm.linear import LinearTables
from pvhv.core.mm.pte import ADDRESS, NX, PRESENT, RW
from pvhv.machine import seam


class Executable:
    """Which frames there is code of. `forget_code` and `watch_code` are the engine's side of it, set from outside."""

    def __init__(self, frames: FrameTable, linear: LinearTables) -> None:
        self.frames = frames
        self.linear = linear
        self.sees_stores = seam.corrected  # the engine, those of its own guests
        self.digests: dict[int, int] = {}  # mfn -> hash of its bytes when it was last made executable
        self.forget_code: Callable[[int], None] = lambda mfn: None
        self.watch_code: Callable[[int, bool], None] = lambda mfn, wanted: None

    def made_executable(self, mfn: int, entry: int, old: int) -> None:
        """An executable mapping of `mfn`, `entry`, comes to be: translations made before the last writes must go.

        A writable use beside it may change the code again without the engine noticing, unless the frame is watched.
        One such use is most kernels' view of all their memory, which they do not write code through, and watching
        that would be too much: more than one is asked for. `old` is the entry this one replaces, whose use is about to
        go.
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
        """Whether a frame's bytes are others than when this was last asked.

        A kernel has a writable view of all its memory, so a program's pages could have been written whenever they are
        mapped again; nearly always they were not, and what was translated from them serves the next process, too.
        """
        digest = hash(bytes(self.frames.ram.frame(mfn)))
        if self.digests.get(mfn) == digest:
            return False
        self.digests[mfn] = digest
        return True

    def made_writable(self, mfn: int, entry: int, old: int) -> None:
        """A writable mapping, `entry` in place of `old`, comes to be of a frame there may be code of.

        It is watched if it can be executed at the same time, by a mapping that is not writable itself. (Of one that is,
        beside another that is not executable, nothing is told from a program's data.)
        """
        frames = self.frames
        frames.code[mfn] = CODE_STALE
        if entry & NX:
            others = frames.refs[mfn] - frames.allocated[mfn] - frames.type_counts[mfn]
            if old & (PRESENT | RW) == PRESENT and not (old ^ entry) & ADDRESS:
                others -= 1
            self.watch_code(mfn, others > 0)

    def retyped(self, mfn: int) -> None:
        """A frame becomes something else, and will be written as that."""
        if self.frames.code[mfn] or self._ran_as_code(mfn):
            self.frames.code[mfn] = CODE_STALE

    def freed(self, mfn: int) -> None:
        """It is nobody's any more, or another's."""
        if self.frames.code[mfn] or self._ran_as_code(mfn):
            self.forget_code(mfn)
            self.frames.code[mfn] = CODE_NONE
            self.digests.pop(mfn, None)

    def _ran_as_code(self, mfn: int) -> bool:
        """Whether a frame may have been executed while it was a table, as only a linear mapping lets one do."""
        frames, owners = self.frames, self.linear.owners
        return bool(owners) and frames.owner[mfn] in owners and L1 <= frames.types[mfn] & TYPE_MASK <= L4
