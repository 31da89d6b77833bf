# SPDX-License-Identifier: GPL-2.0-or-later
"""What a page table may contain, and the only methods that change its entries.

A guest's page tables hold machine addresses and the engine's MMU walks them as they stand, so no entry may name what
the guest must not reach. A frame becomes an L1..L4 table only after every entry of it was checked (`validate`). Each
present entry holds a reference on the frame it names, and a use of it as writable memory or as the table of the next
lower level. Afterwards single entries change only through `modify` and `replace_l1_entry`, which take the new entry's
references before they drop the old one's. The hypervisor's own slots of an L4 (256..271) are written here and can never
be named by the guest.

Large trees are validated and devalidated in pieces. `Restart` leaves a table partially validated: `partial[mfn]` keeps
how many entries were taken, and whether the next one is partial itself. Dropping a table that an update replaced may
take long as well. So the table is put into `deferred`, the vCPU's Xen-style old_guest_table, and is dropped before that
vCPU's next page-table operation.

An entry may also name a table of its own level, under the rules of pvhv.core.mm.linear.

Most tables are L1 tables, and pvhv.core.mm.l1tables has these. pvhv.core.mm.executable keeps frames with code coherent.
The hypervisor uses the subclass in pvhv.core.mm.fast_types, which has faster forms of the most-used methods.

Not modelled: superpages, which Xen denies PV guests too.

Read beside it: xen/arch/x86/mm.c, promote_*_table, demote_*_table, mod_*_entry, get_page_from_*.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress

from pvhv.abi.errno import Errno
from pvhv.abi.xen import DOMID_XEN
from pvhv.core.errors import HypercallError, Interrupted, Restart, ValidationFailed
from pvhv.core.mm.frames import FIT_FOR, L1, L1_TABLE, L2, L4, SEG_DESC, TYPE_MASK, VALIDATED, FrameTable
from pvhv.core.mm.l1tables import L1Tables
from pvhv.core.mm.pte import ACCESSED, ADDRESS, DIRTY, L4_GETS, PRESENT, REVALIDATED, UPPER_DISALLOW, UPPER_GETS

FIRST_XEN_SLOT = 256
LAST_XEN_SLOT = 271


class Deferred:
    """The one table a vCPU still has to drop (v->arch.old_guest_table); `mfn` 0 means none."""

    __slots__ = ("mfn", "partial")

    def __init__(self) -> None:
        self.mfn = 0
        self.partial = False

    def put(self, mfn: int, partial: bool) -> None:
        """Let the reference and use of `mfn` (or, with `partial`, its half-done devalidation) be dropped later."""
        self.mfn = mfn
        self.partial = partial


class PageTables(L1Tables):
    """Validation of page tables over a FrameTable (its `contents`).

    The hypervisor sets `deferred` to that of the vCPU that runs; coherence.py sets the hooks that flush TLBs and
    translations.
    """

    def __init__(
        self,
        frames: FrameTable,
        must_yield: Callable[[int], bool] = lambda cost: False,
        domain_freed_frames: Callable[[int, int, int], None] = lambda domid, mfn, count: None,
        xen_slots: Callable[[int], dict[int, int]] = lambda domid: {},
    ) -> None:
        """`must_yield` charges work; `domain_freed_frames` hears (domid, mfn, count) of frames that are free again;
        `xen_slots` has the hypervisor's entries of a domain's L4s."""
        super().__init__(frames, must_yield)
        self.partial: dict[int, tuple[int, bool]] = {}  # mfn -> (entries taken, whether the next one is half done)
        self.deferred = Deferred()
        self.flush_before_reuse: Callable[[], None] = lambda: None
        self.l4_changed: Callable[[], None] = lambda: None
        self.domain_freed_frames = domain_freed_frames
        self.descriptors_acceptable: Callable[[int], bool] = lambda mfn: False
        self.xen_slots = xen_slots
        self.m2p_entry = 0  # what an L4 has in slot 256 if it has the M2P
        frames.contents = self

    # -- FrameTable's call-backs -------------------------------------------------------------------------------
    def validate(self, mfn: int, wanted: int, preemptible: bool) -> None:
        """Check `mfn`'s contents as type `wanted`; continues where `partial` says an earlier try stopped."""
        if wanted == L1:
            self.promote_l1(mfn)
        elif wanted == SEG_DESC:
            self.must_yield(512)
            if not self.descriptors_acceptable(mfn):
                raise HypercallError(Errno.EINVAL)
        else:
            self._promote(mfn, wanted, preemptible)

    def devalidate(self, mfn: int, preemptible: bool) -> None:
        """Drop everything a validated (or half-done) table holds."""
        level = self.frames.types[mfn] & TYPE_MASK
        if level == L1:
            self.demote_l1(mfn)
        elif level != SEG_DESC:
            self._demote(mfn, level, preemptible)

    def type_changes(self, mfn: int) -> None:
        """Before a frame changes its type: flush the TLB entries, and note the translated code, of the old use."""
        self.flush_before_reuse()
        self.executable.retyped(mfn)

    def frame_freed(self, mfn: int, owner: int, count: int = 1) -> None:
        """A frame was freed: flush TLBs and translations. With `count` above 1, no frame of them holds code."""
        self.flush_before_reuse()
        self.executable.freed(mfn)
        self.domain_freed_frames(owner, mfn, count)

    # -- L2, L3, L4 ------------------------------------------------------------------------------------------------
    def get_upper_entry(
        self, entry: int, table: int, level: int, preemptible: bool, resumed: bool = False, retain: bool = False
    ) -> None:
        """Take the table that a present entry of `table` (L2..L4) names: of the next lower level, or of the same one.

        With `resumed`, an earlier try was preempted and holds the reference already. With `retain`, the reference is
        kept if this try is preempted.
        """
        if entry & UPPER_DISALLOW:
            raise HypercallError(Errno.EINVAL)
        mfn = (entry & ADDRESS) >> 12
        frames = self.frames
        owner = frames.owner[table]
        if not resumed and not frames.get_page(mfn, owner):
            raise HypercallError(Errno.EINVAL)
        try:
            frames.get_page_type(mfn, level - 1, preemptible)
        except (HypercallError, Interrupted, Restart) as failure:
            half_done = isinstance(failure, ValidationFailed) and failure.mfn == mfn
            if frames.types[mfn] & TYPE_MASK == level and self.linear.take(entry, table, level, owner):
                frames.put_page(mfn)  # that took its own
                return
            kept = half_done or (retain and isinstance(failure, Restart))
            if not resumed and not kept:
                frames.put_page(mfn)
            raise

    def put_upper_entry(self, entry: int, table: int, resumed: bool = False) -> None:
        """Drop the lower table a present L2..L4 entry names. May raise Restart or Interrupted."""
        mfn = (entry & ADDRESS) >> 12
        if mfn == table:
            return
        linear = not resumed and self.linear.joined(mfn, table)  # a half done one began to go before
        try:
            self.frames.put_page_type(mfn, preemptible=True, partial=resumed)
        except Restart:
            if linear:
                self.linear.part(mfn, table)
            raise
        if linear:
            self.linear.part(mfn, table)
        self.frames.put_page(mfn)

    def _present(self, table: int, level: int, start: int, end: int) -> list[int]:
        """The indices in range(start, end) of a table's present entries (usually few), but the hypervisor's."""
        words, base = self.words, table << 9
        entries = words[base + start : base + end].tolist()
        slots = [index for index in compress(range(start, end), entries) if words[base + index] & PRESENT]
        return slots if level < L4 else [slot for slot in slots if not FIRST_XEN_SLOT <= slot <= LAST_XEN_SLOT]

    def _promote(self, table: int, level: int, preemptible: bool) -> None:
        words, base = self.words, table << 9
        gets = L4_GETS if level == L4 else UPPER_GETS
        start, resumed = self.partial.pop(table, (0, False))
        index = start
        try:
            for index in self._present(table, level, start, 512):
                resumed = resumed and index == start
                entry = words[base + index]
                if preemptible and index > start and self.must_yield(1):
                    raise Interrupted
                self.get_upper_entry(entry, table, level, preemptible and level > L2, resumed, retain=True)
                resumed = False
                if entry & gets != gets:
                    words[base + index] = entry | gets
        except Restart:
            self.partial[table] = (index, True)
            raise
        except Interrupted:
            if index == 0:
                raise
            self.partial[table] = (index, resumed)
            raise Restart from None
        except HypercallError as failure:
            child = (words[base + index] & ADDRESS) >> 12
            half_done = resumed or (isinstance(failure, ValidationFailed) and failure.mfn == child)
            if index == 0 and not half_done:
                raise
            self.partial[table] = (index, half_done)
            self.deferred.put(table, partial=True)
            raise ValidationFailed(failure.errno, table) from None
        if level == L4:
            self.l4_changed()
            for slot in range(FIRST_XEN_SLOT, LAST_XEN_SLOT + 1):
                words[base + slot] = 0
            for slot, value in self.xen_slots(self.frames.owner[table]).items():
                words[base + slot] = value
            self.l4_changed()

    def _demote(self, table: int, level: int, preemptible: bool) -> None:
        words, base = self.words, table << 9
        taken, resumed = self.partial.pop(table, (512, False))
        # Entries 0..taken-1 are held; with `resumed`, entry `taken` is held half done.
        first = taken if resumed else taken - 1
        for index in reversed(self._present(table, level, 0, first + 1)):
            resumed = resumed and index == first
            if preemptible and index < first and self.must_yield(1):
                self.partial[table] = (index + 1, False)
                raise Restart
            try:
                self.put_upper_entry(words[base + index], table, resumed)
            except Restart:
                self.partial[table] = (index, True)
                raise
            except Interrupted:
                if index == 511 and not resumed:
                    raise
                self.partial[table] = (index if resumed else index + 1, resumed)
                raise Restart from None

    # -- the door --------------------------------------------------------------------------------------------------
    def modify(self, address: int, new: int, preserve_ad: bool, table_owner: int, page_owner: int) -> bool:
        """Change the entry at machine `address` of a validated table; False when that frame is no page table.

        Raises HypercallError, Restart or Interrupted with nothing changed. (mod_l1_entry .. mod_l4_entry)
        """
        table = address >> 12
        state = self.frames.types[table]
        level = state & TYPE_MASK
        if not state & VALIDATED or not L1 <= level <= L4 or not self.frames.type_counts[table]:
            return False
        if level == L1:
            self.modify_l1(address >> 3, new, preserve_ad, table_owner, page_owner)
        elif page_owner != table_owner:
            raise HypercallError(Errno.EINVAL)
        else:
            self._modify_upper(address >> 3, new, preserve_ad, level)
        return True

    def modify_own(self, requests: list[int], start: int, domid: int) -> tuple[int, Exception | None]:
        """Carry out requests of an mmu_update (two words each) from index `start`, as long as each changes an entry of
        an L1 of the domain's own. Returns the index where it stopped, and the error if one stopped it."""
        for index in range(start, len(requests), 2):
            address, new = requests[index], requests[index + 1]
            if address & 7 or not self.is_own_l1(address >> 12, domid):
                return index, None
            try:
                self.modify(address, new, False, domid, domid)
            except HypercallError as failure:
                return index, failure
        return len(requests), None

    def is_own_l1(self, mfn: int, domid: int) -> bool:
        """Whether a frame is the domain's and in use as an L1 table."""
        frames = self.frames
        return (
            mfn < frames.count
            and frames.owner[mfn] == domid
            and frames.types[mfn] & FIT_FOR == L1_TABLE
            and frames.type_counts[mfn] > 0
        )

    def _modify_upper(self, slot: int, new: int, preserve_ad: bool, level: int) -> None:
        index, table = slot & 511, slot >> 9
        if level == L4 and FIRST_XEN_SLOT <= index <= LAST_XEN_SLOT:
            raise HypercallError(Errno.EINVAL)
        old = self.words[slot]
        if new & PRESENT:
            if new & UPPER_DISALLOW:
                raise HypercallError(Errno.EINVAL)
            unchanged = old & PRESENT and not (old ^ new) & REVALIDATED
            if not unchanged:
                self.get_upper_entry(new, table, level, preemptible=level > L2)
            new |= L4_GETS if level == L4 else UPPER_GETS
        else:
            unchanged = False
        self.words[slot] = new | old & (ACCESSED | DIRTY) if preserve_ad else new
        self.stale = True
        if level == L4:
            self.l4_changed()
        dropped = (old & ADDRESS) >> 12
        if old & PRESENT and not unchanged and dropped != table:
            if self.linear.joined(dropped, table):
                self.linear.part(dropped, table)
            self.deferred.put(dropped, partial=False)

    def settle(self) -> None:
        """Drop the table in `deferred`, if any; raises Restart when preempted. (put_old_guest_table)"""
        deferred = self.deferred
        mfn = deferred.mfn
        if not mfn:
            return
        try:
            self.frames.put_page_type(mfn, preemptible=True, partial=deferred.partial)
        except Restart:
            deferred.partial = True
            raise
        except Interrupted:
            deferred.partial = False
            raise Restart from None
        deferred.mfn = 0
        self.frames.put_page(mfn)

    def get_root(self, mfn: int, owner: int) -> None:
        """Take `mfn` as an L4 for a vCPU's CR3. Raises HypercallError(EINVAL) or Restart."""
        frames = self.frames
        if not frames.get_page(mfn, owner):
            raise HypercallError(Errno.EINVAL)
        try:
            frames.get_page_type(mfn, L4, preemptible=True)
        except (HypercallError, Interrupted, Restart) as failure:
            if self.deferred.mfn != mfn:
                frames.put_page(mfn)
            if isinstance(failure, Interrupted):
                raise Restart from None
            raise

    def show_m2p(self, mfn: int, shown: bool) -> None:
        """Put the M2P into an L4, or take it out. (fill_ro_mpt, zap_ro_mpt)"""
        slot = (mfn << 9) + FIRST_XEN_SLOT
        if bool(self.words[slot]) != shown:
            self.words[slot] = self.m2p_entry if shown else 0
            self.l4_changed()

    def put_root(self, mfn: int) -> None:
        """Drop the reference and use of an L4 that CR3 held. Raises Restart if it takes long: `deferred` keeps it."""
        try:
            self.frames.put_page_and_type_preemptible(mfn)
        except Restart:
            self.deferred.put(mfn, partial=True)
            raise
        except Interrupted:
            self.deferred.put(mfn, partial=False)
            raise Restart from None


def hypervisor_owned(frames: FrameTable, mfn: int) -> bool:
    """Whether `mfn` belongs to the hypervisor itself."""
    return mfn < frames.count and frames.owner[mfn] == DOMID_XEN
