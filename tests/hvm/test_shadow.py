# SPDX-License-Identifier: GPL-2.0-or-later
"""Shadow paging, one rule at a time: what is shadowed, what is traced, what is given up, what it may cost."""

from __future__ import annotations

import pytest

from pvhv.core.errors import HypercallError
from pvhv.hvm.cpu.memory import PageFault, PagingModeUnsupported
from pvhv.hvm.paging.shadow import IDLE_STORES, LARGE_STORE, ODD_STORES, ROOTS, Outcome
from pvhv.machine.x86 import CR0_PG, CR0_WP, EFER_LMA, EFER_NXE
from tests.hvm.shadowing import FETCH, NX, PSE, RW, TABLE, US, USER, WRITE, A, D, G, Guest, Hit, P

FILLED, TRACED, EMULATE = Outcome.FILLED, Outcome.TRACED, Outcome.EMULATE
VA = 0x7F_1234_5000
DATA, OTHER = 0x20, 0x21
ROOT, L1 = 1, 4  # where Guest.map puts an address space's first and last table


def a_guest(flags: int = P | RW | US, frames: int = 64, **options: int) -> Guest:
    guest = Guest(frames, **options)  # type: ignore[arg-type]
    guest.map(VA, DATA, flags)
    guest.load(ROOT << 12)
    return guest


def slot(guest: Guest, va: int = VA) -> int:
    return L1 << 12 | (va >> 12 & 511) << 3


# -- filling -----------------------------------------------------------------------------------------------------------
def test_first_the_page_is_accessed_then_dirty() -> None:
    guest = a_guest()
    assert guest.access(VA)[1] == [FILLED]
    assert guest.entry(L1, 0x145) == DATA << 12 | P | RW | US | A
    assert guest.entry(ROOT, 0) & A and guest.access(VA)[1] == []
    hit, outcomes = guest.access(VA, WRITE)
    assert outcomes == [FILLED] and hit is not None
    assert guest.entry(L1, 0x145) == DATA << 12 | P | RW | US | A | D
    assert hit.machine == guest.physical.mfns[DATA] << 12
    guest.check()


def test_a_dirty_page_needs_one_fault() -> None:
    guest = a_guest(P | RW | US | A | D)
    assert guest.access(VA)[1] == [FILLED] and guest.access(VA, WRITE)[1] == []


@pytest.mark.parametrize(
    ("flags", "allowed", "refused"),
    [
        (P | US, (0, USER, USER | FETCH), ((WRITE, 3), (WRITE | USER, 7))),
        (P | RW, (0, WRITE, FETCH), ((USER, 5), (USER | WRITE, 7))),
        (P | RW | US | NX, (0, USER | WRITE), ((FETCH, 17), (FETCH | USER, 21))),
        (0, (), ((0, 0), (WRITE | USER, 6))),
        (P | US | 1 << 44, (), ((0, 9), (WRITE | USER, 15))),
    ],
)
def test_rights(flags: int, allowed: tuple[int, ...], refused: tuple[tuple[int, int], ...]) -> None:
    guest = a_guest(flags)
    for code in allowed:
        assert guest.access(VA, code)[0] is not None
    for code, error in refused:
        with pytest.raises(PageFault) as fault:
            guest.access(VA, code)
        assert (fault.value.va, fault.value.code) == (VA, error)
    guest.check()


def test_without_nxe_nx_is_reserved() -> None:
    guest = a_guest(P | RW | US | NX)
    assert guest.access(VA)[0] is not None
    guest.cpu.efer &= ~EFER_NXE
    guest.load()
    with pytest.raises(PageFault) as fault:
        guest.access(VA)
    assert fault.value.code == 9


def test_rights_of_upper_levels_count() -> None:
    guest = a_guest()
    guest.put(3, VA >> 21 & 511, L1 << 12 | P | A | NX)
    assert guest.access(VA)[0] == Hit(guest.physical.mfns[DATA] << 12, False, False, False)


@pytest.mark.parametrize(("level", "bits", "flags"), [(3, 21, P | RW | US), (2, 30, P | RW | US), (3, 21, P | US | NX)])
def test_large_pages_are_shadowed_by_small_ones(level: int, bits: int, flags: int) -> None:
    """Frames of a large page lie anywhere. Its one dirty bit is set by the first store to any of it."""
    guest = Guest(1024)
    guest.map(VA, DATA)
    base = 0x20_0000 if bits == 21 else 0
    guest.put(level, VA >> bits & 511, base | flags | PSE | G)
    guest.load(ROOT << 12)
    start = VA >> bits << bits
    for page in (0, 9, 300):
        hit, outcomes = guest.access(start + page * 4096 + 8)
        assert outcomes == [FILLED] and hit is not None
        assert hit.machine == guest.physical.mfns[(base >> 12) + page] << 12 | 8
        assert hit.executable == (not flags & NX)
    if flags & RW:
        assert guest.access(start + 9 * 4096, WRITE)[1] == [FILLED]
        assert guest.entry(level, VA >> bits & 511) & D
        assert guest.access(start, WRITE)[1] == []
    guest.check()


def test_a_large_page_that_is_not_aligned_is_reserved() -> None:
    guest = Guest(1024)
    guest.map(VA, DATA)
    guest.put(3, VA >> 21 & 511, 0x20_2000 | P | PSE)
    guest.load(ROOT << 12)
    with pytest.raises(PageFault) as fault:
        guest.access(VA)
    assert fault.value.code == 9
    guest.store(3 << 12 | (VA >> 21 & 511) << 3, 0x20_1000 | P | PSE)  # that one is PAT
    assert guest.access(VA)[0] is not None


def test_neighbours_that_were_used_before_come_along() -> None:
    guest = Guest(64, prefetch=8)
    for n in range(16):
        guest.map(VA + n * 4096, DATA + n, P | US | (A if n != 2 else 0))
    guest.load(ROOT << 12)
    group = VA & ~0x7FFF
    first = (VA - group) // 4096
    assert guest.access(VA)[1] == [FILLED]
    for n in range(8 - first):
        assert guest.access(VA + n * 4096)[1] == ([FILLED] if n == 2 else [])
    assert guest.access(group + 0x8000)[1] == [FILLED]
    guest.check()


def test_where_there_is_no_memory_ones_are_read_and_stores_are_carried_out() -> None:
    guest = Guest(64)
    guest.map(VA, 0x5000, P | RW)
    guest.load(ROOT << 12)
    hit, _ = guest.access(VA)
    assert hit is not None and guest.ram.words[hit.machine >> 3] == (1 << 64) - 1
    assert guest.access(VA, WRITE) == (None, [EMULATE])


def test_a_table_outside_memory_reads_as_ones() -> None:
    guest = a_guest()
    guest.load(0x5000 << 12)
    with pytest.raises(PageFault) as fault:
        guest.access(VA)
    assert fault.value.code == 9
    guest.check()


# -- modes -------------------------------------------------------------------------------------------------------------
def test_without_paging_an_address_is_guest_physical() -> None:
    guest = Guest(64)
    guest.cpu.cr0, guest.cpu.efer = 1, 0
    guest.load()
    hit, outcomes = guest.access(DATA << 12 | 0x10, WRITE)
    assert outcomes == [FILLED]
    assert hit == Hit(guest.physical.mfns[DATA] << 12 | 0x10, True, True, True)
    assert guest.access(0xFEE0_0000)[0] is not None
    guest.check()
    guest.map(VA, DATA)  # nobody traces tables that are not used
    guest.cpu.cr0, guest.cpu.cr3, guest.cpu.efer = CR0_PG | CR0_WP, ROOT << 12, EFER_LMA
    guest.load()
    assert guest.access(VA)[1] == [FILLED]
    guest.check()


def test_paging_without_long_mode_is_refused() -> None:
    guest = Guest(64)
    guest.cpu.efer = 0
    with pytest.raises(PagingModeUnsupported):
        guest.load()


def test_a_kernel_without_write_protection_has_its_stores_carried_out() -> None:
    guest = a_guest(P | US)
    guest.cpu.cr0 &= ~CR0_WP
    guest.load()
    assert guest.access(VA, WRITE) == (None, [EMULATE])
    assert guest.entry(L1, 0x145) & D
    with pytest.raises(PageFault) as fault:
        guest.access(VA, WRITE | USER)
    assert fault.value.code == 7
    guest.cpu.cr0 |= CR0_WP
    guest.load()
    with pytest.raises(PageFault):
        guest.access(VA, WRITE)


# -- traces ------------------------------------------------------------------------------------------------------------
def test_a_page_that_becomes_a_table_is_not_writable_any_more() -> None:
    guest = a_guest()
    for n in range(3):
        guest.map(VA + 0x1000 * (n + 1), L1, P | RW | US)
    guest.put(3, (VA >> 21 & 511) + 1, 9 << 12 | TABLE)
    guest.put(9, 0, DATA << 12 | P | RW | US)
    guest.put(9, 1, 9 << 12 | P | RW | US)
    next_table = (VA >> 21) + 1 << 21
    assert guest.access(VA, WRITE)[1] == [FILLED]
    flushes = guest.flushes
    guest.map(VA + 0x4000, 9, P | RW | US)
    assert guest.access(VA + 0x4000, WRITE)[1] == [FILLED]  # frame 9 is no table yet
    assert guest.flushes == flushes
    assert guest.access(next_table)[1] == [FILLED]  # now it is
    assert guest.flushes == flushes + 1
    assert guest.access(VA + 0x4000, WRITE) == (None, [TRACED])
    assert guest.access(next_table + 0x1000, WRITE | USER) == (None, [TRACED])  # nor through itself, nor by users
    assert guest.access(next_table + 0x1000)[0] is not None
    guest.check()


def test_the_first_store_to_a_table_through_itself_is_seen() -> None:
    """The very fault that shadows the way finds that it leads to one of its own tables."""
    guest = a_guest()
    guest.map(VA + 0x1000, L1)
    assert guest.access(VA + 0x1000, WRITE) == (None, [TRACED])
    guest.check()


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_a_store_of_any_size_is_seen(size: int) -> None:
    guest = a_guest()
    guest.access(VA)
    guest.store(slot(guest), bytes(size))
    with pytest.raises(PageFault):
        guest.access(VA)
    guest.check()


def test_a_store_across_entries_concerns_both() -> None:
    guest = a_guest(P | RW | US | A | D)
    guest.map(VA + 0x1000, OTHER, P | RW | US | A | D)
    guest.access(VA), guest.access(VA + 0x1000)
    guest.store(slot(guest) + 7, bytes([0x80, 0]))  # NX of the one, P of the other
    with pytest.raises(PageFault):
        guest.access(VA, FETCH)
    with pytest.raises(PageFault):
        guest.access(VA + 0x1000)
    guest.check()


def test_a_new_entry_is_there_at_once_if_it_was_used_before() -> None:
    guest = a_guest()
    guest.access(VA)
    guest.store(slot(guest), OTHER << 12 | P | RW | A | D)
    hit, outcomes = guest.access(VA, WRITE)
    assert outcomes == [] and hit is not None and hit.machine == guest.physical.mfns[OTHER] << 12
    guest.store(slot(guest), OTHER << 12 | P | RW)  # aged: to be seen again when it is used
    assert guest.access(VA)[1] == [FILLED] and guest.entry(L1, 0x145) & A
    guest.check()


def test_a_table_keeps_its_shadow_when_only_rights_change() -> None:
    guest = a_guest()
    guest.access(VA)
    pages = guest.counts.events["shadow_pages"]
    guest.store(3 << 12 | (VA >> 21 & 511) << 3, L1 << 12 | P | A)
    assert guest.access(VA)[1] == []
    with pytest.raises(PageFault):
        guest.access(VA, USER)
    guest.store(3 << 12 | (VA >> 21 & 511) << 3, L1 << 12 | TABLE)
    assert guest.access(VA, USER)[1] == [] and guest.counts.events["shadow_pages"] == pages
    guest.check()


def test_others_may_ask_for_traces_too() -> None:
    guest = a_guest(P | RW | US | A | D)
    guest.access(VA, WRITE)
    guest.shadow.protect(DATA)
    guest.shadow.protect(DATA)
    assert guest.access(VA, WRITE) == (None, [TRACED]) and guest.access(VA)[0] is not None
    guest.shadow.unprotect(DATA)
    assert guest.access(VA, WRITE) == (None, [TRACED])
    guest.shadow.unprotect(DATA)
    assert guest.access(VA, WRITE)[1] == [FILLED]
    guest.check()


# -- tables that are none any more -------------------------------------------------------------------------------------
def test_a_table_that_nothing_leads_to_is_written_freely() -> None:
    guest = a_guest()
    guest.map(VA + (1 << 21), DATA, first=10)
    guest.put(3, (VA >> 21 & 511) + 1, 9 << 12 | TABLE)
    guest.access(VA)
    guest.map(VA + 0x1000, L1)
    assert L1 in guest.shadow.pages.tables
    guest.store(3 << 12 | (VA >> 21 & 511) << 3, 0)
    assert L1 not in guest.shadow.pages.tables and guest.shadow.pages.leaves == {}
    guest.check()


@pytest.mark.parametrize(
    ("offset", "data"),
    [(0, b"so"), (3, b"me"), (5, b"text"), (0, b"that is no entry."), (8, b"a" + b"\xff" * 7)],
)
def test_a_table_that_is_filled_with_something_else_is_none(offset: int, data: bytes) -> None:
    guest = a_guest()
    guest.access(VA)
    for n in range(ODD_STORES):
        assert L1 in guest.shadow.pages.tables
        guest.store((L1 << 12 | n << 5) + offset, data)
    assert L1 not in guest.shadow.pages.tables
    guest.check()


@pytest.mark.parametrize(("offset", "data"), [(0, b"\0"), (0, bytes(4)), (4, bytes(4)), (0, bytes(8)), (0, bytes(16))])
def test_stores_as_kernels_do_them_leave_a_table_what_it_is(offset: int, data: bytes) -> None:
    guest = a_guest()
    guest.access(VA)
    for n in range(4 * ODD_STORES):
        guest.store((L1 << 12 | n << 4) + offset, data)
    assert L1 in guest.shadow.pages.tables
    guest.check()


def test_a_large_store_is_none_to_a_table() -> None:
    guest = a_guest()
    guest.access(VA)
    guest.store(L1 << 12, bytes(LARGE_STORE + 8))
    assert L1 not in guest.shadow.pages.tables
    guest.check()


def test_an_address_space_that_is_not_used_is_not_traced_for_long() -> None:
    guest = a_guest()
    guest.access(VA)
    guest.map(VA, DATA, root=11, first=12)
    guest.load(11 << 12)
    guest.access(VA)
    for n in range(IDLE_STORES):
        assert L1 in guest.shadow.pages.tables
        guest.store(L1 << 12 | n << 3, 0)
    assert L1 not in guest.shadow.pages.tables and 3 in guest.shadow.pages.tables
    for n in range(3 * IDLE_STORES):  # but one that is used is, however often it changes
        guest.store(14 << 12 | n << 3, 0)
    assert 14 in guest.shadow.pages.tables
    guest.check()


def test_the_table_in_cr3_stays() -> None:
    guest = a_guest(vmm_slot=509, vmm_l3=0x5000)
    root = guest.cr3
    guest.access(VA)
    assert not guest.shadow.unshadow(ROOT)
    assert guest.shadow.root() == root and guest.ram.words[(root >> 3) + 509] & ~0xFFF == 0x5000
    assert guest.access(VA)[1] == [FILLED]
    guest.store(ROOT << 12 | 509 << 3, DATA << 12 | TABLE)  # the guest's own entry of that slot is not used
    assert guest.ram.words[(root >> 3) + 509] & ~0xFFF == 0x5000
    guest.map(509 << 39 | 0x1000, DATA)
    assert guest.access(509 << 39 | 0x1000) == (None, [EMULATE])
    guest.check()


def test_roots_are_remembered_but_not_all() -> None:
    guest = a_guest(frames=256)
    first = guest.cr3
    guest.access(VA)
    for n in range(ROOTS - 1):
        guest.load((100 + n) << 12)
    guest.load(ROOT << 12)
    assert guest.cr3 == first and guest.access(VA)[1] == []
    guest.load((100 + ROOTS) << 12)  # now the one that was not used for the longest time goes
    assert 100 not in guest.shadow.pages.tables and ROOT in guest.shadow.pages.tables
    guest.check()


# -- what it may cost --------------------------------------------------------------------------------------------------
def test_tables_that_map_themselves() -> None:
    """One frame, used at all four levels: four shadows, all of which a store to it changes."""
    guest = Guest(64)
    guest.put(ROOT, 511, ROOT << 12 | P | RW)
    guest.put(ROOT, 3, ROOT << 12 | P | RW)
    guest.load(ROOT << 12)
    itself = 0xFFFF_FFFF_FFFF_F000
    hit, outcomes = guest.access(itself)
    assert outcomes == [FILLED] and hit is not None and hit.machine == guest.physical.mfns[ROOT] << 12
    assert guest.access(itself, WRITE) == (None, [TRACED])
    assert len(guest.shadow.pages.pages) == 4
    guest.check()
    guest.store(ROOT << 12 | 511 << 3, 0)
    with pytest.raises(PageFault):
        guest.access(itself)
    guest.check()


def test_a_net_of_paths_costs_what_a_chain_costs() -> None:
    """Every entry of every table leads to the same next table: 512^3 ways to one page."""
    guest = Guest(64)
    for gfn in (1, 2, 3):
        for index in range(512):
            guest.put(gfn, index, gfn + 1 << 12 | TABLE)
    for index in range(512):
        guest.put(4, index, DATA << 12 | P | RW | US | A | D)
    guest.load(ROOT << 12)
    for n in range(512):
        assert guest.access((n * 0x5_5555_5000) & (1 << 47) - 1)[0] is not None
    assert len(guest.shadow.pages.pages) == 4
    guest.store(L1 << 12 | 8, 0)
    with pytest.raises(PageFault):
        guest.access(0x7F_FFE0_1000)


def test_there_is_a_limit_and_then_everything_goes() -> None:
    guest = Guest(128, limit=16)
    for n in range(30):
        guest.map(VA + (n << 21), DATA)
        guest.put(3, (VA >> 21 & 511) + n, 40 + n << 12 | TABLE)
        guest.put(40 + n, VA >> 12 & 511, DATA << 12 | P | RW)
    guest.load(ROOT << 12)
    for n in range(30):
        assert guest.access(VA + (n << 21), WRITE)[0] is not None
        guest.check()
    assert guest.counts.events["shadow_drops"] == 2
    assert len(guest.frames.out) <= 17 + 3


def test_there_is_a_limit_to_the_work_of_one_store() -> None:
    """One page mapped 512 times by each of twelve tables: the store that makes it a table has to find all of these."""
    guest = Guest(64, prefetch=8)
    most = guest.shadow.most_entries
    assert most == 4096 + 4 * 64
    for table in range(12):
        guest.map(VA + (table << 21), DATA, P)
        guest.put(3, (VA >> 21 & 511) + table, 40 + table << 12 | TABLE)
        for index in range(512):
            guest.put(40 + table, index, DATA << 12 | P | RW | A | D)
    guest.load(ROOT << 12)
    base = VA >> 21 << 21
    for page in range(0, 12 * 512, 8):
        guest.access(base + page * 4096, WRITE)
        assert len(guest.shadow.pages.leaves[DATA]) == guest.shadow.pages.mapped <= most + 8
    assert guest.counts.events["shadow_drops"] == 1


def test_when_the_hypervisor_has_no_memory_left_others_make_room() -> None:
    guest = Guest(128, spare=10)

    def refuse() -> int:
        raise HypercallError(12)  # type: ignore[arg-type]

    for n in range(30):
        guest.map(VA + (n << 21), DATA)
        guest.put(3, (VA >> 21 & 511) + n, 40 + n << 12 | TABLE)
        guest.put(40 + n, VA >> 12 & 511, DATA << 12 | P | RW)
    guest.load(ROOT << 12)
    allocate = guest.frames.own_frame
    guest.frames.own_frame = lambda: allocate() if guest.frames.free else refuse()  # type: ignore[method-assign]
    for n in range(30):
        assert guest.access(VA + (n << 21), WRITE)[0] is not None
        guest.check()
