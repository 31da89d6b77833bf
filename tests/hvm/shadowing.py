# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of shadow paging need: a CPU that walks the shadows, a guest without one, and a count of frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from pvhv.hvm.counts import Counts
from pvhv.hvm.cpu.memory import GuestPhysical, PageFault, Translation, walk
from pvhv.hvm.paging.shadow import Outcome, ShadowPaging
from pvhv.machine.ram import Ram
from pvhv.machine.x86 import CR0_PG, CR0_WP, EFER_LMA, EFER_NXE

P, RW, US, A, D, PSE, G = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
NX = 1 << 63
ADDRESS = 0x000F_FFFF_FFFF_F000
WRITE, USER, FETCH = 2, 4, 16
TABLE = P | RW | US | A


class Frames:
    """Frames for shadow tables, each accounted for."""

    def __init__(self, ram: Ram, first: int, count: int) -> None:
        self.ram = ram
        self.free = list(range(first, first + count))
        self.out: set[int] = set()

    def own_frame(self) -> int:
        mfn = self.free.pop()
        self.out.add(mfn)
        assert not any(self.ram.frame(mfn))
        return mfn

    def give_back(self, mfn: int) -> None:
        self.out.remove(mfn)
        self.free.append(mfn)
        self.ram.discard(mfn)


@dataclass
class Registers:
    """As much of a GuestCpu as paging asks for."""

    cr0: int = CR0_PG | CR0_WP
    cr3: int = 0
    cr4: int = 0
    efer: int = EFER_LMA | EFER_NXE
    rflags: int = 2


@dataclass
class Hit:
    machine: int
    writable: bool
    user: bool
    executable: bool


def hardware(words: memoryview, cr3: int, va: int, code: int) -> Hit | int:
    """A CPU with CR0.WP and NXE set: where an access leads, or the error code of its #PF."""
    table, writable, user, executable = cr3, True, True, True
    for shift in (39, 30, 21, 12):
        entry = words[(table & ADDRESS) >> 3 | va >> shift & 511]
        if not entry & P:
            return code
        assert entry & A and (shift > 12 or entry & D), "the CPU would have to write to a shadow table"
        assert not (entry & PSE and shift > 12), "shadows have no large pages"
        writable, user = writable and bool(entry & RW), user and bool(entry & US)
        executable = executable and not entry & NX
        table = entry
    if (code & WRITE and not writable) or (code & USER and not user) or (code & FETCH and not executable):
        return code | P
    return Hit((table & ADDRESS) | va & 0xFFF, writable, user, executable)


class Guest:
    """Guest memory in frames from here and there, its shadows, and what it does."""

    def __init__(self, frames: int = 64, *, spare: int = 300, **options: Any) -> None:
        self.ram = Ram(1 + frames * 2 + spare)
        self.physical = GuestPhysical(self.ram, [1 + (n * 7 % frames) * 2 for n in range(frames)])
        self.frames = Frames(self.ram, 1 + frames * 2, spare)
        self.cpu = Registers()
        self.counts = Counts()
        self.flushes = 0
        self.tlb: dict[tuple[int, int], Hit] = {}
        self.shadow = ShadowPaging(
            self.physical, cast(Any, self.cpu), self.frames, self.counts, self.flush, **options
        )
        self.cr3 = 0

    def flush(self) -> None:
        self.flushes += 1
        self.tlb.clear()

    # -- the guest's memory, looked at from beside ---------------------------------------------------------------------
    def entry(self, table: int, index: int) -> int:
        return self.physical.word(table << 12 | index << 3)

    def put(self, table: int, index: int, value: int) -> None:
        """Before the guest runs, or where nobody looks."""
        self.physical.set_word(table << 12 | index << 3, value)

    def map(self, va: int, gfn: int, flags: int = P | RW | US, root: int = 1, first: int = 2) -> None:
        """A four-level mapping by tables `first`.. (one for each level), which are made as needed."""
        table = root
        for n, shift in enumerate((39, 30, 21)):
            if not self.entry(table, va >> shift & 511) & P:
                self.put(table, va >> shift & 511, first + n << 12 | TABLE)
            table = (self.entry(table, va >> shift & 511) & ADDRESS) >> 12
        self.put(table, va >> 12 & 511, gfn << 12 | flags)

    # -- what the guest does -------------------------------------------------------------------------------------------
    def load(self, cr3: int | None = None) -> None:
        """MOV to CR3 (or CR0, EFER), as the monitor does it."""
        if cr3 is not None:
            self.cpu.cr3 = cr3
        self.cr3 = self.shadow.root()
        self.tlb.clear()

    def store(self, gpa: int, data: bytes | int) -> None:
        """A store that the monitor carries out."""
        data = data.to_bytes(8, "little") if isinstance(data, int) else data
        self.physical.write(gpa, data)
        self.shadow.guest_wrote(gpa, len(data))

    def look(self, va: int, code: int = 0) -> Hit | int:
        """What the CPU makes of an access, from its TLB or the shadow tables."""
        hit = self.tlb.get((va >> 12, code))
        if hit is not None:
            return replace(hit, machine=hit.machine & ~0xFFF | va & 0xFFF)
        found = hardware(self.ram.words, self.cr3, va, code)
        if isinstance(found, Hit):
            self.tlb[va >> 12, code] = found
        return found

    def access(self, va: int, code: int = 0) -> tuple[Hit | None, list[Outcome]]:
        """An access with all its faults; the hit is None where the monitor has to carry it out. Raises PageFault."""
        outcomes: list[Outcome] = []
        while True:
            found = self.look(va, code)
            if isinstance(found, Hit):
                return found, outcomes
            outcome = self.shadow.page_fault(va, found)
            outcomes.append(outcome)
            if outcome is not Outcome.FILLED:
                return None, outcomes
            assert len(outcomes) < 3, "filled, and filled again"

    def walk(self, va: int, code: int = 0, *, set_bits: bool = False) -> Translation | int:
        """What the guest's own tables say: a translation, or an error code."""
        write, user, fetch = bool(code & WRITE), bool(code & USER), bool(code & FETCH)
        try:
            return walk(self.physical, cast(Any, self.cpu), va, write=write, user=user, fetch=fetch, set_bits=set_bits)
        except PageFault as fault:
            return fault.code

    # -- what must be true at any time ---------------------------------------------------------------------------------
    def check(self) -> None:
        """No shadow entry grants more than the guest's, and every index tells the truth."""
        pages = self.shadow.pages
        words = self.ram.words
        leaves: dict[int, set[int]] = {}
        parents: dict[int, set[int]] = {mfn: set() for mfn in pages.pages}
        for mfn, page in pages.pages.items():
            for index, entry in enumerate(words[mfn << 9 : (mfn + 1) << 9].tolist()):
                if not entry:
                    continue
                if page.level > 1:
                    if not (page.level == 4 and index == self.shadow.vmm_slot):
                        parents[(entry & ADDRESS) >> 12].add(mfn << 9 | index)
                    continue
                gfn = page.targets[index]
                leaves.setdefault(gfn, set()).add(mfn << 9 | index)
                there = self.physical.mfn(gfn)
                assert (entry & ADDRESS) >> 12 == (self.shadow.ones if there is None else there)
                if entry & RW:
                    assert gfn not in pages.tables and gfn not in pages.protected and there is not None
        assert leaves == pages.leaves
        assert pages.mapped == sum(len(slots) for slots in leaves.values())
        assert parents == {mfn: page.parents for mfn, page in pages.pages.items()}
        assert all(page.parents or page.root for page in pages.pages.values())
        assert len(self.frames.out) == len(pages.pages) + len(pages._spare) + 1
        assert len(pages.pages) <= self.shadow.limit
        kept = self.cpu.cr3, self.cpu.cr0
        for (gfn, kind), root in self.shadow._roots.items():
            self.cpu.cr3, self.cpu.cr0 = gfn << 12, (self.cpu.cr0 | CR0_PG) if not kind else self.cpu.cr0 & ~CR0_PG
            self._check_rights(root.mfn, 0, 39)
        self.cpu.cr3, self.cpu.cr0 = kept

    def _check_rights(self, mfn: int, va: int, shift: int) -> None:
        for index, entry in enumerate(self.ram.words[mfn << 9 : (mfn + 1) << 9].tolist()):
            if not entry or (shift == 39 and index == self.shadow.vmm_slot):
                continue
            here = va | index << shift
            if shift > 12:
                self._check_rights((entry & ADDRESS) >> 12, here, shift - 9)
                continue
            granted = hardware(self.ram.words, self._root_of(), here, 0)
            assert isinstance(granted, Hit)
            codes = [USER if granted.user else 0]
            codes += [codes[0] | WRITE] if granted.writable else []
            codes += [codes[0] | FETCH] if granted.executable else []
            for code in codes:
                there = self.walk(here, code)
                assert isinstance(there, Translation), f"{here:#x}: the shadow grants {code:#x}, the guest does not"
                assert there.gpa >> 12 == self.shadow.pages.pages[mfn].targets[index]
                assert not code & WRITE or self._dirty(here)

    def _root_of(self) -> int:
        key = (self.cpu.cr3 >> 12, 0) if self.cpu.cr0 & CR0_PG else (0, 1)
        return self.shadow._roots[key].mfn << 12

    def _dirty(self, va: int) -> bool:
        there = self.walk(va)
        return isinstance(there, Translation) and there.dirty
