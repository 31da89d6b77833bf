# SPDX-License-Identifier: GPL-2.0-or-later
"""The layout of grant table entries in versions 1 and 2, and the flags in them that tell the granter of a use.

A version 1 entry is one word: flags, the domid it is for, the frame's number in 32 bits; GTF_reading and GTF_writing
are set in the flags as long as the entry is used for reading or writing. A version 2 entry is two words, with room for
a frame of 64 bits, for a part of the frame (GTF_sub_page), or for passing on another domain's grant (GTF_transitive).
The two flags are in separate *status frames*, so that the granter may change an entry's flags by plain stores.

Neither layout counts uses: the callers do (pvhv.core.grants.table, pvhv.core.grants.acquire).

Not modelled: entries that change while we look, for which Xen tries five times or looks twice. Guest code stands still
while the hypervisor works.

Read beside it: _set_status_v1, _set_status_v2, reduce_status_for_pin in xen/common/grant_table.c.
"""

from __future__ import annotations

from typing import Protocol

from pvhv.abi.grant_table import (
    GNTST_bad_gntref,
    GNTST_general_error,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_sub_page,
    GTF_transitive,
    GTF_type_mask,
    GTF_writing,
)
from pvhv.core.errors import GrantError
from pvhv.machine.ram import PAGE_SIZE, Ram

# Four counts of eight bits in one word: uses by the CPU to write and to read, by devices likewise.
HOST_WRITE, HOST_READ, DEVICE_WRITE, DEVICE_READ = 1, 1 << 8, 1 << 16, 1 << 24
WRITERS = 0xFF * HOST_WRITE | 0xFF * DEVICE_WRITE
MAPPABLE_TYPE = GTF_type_mask | GTF_sub_page  # a sub-page grant can be copied, not mapped
FLAGS = 0xFFFF  # of an entry: the low half of its first half word
USE_FLAGS = GTF_reading | GTF_writing
Part = tuple[int, int, int, bool]  # what an entry gives access to: frame, first byte, bytes, is that a part only
ENTRIES_V1, ENTRIES_V2, STATUSES = 512, 256, 2048  # in a frame


def status_frames_for(nr_frames: int) -> int:
    """How many status frames belong to `nr_frames` frames of version 2 entries."""
    return -(-nr_frames * ENTRIES_V2 // STATUSES)


class Entries(Protocol):
    """The shared entries of one table. A `slot` is an entry's index in `words`, as the method `slot` returns it."""

    version: int
    per_frame: int

    def slot(self, ref: int) -> int:
        """Index into `words` of an entry. Raises GrantError(bad_gntref)."""

    def claim(self, ref: int, slot: int, pinned: bool, user: int, readonly: bool, mapping: bool) -> None:
        """Set the flags for a use that begins. Raises GrantError(general_error) unless the entry permits it; the
        entry's type and domid are checked only if it is not in use already (`pinned`). (_set_status)"""

    def reduce(self, ref: int, pin: int, readonly: bool) -> None:
        """Clear the flags that `pin` no longer justifies, when a use has ended. (reduce_status_for_pin)"""

    def part(self, slot: int) -> Part:
        """The part of a frame that an entry grants, if the entry is not transitive."""

    def passed_on(self, slot: int) -> tuple[int, int] | None:
        """The grant that a transitive entry passes on, as (domid, ref); None for other entries."""

    def frame(self, slot: int) -> int:
        """The entry's frame number field, whatever the type of the entry."""

    def set_frame(self, slot: int, frame: int) -> None: ...
    def swap(self, ref_a: int, ref_b: int) -> None: ...


class EntriesV1:
    """Version 1: one 64-bit word for each entry, in `frames`."""

    version = 1
    per_frame = ENTRIES_V1

    def __init__(self, ram: Ram, frames: list[int]) -> None:
        self.words = ram.words
        self.frames = frames

    def slot(self, ref: int) -> int:
        if 0 <= ref < len(self.frames) << 9:
            return self.frames[ref >> 9] << 9 | ref & 511
        raise GrantError(GNTST_bad_gntref)

    def claim(self, ref: int, slot: int, pinned: bool, user: int, readonly: bool, mapping: bool) -> None:
        entry = self.words[slot]
        if not pinned:
            kind = entry & (MAPPABLE_TYPE if mapping else GTF_type_mask)
            if kind != GTF_permit_access or entry >> 16 & 0xFFFF != user:
                raise GrantError(GNTST_general_error)
        if entry & GTF_readonly and not readonly:
            raise GrantError(GNTST_general_error)
        self.words[slot] = entry | (GTF_reading if readonly else USE_FLAGS)

    def reduce(self, ref: int, pin: int, readonly: bool) -> None:
        clear = unused(pin, readonly)
        if clear:
            self.words[self.frames[ref >> 9] << 9 | ref & 511] &= ~clear

    def part(self, slot: int) -> Part:
        return self.words[slot] >> 32, 0, PAGE_SIZE, False

    def passed_on(self, slot: int) -> tuple[int, int] | None:
        return None

    def frame(self, slot: int) -> int:
        return self.words[slot] >> 32

    def set_frame(self, slot: int, frame: int) -> None:
        self.words[slot] = frame << 32 & 0xFFFF_FFFF_0000_0000 | self.words[slot] & 0xFFFF_FFFF

    def swap(self, ref_a: int, ref_b: int) -> None:
        a, b, words = self.slot(ref_a), self.slot(ref_b), self.words
        words[a], words[b] = words[b], words[a]


class EntriesV2:
    """Version 2: for each entry two 64-bit words in `frames`, and 16 bits in `status_frames`."""

    version = 2
    per_frame = ENTRIES_V2

    def __init__(self, ram: Ram, frames: list[int], status_frames: list[int]) -> None:
        self.words = ram.words
        self.statuses = ram.bytes.cast("H")
        self.frames = frames
        self.status_frames = status_frames

    def slot(self, ref: int) -> int:
        if 0 <= ref < len(self.frames) << 8:
            return self.frames[ref >> 8] << 9 | (ref & 255) << 1
        raise GrantError(GNTST_bad_gntref)

    def status_place(self, ref: int) -> int:
        """Index into `statuses` of an entry's 16 status bits."""
        return self.status_frames[ref >> 11] << 11 | ref & 2047

    def claim(self, ref: int, slot: int, pinned: bool, user: int, readonly: bool, mapping: bool) -> None:
        header = self.words[slot]
        if not pinned:
            kind = header & (MAPPABLE_TYPE if mapping else GTF_type_mask)
            permits = kind == GTF_permit_access or (kind == GTF_transitive and not mapping)
            if not permits or header >> 16 & 0xFFFF != user:
                raise GrantError(GNTST_general_error)
        if header & GTF_readonly and not readonly:
            raise GrantError(GNTST_general_error)
        self.statuses[self.status_place(ref)] |= GTF_reading if readonly else USE_FLAGS

    def reduce(self, ref: int, pin: int, readonly: bool) -> None:
        clear = unused(pin, readonly)
        if clear:
            self.statuses[self.status_place(ref)] &= ~clear & 0xFFFF

    def part(self, slot: int) -> Part:
        header, frame = self.words[slot], self.words[slot + 1]
        if header & GTF_sub_page:
            return frame, header >> 32 & 0xFFFF, header >> 48, True
        return frame, 0, PAGE_SIZE, False

    def passed_on(self, slot: int) -> tuple[int, int] | None:
        header = self.words[slot]
        if header & GTF_type_mask != GTF_transitive:
            return None
        return header >> 32 & 0xFFFF, self.words[slot + 1] & 0xFFFF_FFFF

    def frame(self, slot: int) -> int:
        return self.words[slot + 1]

    def set_frame(self, slot: int, frame: int) -> None:
        self.words[slot + 1] = frame

    def swap(self, ref_a: int, ref_b: int) -> None:
        a, b, words = self.slot(ref_a), self.slot(ref_b), self.words
        for index in (0, 1):
            words[a + index], words[b + index] = words[b + index], words[a + index]
        a, b, statuses = self.status_place(ref_a), self.status_place(ref_b), self.statuses
        statuses[a], statuses[b] = statuses[b], statuses[a]


def unused(pin: int, readonly: bool) -> int:
    """The flags to clear when a use has ended: reading after the last use, writing after the last writing use."""
    clear = 0 if pin else GTF_reading
    if not readonly and not pin & WRITERS:
        clear |= GTF_writing
    return clear
