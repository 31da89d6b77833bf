# SPDX-License-Identifier: GPL-2.0-or-later
"""The frame table counted again from scratch.

Every reference and every use of a frame has a holder that can be found: the owner's own claim, a page-table entry, a
pin, a vCPU's root, descriptor table or vcpu_info, event queues, work put aside half done, a grant's mapping, a view of
domain 0's.
`problems` goes through all holders there are, adds up what they hold, and compares that with the columns of the frame
table; and it looks at every live page table for an entry that must not be there. Whatever a test did to a hypervisor,
nothing may be found afterwards:

    assert not problems(hv)

It trusts nothing but who holds what: the rules themselves are pagetables' and frames' business.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from pvhv.abi.grant_table import GNTMAP_device_map, GNTMAP_readonly
from pvhv.abi.xen import DOMID_XEN
from pvhv.core.hypervisor import Hypervisor
from pvhv.core.mm.frames import (
    DOMID_FREE,
    L1,
    L4,
    NONE,
    PARTIAL,
    PINNED,
    SEG_DESC,
    TYPE_MASK,
    TYPE_NAMES,
    VALIDATED,
    WRITABLE,
)
from pvhv.core.mm.pagetables import FIRST_XEN_SLOT, LAST_XEN_SLOT
from pvhv.core.mm.pte import ADDRESS, L1_DISALLOW, PRESENT, RW, UPPER_DISALLOW

XEN_SLOTS = range(FIRST_XEN_SLOT, LAST_XEN_SLOT + 1)
PERDOMAIN_PAGES = 32  # of a vCPU: 16 of GDT, 16 of LDT


class Count:
    """What each frame's counts ought to be, and as what it is used."""

    def __init__(self, hv: Hypervisor) -> None:
        self.hv = hv
        self.frames = hv.frames
        self.refs = array("q", bytes(8 * hv.frames.count))
        self.uses = array("q", bytes(8 * hv.frames.count))
        self.linear: dict[int, int] = {}
        self.wrong: list[str] = []

    def hold(self, mfn: int, holder: str, use: int | None = None) -> None:
        """One reference of `holder`, and with `use` one use as that type."""
        self.refs[mfn] += 1
        if use is not None:
            self.use(mfn, holder, use)

    def use(self, mfn: int, holder: str, use: int) -> None:
        """One use of a frame as `use`."""
        self.uses[mfn] += 1
        have = self.frames.types[mfn] & TYPE_MASK
        if have != use:
            self.wrong.append(f"{holder} uses {mfn:#x} as {TYPE_NAMES[use]}, but it is {TYPE_NAMES[have]}")

    # -- the holders -------------------------------------------------------------------------------------------
    def everything(self) -> None:
        """Go through all holders."""
        self._claims()
        self._tables()
        for domain in self.hv.domains.values():
            for mfn in domain.hypervisor_frames:
                if self.frames.owner[mfn] == domain.domid and not domain.dead:
                    self.hold(mfn, f"{domain}'s hypervisor", WRITABLE)
            self._vcpus(domain)
            self._grants(domain)
            if domain.pirq_eoi_mfn:
                self.hold(domain.pirq_eoi_mfn, f"{domain}'s page of interrupts", WRITABLE)
            for mfn in domain.events.fifo.kept if domain.events.fifo is not None else ():
                self.hold(mfn, f"{domain}'s event queues", WRITABLE)

    def _claims(self) -> None:
        frames = self.frames
        for mfn in find_all(frames.allocated, 1):
            self.hold(mfn, "its owner")

    def _tables(self) -> None:
        frames = self.frames
        for mfn in range(frames.count):
            state = frames.types[mfn]
            level = state & TYPE_MASK
            if state & PINNED:
                self.hold(mfn, "a pin", level)
            if state & PARTIAL:
                self.hold(mfn, "half-done work", level)
            if not L1 <= level <= L4 or not frames.type_counts[mfn]:
                continue
            if state & VALIDATED and state & PARTIAL:
                self.wrong.append(f"{mfn:#x} is both validated and half done")
            if state & VALIDATED:
                self._entries(mfn, level, 512, False)
            elif state & PARTIAL:
                taken, resumed = self.hv.pagetables.partial.get(mfn, (0, False))
                self._entries(mfn, level, taken, resumed)
            else:
                self.wrong.append(f"{mfn:#x} is in use as {TYPE_NAMES[level]}, but neither validated nor half done")

    def _entries(self, table: int, level: int, taken: int, resumed: bool) -> None:
        words = self.hv.ram.words
        for index, entry in enumerate(words[table << 9 : (table << 9) + 512].tolist()):
            if level == L4 and index in XEN_SLOTS:
                continue
            where = f"{TYPE_NAMES[level]} {table:#x}[{index}]"
            if not entry & PRESENT or index > taken or (index == taken and not resumed):
                continue
            mfn = (entry & ADDRESS) >> 12
            if mfn >= self.frames.count:
                self.wrong.append(f"{where} names no RAM: {entry:#x}")
            elif level == L1:
                self._l1_entry(where, table, entry, mfn)
            elif index == taken:
                self.hold(mfn, where)  # half done itself: what its PARTIAL holds is counted there
            else:
                self._upper_entry(where, table, entry, mfn, level)

    def _l1_entry(self, where: str, table: int, entry: int, mfn: int) -> None:
        if entry & L1_DISALLOW:
            self.wrong.append(f"{where} has bits no guest may set: {entry:#x}")
        if self.frames.owner[mfn] != self.frames.owner[table] and not self._granted(mfn, table):
            self.wrong.append(f"{where} maps a frame of {self.frames.owner[mfn]} without a grant")
        self.hold(mfn, where, WRITABLE if entry & RW else None)

    def _granted(self, mfn: int, table: int) -> bool:
        """Whether a grant is in use; the mark it put into an entry is one of the bits a guest may clear. (As in Xen)"""
        owner = self.hv.domains.get(self.frames.owner[mfn])
        user = self.frames.owner[table]
        return owner is not None and any(
            active.domid == user and active.mfn == mfn for active in owner.grants.active.values()
        )

    def _upper_entry(self, where: str, table: int, entry: int, mfn: int, level: int) -> None:
        if entry & UPPER_DISALLOW:
            self.wrong.append(f"{where} has bits no guest may set: {entry:#x}")
        if self.frames.owner[mfn] != self.frames.owner[table]:
            self.wrong.append(f"{where} names a table of {self.frames.owner[mfn]}")
        if not self.frames.types[mfn] & VALIDATED and mfn != table:
            self.wrong.append(f"{where} names {mfn:#x}, which is not validated")
        if self.frames.types[mfn] & TYPE_MASK != level:
            self.hold(mfn, where, level - 1)
            return
        if entry & RW:
            self.wrong.append(f"{where} is a linear mapping, but writable")
        if mfn != table:
            self.hold(mfn, where, level)
            self.linear[table] = self.linear.get(table, 0) + 1
            self.linear[mfn] = self.linear.get(mfn, 0) - 1

    def _vcpus(self, domain: object) -> None:
        hv = self.hv
        for vcpu in domain.vcpus:  # type: ignore[attr-defined]
            for mfn in (vcpu.guest_table, vcpu.guest_table_user):
                if mfn:
                    self.hold(mfn, f"{vcpu}'s root", L4)
            if vcpu.deferred.mfn:
                mfn = vcpu.deferred.mfn
                level = self.frames.types[mfn] & TYPE_MASK
                self.hold(mfn, f"{vcpu}'s old table", None if vcpu.deferred.partial else level)
            for mfn in vcpu.gdt_frames:
                self.hold(mfn, f"{vcpu}'s GDT", SEG_DESC)
            for page in range(PERDOMAIN_PAGES // 2, PERDOMAIN_PAGES):
                index = vcpu.vcpu_id * PERDOMAIN_PAGES + page
                l1s = vcpu.domain.perdomain_l1s
                if (index >> 9) >= len(l1s) or hv.frames.owner[l1s[index >> 9]] != DOMID_XEN:
                    continue
                entry = hv.ram.words[(l1s[index >> 9] << 9) + (index & 511)]
                if entry & PRESENT:
                    self.hold((entry & ADDRESS) >> 12, f"{vcpu}'s LDT", SEG_DESC)
            if vcpu.vcpu_info_mfn:
                self.hold(vcpu.vcpu_info_mfn, f"{vcpu}'s vcpu_info", WRITABLE)

    def _grants(self, domain: object) -> None:
        grants = domain.grants  # type: ignore[attr-defined]
        for mapping in grants.maptrack:
            if mapping.flags & GNTMAP_device_map and mapping.granter is not None:
                mfn = mapping.granter.grants.active[mapping.ref].mfn
                self.hold(mfn, f"{domain}'s device mapping", None if mapping.flags & GNTMAP_readonly else WRITABLE)
        for view in grants.views:
            self.hold(view.mfn, f"{domain}'s view", None if view.readonly else WRITABLE)

    # -- the comparison ----------------------------------------------------------------------------------------
    def compare(self) -> Iterator[str]:
        """Where the frame table says something else; what is free must be clean."""
        frames = self.frames
        free = 0
        for mfn in range(1, frames.count):
            if frames.owner[mfn] == DOMID_FREE:
                free += 1
                if frames.types[mfn] or frames.code[mfn] or frames.allocated[mfn]:
                    yield f"{mfn:#x} is free, but not clean: type {frames.types[mfn]:#x}"
            if frames.refs[mfn] != self.refs[mfn]:
                yield f"{self.name(mfn)}: {frames.refs[mfn]} references, held are {self.refs[mfn]}"
            if frames.type_counts[mfn] != self.uses[mfn]:
                yield f"{self.name(mfn)}: {frames.type_counts[mfn]} uses, held are {self.uses[mfn]}"
        if free != frames.free_frames:
            yield f"{free} frames are free, but it says {frames.free_frames}"
        if self.linear != self.hv.pagetables.linear.counts:
            yield f"linear entries are {self.linear}, but it says {self.hv.pagetables.linear.counts}"
        for mfn in self.hv.pagetables.partial:
            if not frames.types[mfn] & PARTIAL:
                yield f"{mfn:#x} is remembered as half done, but is not"

    def name(self, mfn: int) -> str:
        """A frame, for people."""
        state = self.frames.types[mfn]
        flags = "".join(
            letter for bit, letter in ((VALIDATED, "v"), (PINNED, "p"), (PARTIAL, "~")) if state & bit
        )
        return f"{mfn:#x} (d{self.frames.owner[mfn]}, {TYPE_NAMES.get(state & TYPE_MASK, '?')}{flags})"


def find_all(column: bytearray, value: int) -> Iterator[int]:
    """Where a byte column has a value."""
    at = column.find(value)
    while at >= 0:
        yield at
        at = column.find(value, at + 1)


def problems(hv: Hypervisor) -> list[str]:
    """Whatever is wrong with the frame table of `hv`; empty when it balances."""
    count = Count(hv)
    count.everything()
    return count.wrong + list(count.compare())


def census(hv: Hypervisor) -> dict[int, int]:
    """How many frames each owner has."""
    counts: dict[int, int] = {}
    for owner in hv.frames.owner:
        counts[owner] = counts.get(owner, 0) + 1
    return counts


__all__ = ["NONE", "Count", "census", "problems"]
