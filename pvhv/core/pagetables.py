# SPDX-License-Identifier: GPL-2.0-or-later
"""What a page table may contain, and the one door through which entries change.

A guest's page tables hold machine addresses and the engine's MMU walks them as they stand, so everything the guest
must not reach has to be kept out of them. A frame becomes an L1..L4 table only after every entry of it was checked
(`validate`), each present entry holds a reference (and a use, as writable memory or as the table of the next lower
level) on what it names, and afterwards single entries change only through `modify` and `replace_l1_entry`, which take
the new entry's references before they drop the old one's. The hypervisor's own slots of an L4 (256..271) are written
here and can never be named by the guest.

Big trees are taken and dropped in pieces. `Restart` leaves a table half done: `partial[mfn]` remembers how many
entries were taken and whether the next one is half done itself. Dropping a table that an update replaced may take
long as well, so it is put into `deferred`, the vCPU's Xen-style old_guest_table, and worked off before that vCPU's
next page-table operation.

An entry may also name a table of its own level, under the rules of pvhv.core.linear.

As in Xen an L1 entry for user code gets the G bit when it is accepted (adjust_guest_l1e), which the guest can see.

Not modelled: superpages, which Xen denies PV guests too; the U bit Xen adds to kernel entries, and to those of upper
tables, because our guest kernels run at CPL 1; code that is changed through the one writable mapping its frame had
before it was made executable (see `made_executable`): of such stores the engine sees the first after a TLB flush, so
that mapping has to be closed, or flushed, before what was written is run; and bytes that were others for a while, were
run so, and are the old ones again when they are mapped.

Read beside it: xen/arch/x86/mm.c, promote_*_table, demote_*_table, mod_*_entry, get_page_from_*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import compress

from pvhv.abi.errno import Errno
from pvhv.core.errors import HypercallError, Interrupted, Restart, ValidationFailed
from pvhv.core.frames import (
    CODE_MAPPED,
    CODE_NONE,
    CODE_STALE,
    COUNT_LIMIT,
    DOMID_XEN,
    L1,
    L2,
    L4,
    PINNED,
    SEG_DESC,
    TYPE_MASK,
    VALIDATED,
    WRITABLE,
    FrameTable,
)
from pvhv.core.linear import LinearTables

PRESENT, RW, USER, PWT, PCD, ACCESSED, DIRTY, PAT_PSE, GLOBAL = (1 << bit for bit in range(9))
NX = 1 << 63
ADDRESS = 0x000F_FFFF_FFFF_F000

# Xen's L1_DISALLOW_MASK for a domain without device memory, and base_disallow_mask for the levels above.
L1_DISALLOW = PWT | PCD | PAT_PSE
UPPER_DISALLOW = PWT | PCD | PAT_PSE | GLOBAL
# Bits that may change in a present entry without revalidating it (FASTPATH_FLAG_WHITELIST).
AVAILABLE = 0xE00 | 0x7FF0_0000_0000_0000
FREELY_CHANGED = NX | AVAILABLE | GLOBAL | DIRTY | ACCESSED | USER
REVALIDATED = ~FREELY_CHANGED & 0xFFFF_FFFF_FFFF_FFFF

LOOK_COST = 32  # of looking for the entries of an L1, in units of work (about an entry each)

L4_IN_USE = L4 | VALIDATED
FIRST_XEN_SLOT = 256
LAST_XEN_SLOT = 271


class Deferred:
    """The one table a vCPU still has to drop (v->arch.old_guest_table); `mfn` 0 means none."""

    __slots__ = ("mfn", "partial")

    def __init__(self) -> None:
        self.mfn = 0
        self.partial = False

    def put(self, mfn: int, partial: bool) -> None:
        """Leave the reference and use (or, when `partial`, the half-done state) on `mfn` to be dropped later."""
        self.mfn = mfn
        self.partial = partial


class PageTables:
    """Validation of page tables over a FrameTable (its `contents`).

    The hypervisor sets `deferred` to that of the vCPU that runs, `must_yield` to what tells a long operation that its
    share of work is used up, and the hooks that keep the engine's translations true.
    """

    def __init__(self, frames: FrameTable) -> None:
        self.frames = frames
        self.words = frames.ram.words
        self.linear = LinearTables(frames)
        self.partial: dict[int, tuple[int, bool]] = {}  # mfn -> (entries taken, whether the next one is half done)
        self.digests: dict[int, int] = {}  # mfn -> hash of its bytes when it was last made executable
        self.deferred = Deferred()
        self.must_yield: Callable[[int], bool] = lambda cost: False
        self.flush_before_reuse: Callable[[], None] = lambda: None
        self.forget_code: Callable[[int], None] = lambda mfn: None
        self.watch_code: Callable[[int, bool], None] = lambda mfn, wanted: None
        self.stale = False  # entries were removed or changed since the last flush: TLBs may still know them
        self.l4_changed: Callable[[], None] = lambda: None
        self.domain_freed_frames: Callable[[int, int, int], None] = lambda domid, mfn, count: None
        self.descriptors_acceptable: Callable[[int], bool] = lambda mfn: False
        self.xen_slots: Callable[[int], dict[int, int]] = lambda domid: {}
        frames.contents = self

    # -- FrameTable's call-backs -------------------------------------------------------------------------------
    def validate(self, mfn: int, wanted: int, preemptible: bool) -> None:
        """Check `mfn`'s contents as `wanted`; continues where `partial` says an earlier try stopped."""
        if wanted == L1:
            self._promote_l1(mfn)
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
            self._demote_l1(mfn)
        elif level != SEG_DESC:
            self._demote(mfn, level, preemptible)

    def type_changes(self, mfn: int) -> None:
        """Before a frame changes its type, no stale translation may still reach it as the old one."""
        self.flush_before_reuse()
        if self.frames.code[mfn] or self._ran_as_code(mfn):
            self.frames.code[mfn] = CODE_STALE

    def _ran_as_code(self, mfn: int) -> bool:
        """Whether a frame may have been executed while it was a table, as only a linear mapping lets one do."""
        frames, owners = self.frames, self.linear.owners
        return bool(owners) and frames.owner[mfn] in owners and L1 <= frames.types[mfn] & TYPE_MASK <= L4

    def frame_freed(self, mfn: int, owner: int, count: int = 1) -> None:
        """The last reference went: nothing may remember the frame (of several neighbours, no code is known)."""
        self.flush_before_reuse()
        if self.frames.code[mfn] or self._ran_as_code(mfn):
            self.forget_code(mfn)
            self.frames.code[mfn] = CODE_NONE
            self.digests.pop(mfn, None)
        self.domain_freed_frames(owner, mfn, count)

    # -- L1 --------------------------------------------------------------------------------------------------------
    def get_l1_entry(self, entry: int, table_owner: int, page_owner: int, old: int = 0) -> None:
        """Take what a present L1 entry names: a reference, and a writable use if it says RW.

        Raises HypercallError: EINVAL for bits a guest may not set, EPERM for addresses that are no RAM, EBUSY for a
        frame of somebody else or in use as something that must not be writable. (get_page_from_l1e)
        """
        if entry & L1_DISALLOW:
            raise HypercallError(Errno.EINVAL)
        mfn = (entry & ADDRESS) >> 12
        frames = self.frames
        if mfn >= frames.count:
            raise HypercallError(Errno.EINVAL if mfn == ADDRESS >> 12 else Errno.EPERM)
        if not frames.get_page(mfn, page_owner):
            raise HypercallError(Errno.EBUSY)
        if entry & RW:
            try:
                frames.get_page_type(mfn, WRITABLE)
            except HypercallError:
                frames.put_page(mfn)
                raise HypercallError(Errno.EBUSY) from None
            if frames.code[mfn]:
                self.made_writable(mfn, entry, old)
        if not entry & NX:
            self.made_executable(mfn, entry, old)

    def put_l1_entry(self, entry: int, table_owner: int) -> None:
        """Drop what a present L1 entry holds. (put_page_from_l1e)"""
        mfn = (entry & ADDRESS) >> 12
        frames = self.frames
        if mfn >= frames.count:
            return
        self.stale = True
        if entry & RW:
            frames.type_counts[mfn] -= 1
        refs = frames.refs[mfn]
        if refs > 1:
            frames.refs[mfn] = refs - 1
        else:
            frames.put_page(mfn)

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

    def _promote_l1(self, mfn: int) -> None:
        frames, words = self.frames, self.words
        owner, owners, limit = frames.owner[mfn], frames.owner, frames.count
        refs, types, type_counts, code = frames.refs, frames.types, frames.type_counts, frames.code
        taken: list[int] = []
        try:
            for slot in self._filled(mfn):
                entry = words[slot]
                if not entry & PRESENT:
                    continue
                target = (entry & ADDRESS) >> 12
                if (
                    entry < NX
                    or entry & L1_DISALLOW
                    or target >= limit
                    or owners[target] != owner
                    or (entry & RW and (types[target] != WRITABLE | VALIDATED or code[target]))
                ):
                    self.get_l1_entry(entry, owner, owner)
                else:  # the same, for what most entries are
                    if entry & RW:
                        type_counts[target] += 1
                    refs[target] += 1
                taken.append(entry)
                if entry & (USER | GLOBAL) == USER:
                    words[slot] = entry | GLOBAL
        except HypercallError:
            for entry in reversed(taken):
                self.put_l1_entry(entry, owner)
            raise
        finally:
            self.must_yield(LOOK_COST + len(taken))

    def _filled(self, table: int) -> Iterable[int]:
        """Where in `words` a table has something: few places, as a rule."""
        start, end = table << 9, (table + 1) << 9
        return compress(range(start, end), self.words[start:end].tolist())

    def _demote_l1(self, mfn: int) -> None:
        frames = self.frames
        owner, limit, refs, type_counts = frames.owner[mfn], frames.count, frames.refs, frames.type_counts
        dropped = 0
        for entry in filter(None, self.words[mfn << 9 : (mfn + 1) << 9].tolist()):
            if not entry & PRESENT:
                continue
            dropped += 1
            target = (entry & ADDRESS) >> 12
            if target >= limit or refs[target] == 1:
                self.put_l1_entry(entry, owner)
                continue
            self.stale = True
            if entry & RW:
                type_counts[target] -= 1
            refs[target] -= 1
        self.must_yield(LOOK_COST + dropped)

    # -- L2, L3, L4 ------------------------------------------------------------------------------------------------
    def get_upper_entry(
        self, entry: int, table: int, level: int, preemptible: bool, resumed: bool = False, retain: bool = False
    ) -> None:
        """Take the next lower table a present entry of an L2..L4, `table`, names, or one of the same level.

        `resumed` says that an earlier try was put aside and already holds the reference; `retain` that it shall be
        held should this one be put aside.
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
        """Which of a table's entries from `start` to before `end` are there: few, as a rule. Not the hypervisor's."""
        words, base = self.words, table << 9
        entries = words[base + start : base + end].tolist()
        slots = [index for index in compress(range(start, end), entries) if words[base + index] & PRESENT]
        return slots if level < L4 else [slot for slot in slots if not FIRST_XEN_SLOT <= slot <= LAST_XEN_SLOT]

    def _promote(self, table: int, level: int, preemptible: bool) -> None:
        words, base = self.words, table << 9
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
            self._modify_l1(address >> 3, new, preserve_ad, table_owner, page_owner)
        elif page_owner != table_owner:
            raise HypercallError(Errno.EINVAL)
        else:
            self._modify_upper(address >> 3, new, preserve_ad, level)
        return True

    def _modify_l1(self, slot: int, new: int, preserve_ad: bool, table_owner: int, page_owner: int) -> None:
        old = self.words[slot]
        if new & PRESENT:
            if new & USER:
                new |= GLOBAL
            if new & L1_DISALLOW:
                raise HypercallError(Errno.EINVAL)
            if old & PRESENT and not (old ^ new) & REVALIDATED:
                if (old & ~new) & NX:
                    self.made_executable((new & ADDRESS) >> 12, new, 0)
                self.stale = True
                self.words[slot] = new | old & (ACCESSED | DIRTY) if preserve_ad else new
                return
            self.get_l1_entry(new, table_owner, page_owner, old)
        self.words[slot] = new | old & (ACCESSED | DIRTY) if preserve_ad else new
        if old & PRESENT:
            self.put_l1_entry(old, table_owner)

    def replace_l1_entry(self, slot: int, new: int, owner: int) -> None:
        """Like `modify` of an entry in a domain's own L1, but what the old entry has as well is checked, too.

        A guest's own store is carried out so (ptwr_emulated_update). Raises HypercallError with nothing changed.
        """
        old = self.words[slot]
        if new & PRESENT:
            if new & USER:
                new |= GLOBAL
            self.get_l1_entry(new, owner, owner, old)
        self.words[slot] = new
        if old & PRESENT:
            self.put_l1_entry(old, owner)

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
        """Work off what `deferred` holds; raises Restart when it has to be put aside. (put_old_guest_table)"""
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
        if mfn < frames.count and frames.owner[mfn] == owner and frames.types[mfn] & ~PINNED == L4_IN_USE:
            uses = frames.type_counts[mfn]
            if 0 < uses < COUNT_LIMIT and frames.refs[mfn] < COUNT_LIMIT:  # a switch to a root that is in use: often
                frames.type_counts[mfn] = uses + 1
                frames.refs[mfn] += 1
                return
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

    def put_root(self, mfn: int) -> None:
        """Drop a CR3's hold on an L4, later if it takes long: raises Restart then."""
        frames = self.frames
        if frames.type_counts[mfn] > 1 and frames.refs[mfn] > 1 and frames.types[mfn] & ~PINNED == L4_IN_USE:
            frames.type_counts[mfn] -= 1
            frames.refs[mfn] -= 1
            return
        try:
            frames.put_page_and_type_preemptible(mfn)
        except Restart:
            self.deferred.put(mfn, partial=True)
            raise
        except Interrupted:
            self.deferred.put(mfn, partial=False)
            raise Restart from None


def hypervisor_owned(frames: FrameTable, mfn: int) -> bool:
    """Whether `mfn` belongs to the hypervisor itself."""
    return mfn < frames.count and frames.owner[mfn] == DOMID_XEN
