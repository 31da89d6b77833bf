# SPDX-License-Identifier: GPL-2.0-or-later
"""The frame table: who owns each machine frame, how often it is used, and as what.

Every frame has an owner (a domid), a count of general references, and a *type* with a count of its own. A frame is used
as exactly one thing at a time: writable memory, a page table of one level, or a page of segment descriptors. The type
may change only while its count is zero, and that single rule is what keeps a guest from changing its own page tables
without a check: a frame with a writable mapping cannot become a page table, and a page table cannot be mapped writable.

A frame is allocated to a domain with one reference (`allocated`, Xen's PGC_allocated); it returns to the free frames
(pvhv.core.mm.free_frames) when its last reference is dropped.

The columns are flat arrays, which any part may read. Only three files write them: this one; fast_types.py, which does
the same work for many entries without a call for each; and executable.py, which owns the column `code`.
tests/house/test_columns.py checks that.

This room knows nothing of page-table entries: `pvhv.core.mm.pagetables` validates contents and is called back through
`contents`.

Read beside it: xen/arch/x86/mm.c (_get_page_type, _put_page_type) and xen/include/asm-x86/mm.h.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import Protocol

from pvhv.abi.errno import Errno
from pvhv.core.errors import HypercallError, Interrupted, Restart, ValidationFailed
from pvhv.core.mm.free_frames import NOBODY, FreeFrames
from pvhv.machine.ram import Ram

# -- types[mfn]: what the frame is used as (three bits), and the state of that use ---------------------------
NONE = 0
L1, L2, L3, L4 = 1, 2, 3, 4
SEG_DESC = 5
WRITABLE = 7
TYPE_MASK = 7
VALIDATED = 8  # the contents were checked for this type
PINNED = 16  # the guest holds a type reference of its own (MMUEXT_PIN_*)
PARTIAL = 32  # validation or devalidation was put aside; that half-done work holds type count 1 and one reference

# What a frame is fit for, whether or not it is pinned or half done, and some answers.
FIT_FOR = TYPE_MASK | VALIDATED
L1_TABLE, L4_TABLE, WRITABLE_MEMORY = L1 | VALIDATED, L4 | VALIDATED, WRITABLE | VALIDATED

TYPE_NAMES = {NONE: "none", L1: "l1", L2: "l2", L3: "l3", L4: "l4", SEG_DESC: "seg_desc", WRITABLE: "writable"}

# -- an owner that is no domain, as DOMID_XEN is --------------------------------------------------------------
DOMID_FREE = 0x7FFF

COUNT_LIMIT = 0x7FFF_FFFF
SIFTED_AT_ONCE = 4096  # frames
# A state of `types` in which a page table, by level, is pinned or half done.
PINNED_OR_PARTIAL = {
    level: re.compile(b"[%b]" % b"".join(
        re.escape(bytes([state])) for state in range(64) if state & TYPE_MASK == level and state & (PINNED | PARTIAL)
    ), re.DOTALL)
    for level in (L1, L2, L3, L4)
}  # fmt: skip

# -- code[mfn]: what the engine may have translated from the frame (see pvhv.core.mm.executable) -----
CODE_NONE = 0
CODE_MAPPED = 1  # an executable mapping was made: translations may exist
CODE_STALE = 2  # ... and the frame was writable since: they must be forgotten before it is executed again


# The states in which it is not.
NEITHER = {
    level: bytes(state for state in range(256) if not state & (PINNED | PARTIAL) or state & TYPE_MASK != level)
    for level in (L1, L2, L3, L4)
}


class Contents(Protocol):
    """What checks a frame's contents when it takes a type that has rules (pagetables.PageTables)."""

    def validate(self, mfn: int, wanted: int, preemptible: bool) -> None: ...

    def devalidate(self, mfn: int, preemptible: bool) -> None: ...

    def type_changes(self, mfn: int) -> None: ...

    def frame_freed(self, mfn: int, owner: int, count: int = 1) -> None: ...


class FrameTable:
    """Owner, references and type of every machine frame.

    `owner[mfn]` domid; `refs[mfn]` general references; `types[mfn]` type and flags; `type_counts[mfn]` uses as
    that type; `allocated[mfn]` whether the owner's own reference is held; `code[mfn]` what may be translated from it.
    """

    def __init__(self, ram: Ram) -> None:
        count = ram.frames
        self.ram = ram
        self.count = count
        self.owner = array("H", [DOMID_FREE]) * count
        self.refs = array("I", bytes(4 * count))
        self.types = bytearray(count)
        self.type_counts = array("I", bytes(4 * count))
        self.allocated = bytearray(count)
        self.code = bytearray(count)
        self.contents: Contents
        self.free = FreeFrames(1, count)  # frame 0 is never given out: mfn 0 means "none"

    # -- owners ------------------------------------------------------------------------------------------------
    @property
    def free_frames(self) -> int:
        """How many frames are free."""
        return self.free.count

    def allocate_run(self, domid: int, count: int) -> int:
        """Give `count` contiguous frames to `domid`, each with its allocation reference; their first mfn.

        Raises HypercallError(ENOMEM) when no block of that size, rounded up to a power of two, is free. The frames read
        as zero.
        """
        mfn = self.free.take(count)
        if mfn == NOBODY:
            raise HypercallError(Errno.ENOMEM)
        end = mfn + count
        self.owner[mfn:end] = array("H", [domid]) * count
        self.refs[mfn:end] = array("I", [1]) * count
        self.types[mfn:end] = bytes(count)
        self.allocated[mfn:end] = b"\1" * count
        return mfn

    def allocate(self, domid: int) -> int:
        """Give one frame to `domid`; its mfn. Raises HypercallError(ENOMEM)."""
        mfn = self.free.take(1)
        if mfn == NOBODY:
            raise HypercallError(Errno.ENOMEM)
        self.owner[mfn] = domid
        self.refs[mfn] = 1
        self.types[mfn] = NONE
        self.allocated[mfn] = 1
        return mfn

    def share(self, domid: int) -> int:
        """Give `domid` one frame that it may map but not give back; returns the mfn. Raises HypercallError(ENOMEM).

        The hypervisor keeps a reference and a use as writable memory, so the frame's type never changes.
        """
        mfn = self.allocate(domid)
        self.allocated[mfn] = 0
        self.types[mfn] = WRITABLE | VALIDATED
        self.type_counts[mfn] = 1
        return mfn

    def unshare(self, mfn: int) -> None:
        """The reverse of `share`; the frame is freed when the domain has no mapping of it left."""
        self.put_page_and_type(mfn)

    def assign(self, mfn: int, domid: int) -> None:
        """Change a frame's owner to `domid`. The old owner's allocation reference must be the only reference."""
        self.types[mfn] = NONE
        self.owner[mfn] = domid

    def release_allocation(self, mfn: int) -> bool:
        """Drop the owner's allocation reference (decrease_reservation, destruction); False when it was gone."""
        if not self.allocated[mfn]:
            return False
        self.allocated[mfn] = 0
        self.put_page(mfn)
        return True

    def release_run(self, domid: int, mfn: int, count: int) -> bool:
        """Free neighbouring frames at once; False, and nothing is done, unless each of them is allocated to `domid`,
        has no other reference, and holds no translated code."""
        end = mfn + count
        if (
            self.refs[mfn:end] != array("I", [1]) * count
            or self.owner[mfn:end] != array("H", [domid]) * count
            or self.allocated[mfn:end] != b"\1" * count
            or any(self.code[mfn:end])
        ):
            return False
        self.contents.frame_freed(mfn, domid, count)
        self.refs[mfn:end] = array("I", [0]) * count
        self.owner[mfn:end] = array("H", [DOMID_FREE]) * count
        self.types[mfn:end] = self.allocated[mfn:end] = bytes(count)
        self.free.give_run(mfn, count)
        return True

    def owned_by(self, domid: int, start: int = 0, end: int | None = None) -> Sequence[int]:
        """The frames of `domid` in range(start, end), in order. Others wait meanwhile: ask for a few thousand."""
        end = self.count if end is None else end
        window = self.owner[start:end]
        if window == array("H", [domid]) * len(window):
            return range(start, start + len(window))
        if array("H", [domid]).tobytes() in window.tobytes():  # most of a big machine is somebody else's, or nobody's
            return [start + index for index, who in enumerate(window) if who == domid]
        return []

    def pinned_or_partial(self, domid: int, level: int, start: int, end: int) -> list[int]:
        """The page tables of one level among these frames that are pinned or partially validated."""
        found: list[int] = []
        for at in range(start, end, SIFTED_AT_ONCE):
            after = min(at + SIFTED_AT_ONCE, end)
            if self.types[at:after].translate(None, NEITHER[level]):  # most stretches have none
                found += [match.start() for match in PINNED_OR_PARTIAL[level].finditer(self.types, at, after)]
        return [mfn for mfn in found if self.owner[mfn] == domid]

    # -- general references ----------------------------------------------------------------------------------------
    def get_page(self, mfn: int, domid: int) -> bool:
        """Take a reference to a frame of `domid`; False when it is not that domain's (or not a frame)."""
        if mfn >= self.count or self.owner[mfn] != domid:
            return False
        refs = self.refs[mfn]
        if refs == 0 or refs >= COUNT_LIMIT:
            return False
        self.refs[mfn] = refs + 1
        return True

    def put_page(self, mfn: int) -> None:
        """Drop a reference; the last one frees the frame."""
        refs = self.refs[mfn] - 1
        self.refs[mfn] = refs
        if refs == 0:
            self._free(mfn)

    def _free(self, mfn: int) -> None:
        owner = self.owner[mfn]
        self.contents.frame_freed(mfn, owner)
        self.owner[mfn] = DOMID_FREE
        self.types[mfn] = NONE
        self.allocated[mfn] = 0
        self.free.give(mfn)

    # -- types -------------------------------------------------------------------------------------------------
    def get_page_type(self, mfn: int, wanted: int, preemptible: bool = False) -> None:
        """Take a use of the frame as type `wanted`; the caller holds a reference.

        Raises HypercallError(EINVAL) when the frame is in use as something else or its contents do not pass, and (only
        when `preemptible`) Restart or Interrupted when the validation was preempted.
        """
        state = self.types[mfn]
        uses = self.type_counts[mfn]
        if uses >= COUNT_LIMIT:
            raise HypercallError(Errno.EINVAL)
        if uses == 0:
            if state & TYPE_MASK == wanted and state & VALIDATED:
                self.type_counts[mfn] = 1
                return
            if state & TYPE_MASK != wanted:
                self.contents.type_changes(mfn)
            state = wanted | (state & PINNED)
            self.type_counts[mfn] = 1
        elif state & TYPE_MASK != wanted:
            raise HypercallError(Errno.EINVAL)
        elif state & VALIDATED:
            self.type_counts[mfn] = uses + 1
            return
        if wanted == WRITABLE:
            self.types[mfn] = WRITABLE | VALIDATED
            return
        self._validate(mfn, wanted, state, preemptible)

    def _validate(self, mfn: int, wanted: int, state: int, preemptible: bool) -> None:
        """Validate the contents as type `wanted`, from the start or from where an earlier try was preempted."""
        was_partial = bool(state & PARTIAL)
        self.types[mfn] = state & ~PARTIAL
        try:
            self.contents.validate(mfn, wanted, preemptible)
        except Restart:
            self.refs[mfn] += 1
            self.types[mfn] |= PARTIAL
            raise
        except (Interrupted, HypercallError) as failure:
            if isinstance(failure, ValidationFailed) and failure.mfn == mfn:
                self.refs[mfn] += 1  # what was taken is still to be undone: the half-done state keeps its use
                self.types[mfn] |= PARTIAL
            else:
                self.types[mfn] = NONE
                self.type_counts[mfn] = 0
            raise
        else:
            self.types[mfn] |= VALIDATED
        finally:
            if was_partial:
                self.put_page(mfn)

    def put_page_type(self, mfn: int, preemptible: bool = False, partial: bool = False) -> None:
        """Drop a use; the last use of a page table devalidates it.

        With `partial`, only finish a preempted (de)validation, if there is one. Raises Restart or Interrupted (only
        when `preemptible`) when preempted.
        """
        state = self.types[mfn]
        if partial and not state & PARTIAL:
            return
        uses = self.type_counts[mfn]
        if uses > 1 or state & TYPE_MASK > L4 or not state & (VALIDATED | PARTIAL):
            self.type_counts[mfn] = uses - 1
            return
        self.types[mfn] = state & ~(VALIDATED | PARTIAL)
        try:
            self.contents.devalidate(mfn, preemptible)
        except Restart:
            self.refs[mfn] += 1
            self.types[mfn] |= PARTIAL
            raise
        except Interrupted:
            self.types[mfn] |= VALIDATED
            raise
        else:
            self.type_counts[mfn] = 0
        finally:
            if state & PARTIAL:
                self.put_page(mfn)

    # -- pins --------------------------------------------------------------------------------------------------
    def pin(self, mfn: int) -> bool:
        """Pin a table: the pin keeps a use and a reference the caller took. False when the table is pinned already."""
        if self.types[mfn] & PINNED:
            return False
        self.types[mfn] |= PINNED
        return True

    def unpin(self, mfn: int) -> bool:
        """Remove the pin; the caller drops the use and the reference it held. False when the table is not pinned."""
        if not self.types[mfn] & PINNED:
            return False
        self.types[mfn] &= ~PINNED
        return True

    # -- both together -----------------------------------------------------------------------------------------
    def get_page_and_type(self, mfn: int, domid: int, wanted: int) -> None:
        """Take a reference to a frame of `domid` and a use of it, or neither. Raises HypercallError(EINVAL)."""
        if not self.get_page(mfn, domid):
            raise HypercallError(Errno.EINVAL)
        try:
            self.get_page_type(mfn, wanted)
        except HypercallError:
            self.put_page(mfn)
            raise

    def put_page_and_type(self, mfn: int) -> None:
        """Drop one use and one reference of a frame whose devalidation cannot take long (L1, writable, seg_desc)."""
        self.put_page_type(mfn)
        self.put_page(mfn)

    def put_page_and_type_preemptible(self, mfn: int) -> None:
        """Drop one use and one reference; on Restart or Interrupted the reference is kept for the continuation."""
        self.put_page_type(mfn, preemptible=True)
        self.put_page(mfn)
