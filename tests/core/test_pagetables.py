# SPDX-License-Identifier: GPL-2.0-or-later
"""What a page table may contain: mmu_update, mmuext_op and update_va_mapping, errno for errno.

Every test leaves a frame table that adds up (tests.core.accounting).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvhv.abi.errno import Errno
from pvhv.abi.xen import (
    DOMID_XEN,
    MMUEXT_CLEAR_PAGE,
    MMUEXT_COPY_PAGE,
    MMUEXT_FLUSH_CACHE,
    MMUEXT_FLUSH_CACHE_GLOBAL,
    MMUEXT_INVLPG_ALL,
    MMUEXT_INVLPG_LOCAL,
    MMUEXT_INVLPG_MULTI,
    MMUEXT_MARK_SUPER,
    MMUEXT_SET_LDT,
    MMUEXT_TLB_FLUSH_ALL,
    MMUEXT_TLB_FLUSH_LOCAL,
    MMUEXT_TLB_FLUSH_MULTI,
    MMUEXT_UNMARK_SUPER,
    UVMF_ALL,
    UVMF_INVLPG,
    UVMF_MULTI,
    UVMF_TLB_FLUSH,
    HYPERVISOR_mmu_update,
    HYPERVISOR_mmuext_op,
    HYPERVISOR_update_va_mapping,
    HYPERVISOR_update_va_mapping_otherdomain,
)
from pvhv.core.mm.frames import L1, L2, L3, L4, NONE, PINNED, SEG_DESC, VALIDATED, WRITABLE
from pvhv.core.mm.pagetables import FIRST_XEN_SLOT, LAST_XEN_SLOT
from pvhv.core.mm.pte import ACCESSED, ADDRESS, DIRTY, GLOBAL, NX, PAT_PSE, PCD, PRESENT, PWT, RW, USER
from tests.core.guests import BASE
from tests.core.pv import (
    DATA,
    DOMID_SELF,
    LINK,
    NEW_BASEPTR,
    NEW_USER_BASEPTR,
    PDONE,
    PIN_L1,
    PIN_L2,
    PIN_L3,
    PIN_L4,
    UNPIN,
    Bench,
    fixed_up,
    link,
    page,
)

EINVAL, EBUSY, EPERM, EFAULT, ESRCH, ENOSYS, EACCES, EOPNOTSUPP = (
    -int(errno)
    for errno in (
        Errno.EINVAL,
        Errno.EBUSY,
        Errno.EPERM,
        Errno.EFAULT,
        Errno.ESRCH,
        Errno.ENOSYS,
        Errno.EACCES,
        Errno.EOPNOTSUPP,
    )
)
NORMAL, MACHPHYS, PRESERVE_AD, NO_TRANSLATE = range(4)
HOLE = 30  # an L1 index (and pfn) with a page nobody minds losing
FREE_SLOT = 100  # an L1 index with nothing in it
NO_RAM = 0x8_0000_0000 >> 12


@pytest.fixture
def b() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.balanced()


# -- L1 entries --------------------------------------------------------------------------------------------------------
def test_an_entry_holds_a_reference_and_a_writable_one_a_use(b: Bench) -> None:
    mfn = b.spare[0]
    assert b.update(b.l1, FREE_SLOT, page(mfn)) == 0
    assert b.word(b.l1, FREE_SLOT) == fixed_up(page(mfn))
    assert (b.frames.refs[mfn], b.type(mfn)) == (2, NONE)
    assert b.update(b.l1, FREE_SLOT + 1, page(mfn, DATA | RW)) == 0
    assert (b.frames.refs[mfn], b.type(mfn), b.frames.type_counts[mfn]) == (3, WRITABLE, 1)
    assert b.balanced()
    assert b.update(b.l1, FREE_SLOT, 0) == 0
    assert b.update(b.l1, FREE_SLOT + 1, page(mfn)) == 0  # from writable to read-only
    assert (b.frames.refs[mfn], b.type(mfn)) == (2, NONE)


@pytest.mark.parametrize("bit", [PWT, PCD, PAT_PSE])
def test_bits_a_guest_may_not_set_in_an_l1_entry(b: Bench, bit: int) -> None:
    assert b.update(b.l1, FREE_SLOT, page(b.spare[0], DATA | bit)) == EINVAL
    assert b.word(b.l1, FREE_SLOT) == 0
    assert b.update(b.l1, HOLE, b.word(b.l1, HOLE) | bit) == EINVAL  # nor in one that is there
    table = b.table({0: page(b.spare[0], DATA | bit)})
    assert b.ext(PIN_L1, table) == EINVAL


@pytest.mark.parametrize("bit", [GLOBAL, USER, ACCESSED, DIRTY, 1 << 9, 1 << 11, 1 << 52, 1 << 62, NX])
def test_bits_a_guest_may_set(b: Bench, bit: int) -> None:
    value = page(b.spare[0], PRESENT | bit)
    assert b.update(b.l1, FREE_SLOT, value) == 0
    assert b.word(b.l1, FREE_SLOT) == fixed_up(value)
    assert b.update(b.l1, FREE_SLOT, value ^ bit) == 0  # the fast path: nothing to revalidate
    assert b.word(b.l1, FREE_SLOT) == fixed_up(value ^ bit)


def test_not_present_entries_may_say_anything(b: Bench) -> None:
    value = 0xFFFF_FFFF_FFFF_FFFE
    assert b.update(b.l1, FREE_SLOT, value) == 0
    assert b.word(b.l1, FREE_SLOT) == value
    table = b.table({7: value})
    assert b.ext(PIN_L1, table) == 0


def test_frames_of_others_cannot_be_mapped(b: Bench) -> None:
    other = b.guest()
    foreign = b.mfn(other, 10)
    for value in (page(foreign), page(foreign, DATA | RW), page(other.shared_info), page(b.hv.m2p_l3)):
        assert b.update(b.l1, FREE_SLOT, value) == EBUSY
        assert b.update(b.l1, HOLE, value) == EBUSY
    assert b.ext(PIN_L1, b.table({0: page(foreign)})) == EBUSY
    free = b.frames.owner.index(0x7FFF, 1)
    assert b.update(b.l1, FREE_SLOT, page(free)) == EBUSY
    assert b.balanced()


def test_what_is_no_ram_cannot_be_mapped(b: Bench) -> None:
    assert b.update(b.l1, FREE_SLOT, page(NO_RAM)) == EPERM
    assert b.update(b.l1, FREE_SLOT, page(ADDRESS >> 12)) == EINVAL  # INVALID_MFN
    assert b.ext(PIN_L1, b.table({3: page(NO_RAM)})) == EPERM
    assert b.ext(PIN_L1, b.table({3: page(ADDRESS >> 12)})) == EINVAL


def test_no_page_table_is_ever_writable(b: Bench) -> None:
    for table in (b.l1, b.l2, b.l3, b.l4):
        assert b.update(b.l1, FREE_SLOT, page(table, DATA | RW)) == EBUSY
        assert b.update(b.l1, FREE_SLOT, page(table)) == 0
        assert b.update(b.l1, FREE_SLOT, page(table, DATA | RW)) == EBUSY  # nor made so
    pinned = b.table()
    assert b.ext(PIN_L1, pinned) == 0
    assert b.update(b.l1, FREE_SLOT, page(pinned, DATA | RW)) == EBUSY
    assert b.ext(UNPIN, pinned) == 0
    assert b.update(b.l1, FREE_SLOT, page(pinned, DATA | RW)) == 0
    for pin in (PIN_L1, PIN_L2, PIN_L3, PIN_L4):
        assert b.ext(pin, pinned) == EINVAL  # ... and now that it is writable it cannot be one
    assert b.update(b.l1, FREE_SLOT, 0) == 0
    assert b.ext(PIN_L1, pinned) == 0


def test_a_table_that_maps_itself_writably(b: Bench) -> None:
    table = b.spare.pop()
    assert b.ext(PIN_L1, b.fill(table, {0: page(table, DATA | RW)})) == EBUSY
    assert (b.type(table), b.frames.refs[table]) == (NONE, 1)
    assert b.ext(PIN_L1, b.fill(table, {0: page(table)})) == 0
    assert b.ext(UNPIN, table) == 0


def test_accessed_and_dirty_bits_are_kept_when_asked(b: Bench) -> None:
    mfn = b.spare[0]
    assert b.update(b.l1, FREE_SLOT, page(mfn, PRESENT | ACCESSED | DIRTY)) == 0
    assert b.update(b.l1, FREE_SLOT, page(mfn, PRESENT), PRESERVE_AD) == 0
    assert b.word(b.l1, FREE_SLOT) == fixed_up(page(mfn, PRESENT | ACCESSED | DIRTY))
    assert b.update(b.l1, FREE_SLOT, page(b.spare[1], PRESENT), PRESERVE_AD) == 0
    assert b.word(b.l1, FREE_SLOT) == fixed_up(page(b.spare[1], PRESENT | ACCESSED | DIRTY))
    assert b.update(b.l1, FREE_SLOT, page(mfn, PRESENT), NO_TRANSLATE) == 0
    assert b.word(b.l1, FREE_SLOT) == fixed_up(page(mfn, PRESENT))


# -- upper entries -----------------------------------------------------------------------------------------------------
def test_an_upper_entry_makes_its_frame_a_table(b: Bench) -> None:
    l1, l2, l3 = b.table(), b.table(), b.table()
    assert b.update(b.l2, 77, link(l1)) == 0
    assert b.update(b.l3, 77, link(l2)) == 0
    assert b.update(b.l4, 77, link(l3)) == 0
    assert [b.type(mfn) for mfn in (l1, l2, l3)] == [L1, L2, L3]
    assert b.balanced()
    assert b.update(l2, 0, link(l1)) == 0
    assert b.frames.type_counts[l1] == 2
    for table in (b.l2, b.l3, b.l4):
        assert b.update(table, 77, 0) == 0
    assert [b.type(mfn) for mfn in (l1, l2, l3)] == [NONE] * 3


@pytest.mark.parametrize("bit", [PWT, PCD, PAT_PSE, GLOBAL])
def test_bits_a_guest_may_not_set_in_an_upper_entry(b: Bench, bit: int) -> None:
    for table in (b.l2, b.l3, b.l4):
        assert b.update(table, 77, link(b.spare[0], LINK | bit)) == EINVAL
        assert b.update(table, 0, b.word(table, 0) | PRESENT | bit) == EINVAL
    for pin in (PIN_L2, PIN_L3, PIN_L4):
        assert b.ext(pin, b.table({9: link(b.spare[0], LINK | bit)})) == EINVAL
    assert b.type(b.spare[0]) == NONE


def test_upper_entries_name_tables_of_the_next_level_only(b: Bench) -> None:
    other = b.guest()
    foreign = b.mfn(other, 3)  # its L1
    for table in (b.l2, b.l3, b.l4):
        assert b.update(table, 77, link(foreign)) == EINVAL
        assert b.update(table, 77, link(NO_RAM)) == EINVAL
        assert b.update(table, 77, link(b.mfn(b.g, HOLE))) == EINVAL  # mapped writably
    assert b.update(b.l2, 77, link(b.l2)) == EINVAL  # a linear page table, but writable
    assert b.update(b.l4, 77, link(b.l4)) == EINVAL
    assert b.update(b.l3, 77, link(b.l1)) == EINVAL
    assert b.update(b.l4, 77, link(b.l2)) == EINVAL
    assert b.update(b.l2, 77, link(b.l3)) == EINVAL
    bad = b.table({5: page(NO_RAM)})
    assert b.update(b.l2, 77, link(bad)) == EPERM  # what is wrong further down is what is told
    assert b.type(bad) == NONE


def test_rights_of_an_upper_entry_change_without_validation(b: Bench) -> None:
    l1 = b.table()
    assert b.update(b.l2, 77, link(l1, PRESENT | RW | USER)) == 0
    assert b.update(b.l2, 77, link(l1, PRESENT)) == 0
    assert b.word(b.l2, 77) == link(l1, PRESENT | USER)
    assert b.update(b.l2, 77, link(l1, LINK | NX | DIRTY)) == 0
    assert b.frames.type_counts[l1] == 1
    assert b.update(b.l2, 77, link(l1, PRESENT), PRESERVE_AD) == 0
    assert b.word(b.l2, 77) == link(l1, PRESENT | USER | ACCESSED | DIRTY)


def test_the_hypervisors_slots(b: Bench) -> None:
    for slot in (FIRST_XEN_SLOT, 260, LAST_XEN_SLOT):
        before = b.word(b.l4, slot)
        for value in (0, link(b.spare[0]), before):
            assert b.update(b.l4, slot, value) == EINVAL
            assert b.update(b.l4, slot, value, PRESERVE_AD) == EINVAL
        assert b.word(b.l4, slot) == before
    for slot in (FIRST_XEN_SLOT - 1, LAST_XEN_SLOT + 1, 511, 1):
        assert b.update(b.l4, slot, link(b.spare[0])) == 0
        assert b.update(b.l4, slot, 0) == 0


def test_what_a_guest_wrote_into_the_hypervisors_slots_is_lost(b: Bench) -> None:
    evil = {slot: link(b.spare[0]) for slot in range(FIRST_XEN_SLOT, LAST_XEN_SLOT + 1)}
    table = b.table({**evil, 5: link(b.l3)})
    assert b.ext(PIN_L4, table) == 0
    assert b.word(table, 260) == b.g.perdomain_l3 << 12 | PRESENT | RW
    assert not any(b.word(table, slot) for slot in range(256, 272) if slot != 260)
    assert b.word(b.l4, FIRST_XEN_SLOT) == b.hv.m2p_l3 << 12 | PRESENT | USER  # the M2P: a kernel runs on that one
    assert b.ext(UNPIN, table) == 0
    # An L4 of old is full of the hypervisor's entries: as any other table it is refused.
    assert b.ext(PIN_L3, table) == EINVAL
    assert b.ext(PIN_L4, table) == 0


def test_the_m2p_and_the_descriptor_tables_cannot_be_written(b: Bench) -> None:
    for mfn in (b.hv.m2p_l3, b.g.perdomain_l3, b.g.perdomain_l1s[0]):
        assert b.frames.owner[mfn] == DOMID_XEN
        assert b.update(mfn, 0, 0) == EINVAL
        assert b.update(b.l1, FREE_SLOT, page(mfn)) == EBUSY
    words = b.ram.words
    for l3, kept in ((b.hv.m2p_l3, RW), (b.g.perdomain_l3, RW | USER)):
        for l2 in filter(None, words[l3 << 9 : (l3 + 1) << 9].tolist()):
            base = (l2 & ADDRESS) >> 3
            for entry in filter(None, words[base : base + 512].tolist()):
                if not entry & PAT_PSE:
                    base = (entry & ADDRESS) >> 3
                    assert not any(each & kept for each in words[base : base + 512].tolist())
                else:
                    assert not entry & kept


# -- what else mmu_update does -----------------------------------------------------------------------------------------
def test_a_plain_page_can_be_written_too(b: Bench) -> None:
    mfn = b.mfn(b.g, HOLE)
    assert b.update(mfn, 3, 0x1234) == 0
    assert b.word(mfn, 3) == 0x1234
    unused = b.spare[0]
    assert b.update(unused, 3, 0x5678) == 0
    assert b.word(unused, 3) == 0x5678
    assert b.type(unused) == NONE


def test_a_descriptor_table_cannot_be_written_by_it(b: Bench) -> None:
    gdt = b.table()
    b.hv.descriptors.set_gdt(b.vcpu, [gdt], 512)
    assert b.type(gdt) == SEG_DESC
    assert b.update(gdt, 1, 0) == EINVAL
    assert b.update(b.l1, FREE_SLOT, page(gdt, DATA | RW)) == EBUSY
    b.hv.descriptors.set_gdt(b.vcpu, [], 0)
    assert b.update(gdt, 1, 0) == 0


def test_updates_outside_ones_own_frames(b: Bench) -> None:
    other = b.guest()
    for mfn in (b.mfn(other, 3), b.mfn(other, 10), NO_RAM, b.frames.owner.index(0x7FFF, 1)):
        assert b.update(mfn, 0, 0) == EINVAL
        assert b.update(mfn, 0, 0, PRESERVE_AD) == EINVAL


def test_machphys(b: Bench) -> None:
    other = b.guest()
    mine, theirs = b.spare[0], b.mfn(other, 10)
    assert b.update(mine, 0, 0xABCDEF, MACHPHYS) == 0
    assert b.hv.m2p[mine] == 0xABCDEF
    before = b.hv.m2p[theirs]
    assert b.update(theirs, 0, 1, MACHPHYS) == EINVAL
    assert b.hv.m2p[theirs] == before
    assert b.update(NO_RAM, 0, 1, MACHPHYS) == EINVAL


@pytest.mark.parametrize("command", [4, 5, 6, 7])
def test_unknown_commands(b: Bench, command: int) -> None:
    assert b.updates((b.l1 << 12 | FREE_SLOT * 8 | command, 0)) == ENOSYS


def test_a_batch_stops_at_its_first_error_and_tells_how_far_it_came(b: Bench) -> None:
    entries = [(b.l1 << 12 | (FREE_SLOT + n) * 8, page(b.spare[0])) for n in range(5)]
    entries[3] = (entries[3][0], page(NO_RAM))
    assert b.updates(*entries) == EPERM
    assert b.done == 3
    assert [bool(b.word(b.l1, FREE_SLOT + n)) for n in range(5)] == [True, True, True, False, False]
    assert b.updates(*entries, pdone=0) == EPERM
    assert b.updates(*entries[:2], pdone=0x1234) == 0  # a bad address is not its error


def test_unreadable_requests(b: Bench) -> None:
    end = BASE + 48 * 4096
    b.enter(b.vcpu)
    for n in range(2):
        slot = b.l1 << 12 | (FREE_SLOT + n) * 8
        b.cpu.memory.write(end - 32 + 16 * n, slot.to_bytes(8, "little") + page(b.spare[0]).to_bytes(8, "little"))
    assert b.do(HYPERVISOR_mmu_update, end - 32, 5, PDONE, DOMID_SELF) == EFAULT
    assert b.done == 2
    assert b.do(HYPERVISOR_mmu_update, end, 1, PDONE, DOMID_SELF) == EFAULT
    assert b.done == 0
    assert b.do(HYPERVISOR_mmu_update, 0xFFFF_8000_0000_0000, 1, PDONE, DOMID_SELF) == EFAULT
    assert b.do(HYPERVISOR_mmu_update, 0xFFFF_8000_0000_0000, 0, PDONE, DOMID_SELF) == EFAULT
    assert b.do(HYPERVISOR_mmu_update, end, 0, PDONE, DOMID_SELF) == 0


def test_foreign_domains(b: Bench) -> None:
    other = b.guest()
    request = (b.l1 << 12 | FREE_SLOT * 8, page(b.mfn(other, 10)))
    assert b.updates(request, foreigndom=b.g.domid) == ESRCH  # one's own id is no foreign domain's
    assert b.updates(request, foreigndom=99) == ESRCH
    assert b.updates(request, foreigndom=other.domid) == EPERM
    assert b.updates(request, foreigndom=(99 + 1) << 16 | DOMID_SELF) == ESRCH
    assert b.updates(request, foreigndom=(other.domid + 1) << 16 | DOMID_SELF) == EPERM
    assert b.updates((request[0], page(b.spare[0])), foreigndom=(b.g.domid + 1) << 16 | DOMID_SELF) == 0
    assert b.exts((PIN_L1, b.l1, 0), foreigndom=other.domid) == EPERM
    assert b.exts((PIN_L1, b.l1, 0), foreigndom=b.g.domid) == ESRCH
    va = BASE + HOLE * 4096
    assert b.do(HYPERVISOR_update_va_mapping_otherdomain, va, request[1], 0, other.domid) == EPERM
    assert b.do(HYPERVISOR_update_va_mapping_otherdomain, va, request[1], 0, b.g.domid) == ESRCH
    assert b.do(HYPERVISOR_update_va_mapping_otherdomain, va, page(b.spare[0]), 0, DOMID_SELF) == 0


# -- update_va_mapping -------------------------------------------------------------------------------------------------
def test_update_va_mapping(b: Bench) -> None:
    va = BASE + FREE_SLOT * 4096
    assert b.do(HYPERVISOR_update_va_mapping, va, page(b.spare[0]), UVMF_INVLPG) == 0
    assert b.word(b.l1, FREE_SLOT) == fixed_up(page(b.spare[0]))
    assert b.do(HYPERVISOR_update_va_mapping, va, page(b.l1, DATA | RW), UVMF_INVLPG) == EBUSY
    assert b.do(HYPERVISOR_update_va_mapping, va, page(NO_RAM), 0) == EPERM
    assert b.do(HYPERVISOR_update_va_mapping, va, page(b.spare[0], DATA | PWT), 0) == EINVAL
    assert b.do(HYPERVISOR_update_va_mapping, va, 0, UVMF_TLB_FLUSH | UVMF_ALL) == 0
    assert b.do(HYPERVISOR_update_va_mapping, va, 0, UVMF_TLB_FLUSH | UVMF_MULTI | BASE + 10 * 4096) == 0


def test_update_va_mapping_tells_of_a_bad_bitmap_after_the_deed(b: Bench) -> None:
    va = BASE + FREE_SLOT * 4096
    for kind in (UVMF_TLB_FLUSH, UVMF_INVLPG):
        assert b.do(HYPERVISOR_update_va_mapping, va, page(b.spare[0]), kind | 0x10000) == EFAULT
        assert b.word(b.l1, FREE_SLOT) == fixed_up(page(b.spare[0]))
    assert b.do(HYPERVISOR_update_va_mapping, va, 0, 0x10000) == 0  # nobody looks at it without a kind of flush


def test_update_va_mapping_where_no_l1_is(b: Bench) -> None:
    high = 1 << 48
    for va in (0x1000, BASE + (1 << 21), 0xFFFF_8000_0000_0000, 0xFFFF_8200_0000_0000, BASE | high, BASE | high << 8):
        assert b.do(HYPERVISOR_update_va_mapping, va, page(b.spare[0]), 0) == EINVAL
        assert b.do(HYPERVISOR_update_va_mapping, va, 0, 0) == EINVAL


# -- pins --------------------------------------------------------------------------------------------------------------
def test_pin_and_unpin(b: Bench) -> None:
    l1 = b.table({0: page(b.spare[0], DATA | RW)})
    l2 = b.table({5: link(l1)})
    l3 = b.table({6: link(l2)})
    l4 = b.table({7: link(l3)})
    for mfn, pin, level in ((l1, PIN_L1, L1), (l2, PIN_L2, L2), (l3, PIN_L3, L3), (l4, PIN_L4, L4)):
        assert b.ext(pin, mfn) == 0
        assert b.frames.types[mfn] == level | VALIDATED | PINNED
        assert b.ext(pin, mfn) == EINVAL  # it is pinned already
        assert b.frames.types[mfn] == level | VALIDATED | PINNED
        assert b.balanced()
    for mfn in (l1, l2, l3):
        assert b.ext(UNPIN, mfn) == 0
        assert b.frames.type_counts[mfn] == 1
        assert b.ext(UNPIN, mfn) == EINVAL
    assert b.ext(UNPIN, l4) == 0
    assert [b.type(mfn) for mfn in (l1, l2, l3, l4, b.spare[0])] == [NONE] * 5


def test_pins_refused(b: Bench) -> None:
    other = b.guest()
    for pin in (PIN_L1, PIN_L2, PIN_L3, PIN_L4):
        for mfn in (NO_RAM, b.mfn(other, 10), b.mfn(b.g, HOLE), b.hv.m2p_l3):
            assert b.ext(pin, mfn) == EINVAL
    for mfn in (NO_RAM, b.mfn(other, 3), b.mfn(b.g, HOLE), b.l4):
        assert b.ext(UNPIN, mfn) == EINVAL
    assert b.ext(PIN_L2, b.l4) == EINVAL
    assert b.ext(PIN_L4, b.l4) == 0  # in use as one: a pin besides
    assert b.frames.type_counts[b.l4] == 2


def test_a_pinned_table_stays_validated_when_its_owner_gives_it_up(b: Bench) -> None:
    l1 = b.table({0: page(b.spare[0], DATA | RW)})
    assert b.ext(PIN_L1, l1) == 0
    assert b.frames.release_allocation(l1)
    assert b.type(l1) == L1
    before = b.frames.free_frames
    assert b.ext(UNPIN, l1) == 0
    assert b.frames.free_frames == before + 1


def test_failed_validation_is_undone(b: Bench) -> None:
    good = [b.table({n: page(b.spare[0], DATA | RW)}) for n in range(3)]
    bad = b.table({0: page(b.spare[0]), 511: page(NO_RAM)})
    l2 = b.table({0: link(good[0]), 1: link(good[1]), 400: link(bad)})
    l3 = b.table({0: link(l2)})
    l4 = b.table({0: link(b.table({3: link(b.table({3: link(good[2])}))})), 300: link(l3)})
    for pin, mfn in ((PIN_L2, l2), (PIN_L3, l3), (PIN_L4, l4)):
        assert b.ext(pin, mfn) == EPERM
        assert b.vcpu.deferred.mfn == 0
        assert b.balanced()
        assert b.type(mfn) == NONE
    assert [b.type(mfn) for mfn in [*good, bad, b.spare[0]]] == [NONE] * 5


@pytest.mark.parametrize("at", [(0, 0, 3), (0, 5, 3), (5, 0, 3), (5, 0, 0), (5, 5, 5), (0, 0, 0), (5, 5, 0)])
def test_failed_validation_is_undone_wherever_it_fails(b: Bench, at: tuple[int, int, int]) -> None:
    """The bad L1 stands at L4[i] -> L3[j] -> L2[k]; what comes before an index 0 is nothing, and must be told apart."""
    i, j, k = at
    bad = b.table({0: page(NO_RAM)})
    good = [b.table({0: page(b.spare[0], DATA | RW)}) for _ in range(3)]
    l2 = b.table({**{n: link(good[0]) for n in range(k)}, k: link(bad)})
    below = b.table({0: link(good[1])})
    l3 = b.table({**{n: link(below) for n in range(j)}, j: link(l2)})
    beside = b.table({1: link(b.table({2: link(good[2])}))})
    l4 = b.table({**{n: link(beside) for n in range(i)}, i: link(l3)})
    for share in (4096, 1):
        b.shares = lambda share=share: share  # type: ignore[misc]
        assert b.ext(PIN_L4, l4) == EPERM
        assert b.vcpu.deferred.mfn == 0
        assert b.balanced()
        assert [b.type(mfn) for mfn in (l4, l3, l2, bad, below, beside, *good)] == [NONE] * 9


# -- roots -------------------------------------------------------------------------------------------------------------
def second_root(b: Bench) -> int:
    """Another L4 that maps what the guest's own does."""
    return b.table({BASE >> 39 & 511: link(b.l3)})


def test_new_baseptr(b: Bench) -> None:
    root = second_root(b)
    assert b.ext(NEW_BASEPTR, root) == 0
    assert (b.vcpu.guest_table, b.type(root), b.type(b.l4)) == (root, L4, NONE)
    assert b.cpu.memory.root == root
    assert b.ext(NEW_BASEPTR, root) == 0  # again: nothing but a flush
    assert b.frames.type_counts[root] == 1
    for mfn in (b.l3, NO_RAM, 0, b.mfn(b.g, HOLE), b.hv.m2p_l3):
        assert b.ext(NEW_BASEPTR, mfn) == EINVAL
    assert b.vcpu.guest_table == root


def test_new_baseptr_flushes_unless_nothing_was_changed(b: Bench) -> None:
    flushed: list[int] = []
    b.cpu.pcpu.load_cr3 = flushed.append

    def flushes() -> int:
        flushed.clear()
        assert b.ext(NEW_BASEPTR, b.l4) == 0
        return len(flushed)

    value = page(b.spare[0], DATA)
    b.cpu.flush()
    assert not flushes()
    assert b.update(b.l1, FREE_SLOT, value) == 0
    assert not flushes()  # nobody can know what was not there
    for other in (value | RW, value, value ^ NX, value, value ^ ACCESSED, 0):
        assert b.update(b.l1, FREE_SLOT, other) == 0
        assert flushes() and not flushes()


def test_new_tables_that_map_all_the_old_ones_do_need_no_flush(b: Bench) -> None:
    l3, follows = b.table(), b.cpu.follows
    kernel, process, another = b.table({300: link(l3)}), b.table({300: link(l3), 5: link(b.table())}), b.table()
    for root in (kernel, process, another):
        assert b.ext(PIN_L4, root) == 0
    assert follows(kernel, kernel) and follows(process, kernel)
    assert not follows(kernel, process) and not follows(another, kernel) and not follows(kernel, 0)
    assert b.update(kernel, 301, link(l3)) == 0
    assert not follows(process, kernel)
    assert b.update(process, 301, link(l3) ^ ACCESSED) == 0
    assert follows(process, kernel)


def test_new_user_baseptr(b: Bench) -> None:
    root = b.table()
    assert b.ext(NEW_USER_BASEPTR, root) == 0
    assert (b.vcpu.guest_table_user, b.type(root)) == (root, L4)
    assert b.ext(NEW_USER_BASEPTR, root) == 0
    assert b.frames.type_counts[root] == 1
    assert b.ext(NEW_USER_BASEPTR, NO_RAM) == EINVAL
    assert b.ext(NEW_USER_BASEPTR, b.l4) == 0  # the same as the kernel's
    assert b.frames.type_counts[b.l4] == 2
    assert b.type(root) == NONE
    assert b.ext(NEW_USER_BASEPTR, 0) == 0
    assert b.vcpu.guest_table_user == 0


# -- the rest of mmuext_op ---------------------------------------------------------------------------------------------
def test_operations_on_the_tlb_and_the_caches(b: Bench) -> None:
    bitmap = BASE + 10 * 4096
    for command in (MMUEXT_TLB_FLUSH_LOCAL, MMUEXT_TLB_FLUSH_ALL):
        assert b.ext(command) == 0
    for command in (MMUEXT_INVLPG_LOCAL, MMUEXT_INVLPG_ALL):
        for va in (BASE, 0xFFFF_8000_0000_0000, 0x1234_5678_9ABC_DEF0, 0xFFFF_FFFF_FFFF_FFFF):
            assert b.ext(command, va) == 0
    assert b.ext(MMUEXT_TLB_FLUSH_MULTI, 0, bitmap) == 0
    assert b.ext(MMUEXT_TLB_FLUSH_MULTI, 0, 0x1000) == EINVAL
    assert b.ext(MMUEXT_INVLPG_MULTI, BASE, bitmap) == 0
    assert b.ext(MMUEXT_INVLPG_MULTI, BASE, 0x1000) == EINVAL
    assert b.ext(MMUEXT_FLUSH_CACHE) == EACCES
    assert b.ext(MMUEXT_FLUSH_CACHE_GLOBAL) == EINVAL
    assert b.ext(MMUEXT_MARK_SUPER, b.spare[0]) == EOPNOTSUPP
    assert b.ext(MMUEXT_UNMARK_SUPER, b.spare[0]) == EOPNOTSUPP
    for command in (14, 21, 0x7FFF_FFFF, 0xFFFF_FFFF):
        assert b.ext(command) == ENOSYS


def test_clear_page(b: Bench) -> None:
    mfn = b.fill(b.spare[0], {1: 5, 511: 6})
    assert b.ext(MMUEXT_CLEAR_PAGE, mfn) == 0
    assert not any(b.ram.frame(mfn))
    other = b.guest()
    for bad in (b.l1, b.l4, b.mfn(other, 10), NO_RAM):
        assert b.ext(MMUEXT_CLEAR_PAGE, bad) == EINVAL
    assert b.word(b.l1, 0)


def test_copy_page(b: Bench) -> None:
    source, destination = b.fill(b.spare[0], {1: 5, 511: 6}), b.spare[1]
    assert b.ext(MMUEXT_COPY_PAGE, destination, source) == 0
    assert b.ram.frame(destination) == b.ram.frame(source)
    other = b.guest()
    for bad in (b.l1, b.mfn(other, 10), NO_RAM):
        assert b.ext(MMUEXT_COPY_PAGE, bad, source) == EINVAL
    assert b.ext(MMUEXT_COPY_PAGE, destination, b.l1) == 0  # a table may be read
    for bad in (b.mfn(other, 10), NO_RAM):
        assert b.ext(MMUEXT_COPY_PAGE, destination, bad) == EINVAL


@pytest.mark.parametrize(
    ("base", "entries", "result"),
    [
        (BASE, 512, 0),
        (0, 0, 0),
        (0x123, 0, 0),  # without entries nobody looks at the address
        (BASE + 8, 1, EINVAL),
        (BASE, 8193, EINVAL),
        (BASE, 8192, 0),
        (0xFFFF_8000_0000_0000, 1, EINVAL),
        (0x8000_0000_0000, 1, EINVAL),
        (0xFFFF_8800_0000_0000, 1, 0),
        (BASE, 1 << 32 | 3, 0),  # nr_ents has 32 bits
    ],
)
def test_set_ldt(b: Bench, base: int, entries: int, result: int) -> None:
    assert b.ext(MMUEXT_SET_LDT, base, entries) == result
    if not result and entries:
        assert (b.vcpu.ldt_base, b.vcpu.ldt_ents) == (base, entries & 0xFFFF_FFFF)


def test_ldt_pages_are_typed_and_let_go(b: Bench) -> None:
    pfn = 20
    mfn = b.mfn(b.g, pfn)
    b.set_entry(b.g, pfn, page(mfn))
    b.hv.pagetables.flush_before_reuse()
    assert b.ext(MMUEXT_SET_LDT, BASE + pfn * 4096, 600) == 0
    entry = b.entry(b.g, pfn)
    assert b.hv.descriptors.map_ldt_page(b.vcpu, 0, entry)
    assert (b.type(mfn), b.frames.refs[mfn]) == (SEG_DESC, 3)
    assert b.balanced()
    assert not b.hv.descriptors.map_ldt_page(b.vcpu, 0, entry)  # it is mapped: the fault is another's
    assert (b.type(mfn), b.frames.type_counts[mfn]) == (SEG_DESC, 1)
    assert not b.hv.descriptors.map_ldt_page(b.vcpu, 4096, b.entry(b.g, pfn + 1))  # mapped writably
    assert not b.hv.descriptors.map_ldt_page(b.vcpu, 4096, 0)
    assert b.ext(NEW_BASEPTR, second_root(b)) == 0  # which drops the LDT's mappings, not the LDT
    assert (b.type(mfn), b.vcpu.ldt_ents) == (NONE, 600)
    assert b.hv.descriptors.map_ldt_page(b.vcpu, 8, entry)
    assert b.ext(MMUEXT_SET_LDT, 0, 0) == 0
    assert b.type(mfn) == NONE


def test_a_list_of_operations_stops_at_its_first_error(b: Bench) -> None:
    tables = [b.table() for _ in range(3)]
    assert b.exts((PIN_L1, tables[0], 0), (PIN_L1, tables[1], 0), (PIN_L1, NO_RAM, 0), (PIN_L1, tables[2], 0)) == EINVAL
    assert b.done == 2
    assert [b.type(mfn) for mfn in tables] == [L1, L1, NONE]


def test_unreadable_operations(b: Bench) -> None:
    end = BASE + 48 * 4096
    b.enter(b.vcpu)
    b.cpu.memory.write(end - 24, MMUEXT_TLB_FLUSH_LOCAL.to_bytes(24, "little"))
    assert b.do(HYPERVISOR_mmuext_op, end - 24, 2, PDONE, DOMID_SELF) == EFAULT
    assert b.done == 1
    assert b.do(HYPERVISOR_mmuext_op, 0xFFFF_8000_0000_0000, 0, PDONE, DOMID_SELF) == EFAULT
