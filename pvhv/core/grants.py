# SPDX-License-Identifier: GPL-2.0-or-later
"""Grant tables: a domain's shared entries, who uses them at the moment, and what the domain itself has
mapped.

The granting domain writes entries into frames it shares with the hypervisor: this frame, for that domain, to
read or to write. While anybody uses an entry the hypervisor keeps an `Active` record of it, taken when the
use began: later changes of the entry do not matter, and GTF_reading and GTF_writing tell the granter not to
reuse the frame yet. Every use holds a reference to the frame, and a writable one a writable use, so the frame
keeps its owner and can not become a page table meanwhile. The using domain remembers its mappings by handle
(`maptrack`).

The frames of the table belong to the domain, so that it can map them, and are held by the hypervisor besides:
the guest may give up its own claim on them, but they are not freed before the domain is destroyed.

What is done with entries stands next door: pvhv.core.grant_map, grant_copy, grant_transfer, and grant_view
for domain 0's backends.

Not modelled: version 2 (a Xen told gnttab=max-ver:1 has none either); an IOMMU (a device mapping is only a
pin).

Read beside it: xen/common/grant_table.c, docs/misc/grant-tables.txt.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pvhv.abi.grant_table import (
    GNTMAP_device_map,
    GNTMAP_host_map,
    GNTMAP_readonly,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_eagain,
    GNTST_general_error,
    GNTST_no_space,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_sub_page,
    GTF_type_mask,
    GTF_writing,
)
from pvhv.core.errors import HypercallError
from pvhv.core.kept_pages import use_writable

if TYPE_CHECKING:
    from pvhv.core.domain import Domain
    from pvhv.core.grant_view import GrantView

# Four counts of eight bits in one word: uses by the CPU to write and to read, by devices likewise.
HOST_WRITE, HOST_READ, DEVICE_WRITE, DEVICE_READ = 1, 1 << 8, 1 << 16, 1 << 24
WRITERS = 0xFF * HOST_WRITE | 0xFF * DEVICE_WRITE
MAPPABLE_TYPE = GTF_type_mask | GTF_sub_page  # a sub-page grant can be copied, not mapped
PIN_LIMIT = 128  # an eight-bit count whose top bit is set takes no more

ENTRIES_PER_FRAME = 512
MAPPINGS_PER_FRAME = 256
MAPPINGS_PER_STEP = 2048
DEFAULT_MAX_FRAMES = 64
DEFAULT_MAX_MAPTRACK_FRAMES = 1024


class GrantError(Exception):
    """One item of a batch did not work: `status` (GNTST_*) is its answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Active:
    """An entry in use: by whom, which frame, and how often (`pin`)."""

    __slots__ = ("domid", "mfn", "pin")

    def __init__(self, domid: int, mfn: int) -> None:
        self.domid = domid
        self.mfn = mfn
        self.pin = 0


class Mapping:
    """What a handle stands for: an entry of `granter`, mapped as `flags` (GNTMAP_*) say; 0 if it is free."""

    __slots__ = ("flags", "granter", "ref")

    def __init__(self) -> None:
        self.flags = 0
        self.granter: Domain | None = None
        self.ref = 0


class GrantTable:
    """The grants of one domain, and its mappings of others' grants."""

    version = 1

    def __init__(
        self,
        domain: Domain,
        max_frames: int = DEFAULT_MAX_FRAMES,
        max_maptrack_frames: int = DEFAULT_MAX_MAPTRACK_FRAMES,
    ) -> None:
        self.domain = domain
        self.domid = domain.domid
        self.table = domain.hypervisor.frames
        self.words = domain.hypervisor.ram.words
        self.max_frames = max_frames
        self.max_mappings = max_maptrack_frames * MAPPINGS_PER_FRAME
        self.frames: list[int] = []
        self.active: dict[int, Active] = {}
        self.maptrack: list[Mapping] = []
        self.free_handles: deque[int] = deque()
        self.views: set[GrantView] = set()
        self.setup(1)

    # -- the table -------------------------------------------------------------------------------------------
    def setup(self, nr_frames: int) -> list[int]:
        """Grow the table to `nr_frames`; the frames it has. Raises GrantError(general_error)."""
        if nr_frames > self.max_frames:
            raise GrantError(GNTST_general_error)
        hypervisor, before = self.domain.hypervisor, len(self.frames)
        try:
            while len(self.frames) < nr_frames:
                self.frames.append(hypervisor.share_frame(self.domain))
        except HypercallError:
            for mfn in self.frames[before:]:
                hypervisor.unshare_frame(self.domain, mfn)
            del self.frames[before:]
            raise GrantError(GNTST_general_error) from None
        return self.frames[:nr_frames]

    def slot(self, ref: int) -> int:
        """Index into `words` of an entry. Raises GrantError(bad_gntref)."""
        if 0 <= ref < len(self.frames) * ENTRIES_PER_FRAME:
            return self.frames[ref >> 9] << 9 | ref & 511
        raise GrantError(GNTST_bad_gntref)

    def swap(self, ref_a: int, ref_b: int) -> None:
        """Exchange two entries that nobody uses. Raises GrantError."""
        slot_a, slot_b = self.slot(ref_a), self.slot(ref_b)
        if ref_a == ref_b:
            return
        if ref_a in self.active or ref_b in self.active:
            raise GrantError(GNTST_eagain)
        words = self.words
        words[slot_a], words[slot_b] = words[slot_b], words[slot_a]

    # -- using an entry --------------------------------------------------------------------------------------
    def pin(self, ref: int, user: int, increment: int, readonly: bool, mapping: bool) -> Active:
        """Begin a use of entry `ref` by domain `user`, to map or to copy; the frame is referenced.

        The entry is looked at when its first use begins, and again when a first use to write does. Raises
        GrantError.
        """
        slot = self.slot(ref)
        active = self.active.get(ref)
        if active is not None and (active.domid != user or active.pin & increment * PIN_LIMIT):
            raise GrantError(GNTST_general_error)
        mfn = 0 if active is None else active.mfn
        failure = GNTST_general_error if mapping else GNTST_bad_domain
        if active is None or not (readonly or active.pin & WRITERS):
            entry = self.words[slot]
            kind = entry & (MAPPABLE_TYPE if mapping else GTF_type_mask)
            if active is None and (kind != GTF_permit_access or entry >> 16 & 0xFFFF != user):
                raise GrantError(GNTST_general_error)
            if entry & GTF_readonly and not readonly:
                raise GrantError(GNTST_general_error)
            self.words[slot] = entry | (GTF_reading if readonly else GTF_reading | GTF_writing)
            if active is None or not mapping:
                mfn, failure = entry >> 32, GNTST_bad_page
        elif not mapping and self.domain.dying:
            raise GrantError(failure)
        if not self.table.get_page(mfn, self.domid):
            self._clear_flags(slot, 0 if active is None else active.pin, readonly)
            raise GrantError(failure)
        if active is None:
            active = self.active[ref] = Active(user, mfn)
        elif active.mfn != mfn:  # the entry was changed under a use
            self.table.put_page(mfn)
            self._clear_flags(slot, active.pin, readonly)
            raise GrantError(GNTST_general_error)
        active.pin += increment
        return active

    def unpin(self, ref: int, decrement: int, readonly: bool) -> None:
        """End a use; the caller has put the frame. The entry's flags then say what uses remain."""
        active = self.active[ref]
        active.pin -= decrement
        if not active.pin:
            del self.active[ref]
        if self.frames:  # a dead domain's table is gone before the last use of its grants may be
            self._clear_flags(self.frames[ref >> 9] << 9 | ref & 511, active.pin, readonly)

    def _clear_flags(self, slot: int, pin: int, readonly: bool) -> None:
        """Show less than the entry says, when it is used less. (reduce_status_for_pin)"""
        clear = 0 if pin else GTF_reading
        if not readonly and not pin & WRITERS:
            clear |= GTF_writing
        if clear:
            self.words[slot] &= ~clear

    def get_writable(self, mfn: int) -> None:
        """A writable use of a frame of ours, for another domain. Raises GrantError(general_error)."""
        try:
            use_writable(self.domain, mfn)
        except HypercallError:
            raise GrantError(GNTST_general_error) from None

    # -- mappings of others' grants --------------------------------------------------------------------------
    def new_handle(self) -> int:
        """A free handle. Raises GrantError(no_space)."""
        if not self.free_handles:
            base = len(self.maptrack)
            if base >= self.max_mappings:
                raise GrantError(GNTST_no_space)
            self.maptrack += [Mapping() for _ in range(MAPPINGS_PER_FRAME)]
            self.free_handles.extend(range(base, base + MAPPINGS_PER_FRAME))
        return self.free_handles.popleft()

    def mapping(self, handle: int) -> Mapping | None:
        """What `handle` stands for, None when it is free."""
        if handle < len(self.maptrack) and self.maptrack[handle].flags:
            return self.maptrack[handle]
        return None

    # -- the end ---------------------------------------------------------------------------------------------
    def release_mappings(self) -> bool:
        """The domain is dying: end its uses of others' grants, a share at a time; whether all are ended.

        What a host mapping holds of the frame belongs to the page-table entry and goes with it, and the
        table's own frames go with the hypervisor's others. (gnttab_release_mappings)
        """
        assert self.domain.dying
        share = self.maptrack[-MAPPINGS_PER_STEP:]
        del self.maptrack[-MAPPINGS_PER_STEP:]
        for mapping in share:
            if mapping.flags and mapping.granter is not None:
                self._release(mapping, mapping.granter.grants)
        self.free_handles.clear()
        for view in list(self.views):
            view.release()
        return not self.maptrack

    def _release(self, mapping: Mapping, grants: GrantTable) -> None:
        readonly = bool(mapping.flags & GNTMAP_readonly)
        if mapping.flags & GNTMAP_device_map:
            mfn = grants.active[mapping.ref].mfn
            if not readonly:
                self.table.put_page_type(mfn)
            self.table.put_page(mfn)
            grants.unpin(mapping.ref, DEVICE_READ if readonly else DEVICE_WRITE, readonly)
        if mapping.flags & GNTMAP_host_map:
            grants.unpin(mapping.ref, HOST_READ if readonly else HOST_WRITE, readonly)
        mapping.flags = 0

    def destroy(self) -> None:
        """The table is gone; its frames go with what else the hypervisor kept for the domain."""
        self.frames.clear()
