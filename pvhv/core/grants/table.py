# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain's grant table: its shared entries, their current uses, and the domain's own mappings of others' grants.

The granting domain writes entries into frames it shares with the hypervisor: this frame, for that domain, to read or to
write (pvhv.core.grants.entries has the layout, in two versions). While an entry is in use the hypervisor keeps an
`Active` record, made when the first use began, so later changes of the entry have no effect. GTF_reading and
GTF_writing tell the granter not to reuse the frame yet. Every use holds a reference to the frame, and a use for writing
also holds a writable use, so the frame keeps its owner and cannot become a page table meanwhile. The using domain
remembers its mappings by handle (`maptrack`).

The frames of the table belong to the domain, so that it can map them, and the hypervisor holds a reference besides. So
they are not freed before the domain is destroyed. (Status frames are also freed when the domain goes back to version 1,
which it can do only while it has not mapped them.)

The operations on entries have files of their own in this folder: map.py, copy.py, transfer.py, version.py, and view.py
for domain 0's backends.

Not modelled: an IOMMU (a device mapping is only a pin).

Read beside it: xen/common/grant_table.c, docs/misc/grant-tables.txt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping as Lookup
from typing import Protocol

from pvhv.abi.grant_table import (
    GNTMAP_device_map,
    GNTMAP_host_map,
    GNTMAP_readonly,
    GNTST_bad_page,
    GNTST_eagain,
    GNTST_general_error,
    GNTST_no_space,
)
from pvhv.core.errors import GrantError, HypercallError
from pvhv.core.grants.entries import (
    DEVICE_READ,
    DEVICE_WRITE,
    HOST_READ,
    HOST_WRITE,
    WRITERS,
    Entries,
    EntriesV1,
    EntriesV2,
    Part,
    status_frames_for,
)
from pvhv.core.mm.frames import FrameTable
from pvhv.core.mm.kept_pages import use_writable
from pvhv.core.mm.pagetables import PageTables
from pvhv.machine.ram import PAGE_SIZE, Ram

START_BITS = 0x7FFF  # what is kept of where a part begins (active_grant_entry.start)
PIN_LIMIT = 128  # an eight-bit count whose top bit is set takes no more

MAPPINGS_PER_FRAME = 256
MAPPINGS_PER_STEP = 2048
DEFAULT_MAX_FRAMES = 64
DEFAULT_MAX_MAPTRACK_FRAMES = 1024
MAX_VERSION = 2


class Machine(Protocol):
    """What grants ask of the hypervisor (core/services.py)."""

    ram: Ram
    frames: FrameTable
    pagetables: PageTables

    @property
    def domains(self) -> Lookup[int, Granter]: ...
    def domain_by_id(self, domid: int) -> Granter | None: ...


class Granter(Protocol):
    """What grants know of a domain (core/domain.py)."""

    domid: int
    dying: bool
    hypervisor_frames: list[int]

    @property
    def grants(self) -> GrantTable: ...
    @property
    def hypervisor(self) -> Machine: ...


class View(Protocol):
    """A grant mapped by domain 0 (view.py)."""

    def release(self) -> None: ...


class Active:
    """An entry in use: by whom, which frame, and how often (`pin`).

    `start` and `length` are the part of the frame that may be copied. `granter` and `ref` name the grant; for a
    transitive entry they name the third domain's grant.
    """

    __slots__ = ("domid", "granter", "is_sub_page", "length", "mfn", "pin", "ref", "start")

    def __init__(self, domid: int, part: Part, granter: Granter, ref: int) -> None:
        self.domid = domid
        self.mfn, start, self.length, self.is_sub_page = part
        self.start = start & START_BITS
        self.pin = 0
        self.granter = granter
        self.ref = ref


class Mapping:
    """The mapping behind a handle: entry `ref` of `granter`, with `flags` (GNTMAP_*); 0 if the handle is free."""

    __slots__ = ("flags", "granter", "ref")

    def __init__(self) -> None:
        self.flags = 0
        self.granter: Granter | None = None
        self.ref = 0


class GrantTable:
    """The grants of one domain, and its mappings of others' grants."""

    def __init__(
        self,
        domain: Granter,
        max_frames: int = DEFAULT_MAX_FRAMES,
        max_maptrack_frames: int = DEFAULT_MAX_MAPTRACK_FRAMES,
        max_version: int = MAX_VERSION,
    ) -> None:
        self.domain = domain
        self.domid = domain.domid
        self.ram = domain.hypervisor.ram
        self.table = domain.hypervisor.frames
        self.max_frames = max_frames
        self.max_mappings = max_maptrack_frames * MAPPINGS_PER_FRAME
        self.max_version = max_version
        self.frames: list[int] = []
        self.status_frames: list[int] = []
        self.entries: Entries = EntriesV1(self.ram, self.frames)
        self.active: dict[int, Active] = {}
        self.maptrack: list[Mapping] = []
        self.free_handles: deque[int] = deque()
        self.views: set[View] = set()
        self.setup(1)

    # -- the table -------------------------------------------------------------------------------------------
    @property
    def version(self) -> int:
        """The version of its entries, 1 or 2."""
        return self.entries.version

    def use_version(self, version: int) -> None:
        """From now on read the frames as entries of this version (see pvhv.core.grants.version)."""
        if version == 1:
            self.entries = EntriesV1(self.ram, self.frames)
        else:
            self.entries = EntriesV2(self.ram, self.frames, self.status_frames)

    def setup(self, nr_frames: int) -> list[int]:
        """Grow the table to `nr_frames`; returns its frames. Raises GrantError(general_error)."""
        if nr_frames > self.max_frames:
            raise GrantError(GNTST_general_error)
        before = len(self.frames)
        try:
            self.grow(self.frames, nr_frames)
            if self.version == 2:
                self.grow(self.status_frames, status_frames_for(len(self.frames)))
        except HypercallError:
            self.shrink(self.frames, before)
            raise GrantError(GNTST_general_error) from None
        return self.frames[:nr_frames]

    def grow(self, frames: list[int], count: int) -> None:
        """Share frames with the domain until there are `count`. Raises HypercallError(ENOMEM), and none is added."""
        before = len(frames)
        try:
            while len(frames) < count:
                mfn = self.table.share(self.domid)
                self.domain.hypervisor_frames.append(mfn)
                frames.append(mfn)
        except HypercallError:
            self.shrink(frames, before)
            raise

    def shrink(self, frames: list[int], count: int) -> None:
        """Give back all of `frames` from index `count` on."""
        for mfn in frames[count:]:
            self.table.unshare(mfn)
        del frames[count:]

    def swap(self, ref_a: int, ref_b: int) -> None:
        """Exchange two entries that nobody uses. Raises GrantError."""
        self.entries.slot(ref_a)
        self.entries.slot(ref_b)
        if ref_a == ref_b:
            return
        if ref_a in self.active or ref_b in self.active:
            raise GrantError(GNTST_eagain)
        self.entries.swap(ref_a, ref_b)

    # -- using an entry --------------------------------------------------------------------------------------
    def pin(self, ref: int, user: int, increment: int, readonly: bool) -> Active:
        """Begin a use of entry `ref` for a mapping by domain `user`; takes a reference to the frame. (map_grant_ref)

        The entry is checked when its first use begins, and again when its first writing use begins. Raises GrantError.
        """
        entries = self.entries
        slot = entries.slot(ref)
        active = self.active.get(ref)
        if active is None:
            entries.claim(ref, slot, False, user, readonly, True)
            mfn = entries.frame(slot)
            if not self.table.get_page(mfn, self.domid):
                entries.reduce(ref, 0, readonly)
                raise GrantError(GNTST_bad_page)
            active = self.active[ref] = Active(user, (mfn, 0, PAGE_SIZE, False), self.domain, ref)
        else:
            if active.domid != user or active.pin & increment * PIN_LIMIT or active.is_sub_page:
                raise GrantError(GNTST_general_error)
            if not (readonly or active.pin & WRITERS):
                entries.claim(ref, slot, True, user, readonly, True)
            if not self.table.get_page(active.mfn, self.domid):
                entries.reduce(ref, active.pin, readonly)
                raise GrantError(GNTST_general_error)
        active.pin += increment
        return active

    def unpin(self, ref: int, decrement: int, readonly: bool) -> Active:
        """End a use and update the entry's flags; the caller drops the reference to the frame."""
        active = self.active[ref]
        active.pin -= decrement
        if not active.pin:
            del self.active[ref]
        if self.frames:  # a dead domain's table is gone before the last use of its grants may be
            self.entries.reduce(ref, active.pin, readonly)
        return active

    def get_writable(self, mfn: int) -> None:
        """Take a writable use of a granted frame, for another domain. Raises GrantError(general_error)."""
        try:
            use_writable(self.domain.hypervisor.pagetables, mfn)
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
        """The domain is dying: end its uses of others' grants, a share of work at a time; True when all are ended.

        The reference and writable use of a host mapping belong to the page-table entry and are dropped with it. If the
        granter is gone already (its page-table entry was overwritten, so nothing kept the granter), there is nothing to
        release. (gnttab_release_mappings)
        """
        assert self.domain.dying
        domains = self.domain.hypervisor.domains
        share = self.maptrack[-MAPPINGS_PER_STEP:]
        del self.maptrack[-MAPPINGS_PER_STEP:]
        for mapping in share:
            granter = mapping.granter
            if mapping.flags and granter is not None and domains.get(granter.domid) is granter:
                self._release(mapping, granter.grants)
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
        """Forget the table; its frames are freed with the other frames the hypervisor kept for the domain."""
        self.frames.clear()
        self.status_frames.clear()
