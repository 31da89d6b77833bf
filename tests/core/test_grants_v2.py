# SPDX-License-Identifier: GPL-2.0-or-later
"""Version 2 grant tables: changing over and back, status frames, grants of a part of a frame, grants passed on."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pvhv.abi import grant_table as abi
from pvhv.abi.errno import Errno
from pvhv.abi.grant_table import (
    GNTTABOP,
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_general_error,
    GNTST_permission_denied,
    GnttabCopy,
    GnttabGetStatusFrames,
    GnttabGetVersion,
    GnttabQuerySize,
    GnttabSetupTable,
    GnttabSetVersion,
    GnttabSwapGrantRef,
    GnttabTransfer,
    GTF_accept_transfer,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_sub_page,
    GTF_transfer_committed,
    GTF_transfer_completed,
    GTF_transitive,
    GTF_writing,
)
from pvhv.abi.xen import DOMID_SELF
from pvhv.core.domain import Domain
from pvhv.core.errors import GrantError
from pvhv.core.grants.acquire import TryAgain, acquire, release
from pvhv.core.grants.entries import EntriesV2
from pvhv.core.grants.view import GrantView
from pvhv.core.mm.frames import TYPE_MASK, WRITABLE
from pvhv.core.mm.free_frames import NOBODY
from pvhv.core.traps.dispatch import Continue
from tests.core.accounting import problems
from tests.core.guests import BASE, write_entry
from tests.core.test_grants import HOLE, HOST, READONLY, World

SUB_PAGE = GTF_permit_access | GTF_sub_page
BOTH = GTF_reading | GTF_writing


class World2(World):
    """`a` grants by version 2, `b` calls, and `c` grants to `a` what `a` may pass on."""

    def __init__(self) -> None:
        super().__init__()
        self.c = self.machine.guest(48)
        assert self.c.domid == 3
        for domain in (self.a, self.c):
            assert self.change(domain, 2) == 0

    def change(self, domain: Domain, version: int) -> int:
        """Have a domain change its table's version; its answer."""
        vcpu = domain.vcpus[0]
        address = self.machine.put(vcpu, 5, GnttabSetVersion(version))
        result = self.machine.call(vcpu, 20, GNTTABOP.set_version.number, address, 1)
        assert self.machine.get(vcpu, GnttabSetVersion, 5).version == domain.grants.version
        return result

    def write(self, ref: int, flags: int, domid: int, low: int, high: int, granter: Domain | None = None) -> None:
        """An entry: `low` are the four bytes behind the domid, `high` the second word."""
        grants = (granter or self.a).grants
        slot = grants.entries.slot(ref)
        self.hv.ram.words[slot] = flags | domid << 16 | low << 32
        self.hv.ram.words[slot + 1] = high

    def full(self, ref: int, flags: int = GTF_permit_access, domid: int = 2, pfn: int = 20, granter: Any = None) -> int:
        mfn = self.mfn(granter or self.a, pfn)
        self.write(ref, flags, domid, 0, mfn, granter)
        return mfn

    def part(self, ref: int, start: int, length: int, domid: int = 2, granter: Domain | None = None) -> None:
        self.write(ref, SUB_PAGE, domid, start | length << 16, self.mfn(granter or self.a, 20), granter)

    def passed_on(self, ref: int, domid: int = 3, their_ref: int = 8, flags: int = GTF_transitive) -> None:
        self.write(ref, flags, 2, domid, their_ref)

    def status(self, ref: int, granter: Domain | None = None) -> int:
        entries = (granter or self.a).grants.entries
        assert isinstance(entries, EntriesV2)
        return int(entries.statuses[entries.status_place(ref)])

    def copies(self, *requests: tuple[Any, Any, int, int]) -> list[int]:
        """Statuses of a batch of copies, each (source, dest, length, flags); an end is (number, domid, offset)."""
        records = []
        for source, dest, length, flags in requests:
            op: Any = GnttabCopy()
            for end, (number, domid, offset) in ((op.source, source), (op.dest, dest)):
                end.u.gmfn, end.domid, end.offset = number, domid, offset
            op.len, op.flags, op.status = length, flags, 99
            records.append(op)
        assert self.op(GNTTABOP.copy, *records) == 0
        return [self.get(GnttabCopy, index).status for index in range(len(records))]

    def read(self, ref: int, offset: int = 0, length: int = 16, domid: int = 1) -> int:
        """Copy out of a grant into b's page 30."""
        own = (self.mfn(self.b, 30), DOMID_SELF, 0)
        return self.copies(((ref, domid, offset), own, length, GNTCOPY_source_gref))[0]

    def fill(self, ref: int, offset: int = 0, length: int = 16) -> int:
        """Copy b's page 30 into a grant."""
        own = (self.mfn(self.b, 30), DOMID_SELF, 0)
        return self.copies((own, (ref, 1, offset), length, GNTCOPY_dest_gref))[0]

    def page(self, domain: Domain, pfn: int) -> memoryview:
        return self.hv.ram.frame(self.mfn(domain, pfn))


@pytest.fixture
def world() -> World2:
    return World2()


# -- changing the version ------------------------------------------------------------------------------------

def test_the_change_clears_all_but_the_first_eight() -> None:
    world = World()
    mfn = world.grant(ref=8)
    write_entry(world.b.grants, 1, GTF_permit_access | GTF_readonly, 0, 0x1234)
    write_entry(world.b.grants, 7, GTF_accept_transfer, 3, 0x77)
    write_entry(world.b.grants, 8, GTF_permit_access, 3, 0x88)
    write_entry(world.b.grants, 0, GTF_permit_access, 0, world.mfn(world.b, 20))
    words = world.hv.ram.words
    with GrantView(world.hv.dom0, 2, 0):
        assert world.op(GNTTABOP.set_version, GnttabSetVersion(2)) == 0
        entries = world.b.grants.entries
        assert isinstance(entries, EntriesV2)
        first = entries.slot(0)
        assert words[first] == GTF_permit_access and words[first + 1] == world.mfn(world.b, 20)
        assert entries.statuses[entries.status_place(0)] == BOTH
        assert (words[first + 2], words[first + 3]) == (GTF_permit_access | GTF_readonly, 0x1234)
        assert (words[first + 14], words[first + 15]) == (GTF_accept_transfer | 3 << 16, 0x77)
        assert not any(words[first + 16 : first + 512])
        assert not problems(world.hv)
        # And back; what accepts a transfer does not come over.
        assert world.op(GNTTABOP.set_version, GnttabSetVersion(1)) == 0
        slot = world.b.grants.entries.slot(0)
        assert words[slot] == GTF_permit_access | BOTH | world.mfn(world.b, 20) << 32
        assert words[slot + 1] == GTF_permit_access | GTF_readonly | 0x1234 << 32
        assert not any(words[slot + 2 : slot + 512])
        assert world.b.grants.status_frames == []
    assert words[slot] & 0xFFFF == GTF_permit_access
    assert world.a.grants.version == 1 and words[world.a.grants.entries.slot(8)] >> 32 == mfn, "a's is another table"
    assert not problems(world.hv)


def test_what_set_version_refuses_in_this_order(world: World2) -> None:
    assert world.change(world.a, 3) == world.change(world.a, 0) == -Errno.EINVAL
    world.b.grants.max_version = 1
    assert world.change(world.b, 3) == -Errno.EINVAL
    assert world.change(world.b, 2) == -Errno.ENOSYS
    assert world.change(world.b, 1) == 0
    world.full(8)
    world.write(0, GTF_transitive, 0, 0, 0)
    mapped = world.map()
    assert mapped.status == 0
    assert world.change(world.a, 2) == 0, "it has that one"
    assert world.change(world.a, 1) == -Errno.EBUSY
    assert world.unmap(mapped.handle) == 0
    assert world.change(world.a, 1) == -Errno.ERANGE
    world.write(0, GTF_permit_access, 0, 0, 1 << 32)
    assert world.change(world.a, 1) == -Errno.ERANGE
    world.write(0, GTF_permit_access, 0, 0, (1 << 32) - 1)
    world.write(1, GTF_accept_transfer, 0, 0, 1 << 32)  # not kept, whatever it says
    frame = world.a.grants.status_frames[0]
    kept = world.machine.entry(world.a, 21)
    world.machine.set_entry(world.a, 21, frame << 12 | kept & 0xFFF)
    assert world.change(world.a, 1) == -Errno.EBUSY, "a status frame is mapped"
    assert world.a.grants.version == 2 and world.a.grants.status_frames == [frame]
    world.machine.set_entry(world.a, 21, 0)
    assert world.change(world.a, 1) == 0
    assert world.hv.frames.owner[frame] not in (1, 2, 3)
    assert not problems(world.hv)


def test_no_memory_for_status_frames() -> None:
    world = World()
    while world.hv.frames.free.take(1) != NOBODY:
        pass
    assert world.op(GNTTABOP.set_version, GnttabSetVersion(2)) == -Errno.ENOMEM
    assert world.get(GnttabSetVersion).version == 1
    assert world.b.grants.status_frames == []


def test_a_table_grows_with_its_status_frames(world: World2) -> None:
    vcpu, where = world.a.vcpus[0], BASE + 6 * 4096

    def ask(command: Any, record: Any) -> Any:
        address = world.machine.put(vcpu, 5, record)
        assert world.machine.call(vcpu, 20, command.number, address, 1) == 0
        return world.machine.get(vcpu, type(record), 5)

    def listed(count: int) -> list[int]:
        return list(struct.unpack(f"<{count}Q", world.machine.cpu.memory.read(where, 8 * count)))

    grants = world.a.grants
    assert ask(GNTTABOP.get_status_frames, GnttabGetStatusFrames(2, DOMID_SELF, 0, where)).status == GNTST_general_error
    assert ask(GNTTABOP.get_status_frames, GnttabGetStatusFrames(1, DOMID_SELF, 0, where)).status == 0
    assert listed(1) == grants.status_frames
    for count, statuses in ((8, 1), (9, 2), (64, 8)):
        assert ask(GNTTABOP.setup_table, GnttabSetupTable(DOMID_SELF, count, 0, where)).status == 0
        assert listed(count) == grants.frames and len(grants.status_frames) == statuses
    assert ask(GNTTABOP.get_status_frames, GnttabGetStatusFrames(8, DOMID_SELF, 0, where)).status == 0
    assert listed(8) == grants.status_frames
    assert ask(GNTTABOP.query_size, GnttabQuerySize(DOMID_SELF)).nr_frames == 64
    frame = grants.status_frames[7]
    assert world.hv.frames.types[frame] & TYPE_MASK == WRITABLE
    last = 64 * 256 - 1
    world.full(last)
    mapped = world.map(ref=last)
    assert mapped.status == 0 and world.status(last) == BOTH
    assert world.hv.ram.words[frame * 512 + 511] == BOTH << 48
    assert world.map(ref=last + 1, pfn=39).status == GNTST_bad_gntref
    assert world.unmap(mapped.handle) == 0
    assert not problems(world.hv)


def test_a_list_is_told_as_far_as_it_can_be_written(world: World2) -> None:
    """The first page is not there, the second is: what belongs into that is written."""
    vcpu = world.a.vcpus[0]
    world.machine.set_entry(world.a, 40, 0)
    where = BASE + 41 * 4096 - 8
    address = world.machine.put(vcpu, 5, GnttabSetupTable(DOMID_SELF, 2, 0, where))
    assert world.machine.call(vcpu, 20, GNTTABOP.setup_table.number, address, 1) == 0
    assert world.machine.get(vcpu, GnttabSetupTable, 5).status == abi.GNTST_bad_virt_addr
    assert world.hv.ram.words[world.mfn(world.a, 41) * 512] == world.a.grants.frames[1]


def test_others_have_no_say(world: World2) -> None:
    assert world.op(GNTTABOP.get_version, GnttabGetVersion(1)) == -Errno.EPERM
    assert world.op(GNTTABOP.get_status_frames, GnttabGetStatusFrames(1, 1, 0, BASE)) == 0
    assert world.get(GnttabGetStatusFrames).status == GNTST_permission_denied
    assert world.op(GNTTABOP.get_status_frames, GnttabGetStatusFrames(1, 9, 0, BASE)) == 0
    assert world.get(GnttabGetStatusFrames).status == GNTST_bad_domain


# -- whole frames --------------------------------------------------------------------------------------------

def test_a_mapping_is_told_in_the_status_alone(world: World2) -> None:
    mfn = world.full(8)
    world.clear()
    header = world.hv.ram.words[world.a.grants.entries.slot(8)]
    readonly = world.map(flags=HOST | READONLY)
    assert (readonly.status, readonly.dev_bus_addr) == (0, mfn << 12)
    assert world.status(8) == GTF_reading
    world.machine.set_entry(world.b, 39, 0)
    written = world.map(pfn=39)
    assert world.status(8) == BOTH
    assert world.hv.ram.words[world.a.grants.entries.slot(8)] == header
    assert world.unmap(written.handle, pfn=39) == 0
    assert world.status(8) == GTF_reading
    assert world.unmap(readonly.handle) == 0
    assert world.status(8) == 0
    assert not problems(world.hv)


def test_what_an_entry_must_say_to_be_mapped(world: World2) -> None:
    world.part(9, 0, 4096)
    world.passed_on(10)
    world.full(11, GTF_permit_access | GTF_readonly)
    world.full(12, domid=3)
    world.write(13, GTF_permit_access, 2, 0, 1 << 32)
    world.write(14, GTF_permit_access, 2, 0, world.mfn(world.b, 20))
    for ref in (9, 10, 11, 12):
        assert world.map(ref=ref).status == GNTST_general_error, ref
    for ref in (13, 14):
        assert world.map(ref=ref).status == GNTST_bad_page, ref
    assert not any(world.status(ref) for ref in range(8, 16)) and not world.a.grants.active


def test_a_first_use_to_write_looks_at_the_entry_again(world: World2) -> None:
    world.full(8)
    assert world.map(flags=HOST | READONLY).status == 0
    world.full(8, GTF_readonly, domid=5)  # no longer even a grant
    assert world.map(pfn=39).status == GNTST_general_error
    assert world.map(pfn=39, flags=HOST | READONLY).status == 0
    assert world.status(8) == GTF_reading


def test_a_swap_takes_the_status_along(world: World2) -> None:
    vcpu = world.a.vcpus[0]
    mfn = world.full(8, GTF_permit_access | GTF_readonly)
    entries = world.a.grants.entries
    assert isinstance(entries, EntriesV2)
    entries.statuses[entries.status_place(9)] = 0x1234
    address = world.machine.put(vcpu, 5, GnttabSwapGrantRef(8, 9))
    assert world.machine.call(vcpu, 20, GNTTABOP.swap_grant_ref.number, address, 1) == 0
    assert (world.status(8), world.status(9), entries.frame(entries.slot(9))) == (0x1234, 0, mfn)
    address = world.machine.put(vcpu, 5, GnttabSwapGrantRef(8, 256))
    assert world.machine.call(vcpu, 20, GNTTABOP.swap_grant_ref.number, address, 1) == 0
    assert world.machine.get(vcpu, GnttabSwapGrantRef, 5).status == GNTST_bad_gntref


def test_a_transfer_is_told_in_the_entry(world: World2) -> None:
    given = world.mfn(world.b, 25)
    world.machine.set_entry(world.b, 25, 0)
    world.write(8, GTF_accept_transfer, 2, 0, 0x5555)
    world.a.max_pages += 1
    assert world.op(GNTTABOP.transfer, GnttabTransfer(given, 1, 8)) == 0
    assert world.get(GnttabTransfer).status == 0
    slot = world.a.grants.entries.slot(8)
    flags = GTF_accept_transfer | GTF_transfer_committed | GTF_transfer_completed
    assert list(world.hv.ram.words[slot : slot + 2]) == [flags | 2 << 16, given]
    assert world.hv.m2p[given] == 0x5555
    assert not problems(world.hv)


def test_a_granter_or_a_mapper_that_dies(world: World2) -> None:
    world.full(8)
    assert world.map().status == 0
    world.machine.destroy(world.b)
    assert world.status(8) == 0 and not world.a.grants.active
    world.full(8, domid=0, granter=world.c)
    view = GrantView(world.hv.dom0, 3, 8)
    world.machine.destroy(world.c)
    assert world.c.domid in world.hv.domains, "its frame is still looked at"
    view.release()
    assert world.c.domid not in world.hv.domains
    world.machine.destroy(world.a)
    assert not problems(world.hv)


# -- a part of a frame ---------------------------------------------------------------------------------------

def test_a_part_is_copied_within_its_bounds(world: World2) -> None:
    world.part(8, 100, 50)
    world.page(world.a, 20)[100:150] = bytes(range(50))
    assert world.read(8, 100, 50) == 0
    assert bytes(world.page(world.b, 30)[:50]) == bytes(range(50))
    assert world.read(8, 100, 1) == world.read(8, 150, 0) == world.read(8, 100, 0) == 0
    for offset, length in ((99, 2), (99, 0), (150, 1), (149, 2), (151, 0), (0, 4096)):
        assert world.read(8, offset, length) == GNTST_general_error, (offset, length)
    assert world.read(8, 4090, 7) == GNTST_bad_copy_arg
    for offset, length in ((99, 2), (150, 1), (149, 2)):
        assert world.fill(8, offset, length) == GNTST_general_error, (offset, length)
    assert world.fill(8, 120, 10) == 0
    assert bytes(world.page(world.a, 20)[118:132]) == bytes([18, 19, *range(10), 30, 31])
    assert not world.a.grants.active and world.status(8) == 0
    assert not problems(world.hv)


def test_what_ends_tells_only_of_itself(world: World2) -> None:
    """A use to read leaves alone what the guest itself wrote into the status of writing."""
    world.full(8)
    entries = world.a.grants.entries
    assert isinstance(entries, EntriesV2)
    entries.statuses[entries.status_place(8)] = 0xFFFF
    assert world.read(8) == 0
    assert world.status(8) == 0xFFFF & ~GTF_reading
    assert world.fill(8) == 0
    assert world.status(8) == 0xFFFF & ~BOTH


def test_a_granted_page_table_is_not_copied_over(world: World2) -> None:
    world.full(8, pfn=3)
    assert world.fill(8) == GNTST_general_error
    assert world.status(8) == 0 and not world.a.grants.active
    assert world.read(8) == 0
    assert not problems(world.hv)


def test_where_a_part_begins_has_fifteen_bits(world: World2) -> None:
    world.part(8, 0x8000 | 100, 50)
    assert world.read(8, 100, 50) == 0
    world.part(8, 4000, 0xFFFF)
    assert world.read(8, 4000, 96) == 0
    assert world.read(8, 4000, 97) == GNTST_bad_copy_arg


def test_what_is_copied_by_part_is_not_mapped_meanwhile(world: World2) -> None:
    world.part(8, 0, 4096)
    active = acquire(world.a, 8, 2, readonly=True)
    world.full(8)
    assert world.map().status == GNTST_general_error
    world.hv.frames.put_page(active.mfn)
    release(world.a, 8, readonly=True)
    assert world.map().status == 0


def test_an_entry_in_use_is_nobody_elses(world: World2) -> None:
    world.full(8, domid=3)
    active = acquire(world.a, 8, 3, readonly=True)
    world.full(8)
    assert world.read(8) == GNTST_general_error
    world.hv.frames.put_page(active.mfn)
    release(world.a, 8, readonly=True)
    assert world.read(8) == 0


def test_a_part_that_was_changed_under_a_use(world: World2) -> None:
    """To read, what the use began with still counts; a first use to write finds something else."""
    world.part(8, 100, 50)
    first = acquire(world.a, 8, 2, readonly=True)
    world.part(8, 100, 60)
    again = acquire(world.a, 8, 2, readonly=True)
    assert again is first and (again.start, again.length) == (100, 50)
    with pytest.raises(GrantError) as refused:
        acquire(world.a, 8, 2, readonly=False)
    assert refused.value.status == GNTST_general_error
    assert world.status(8) == GTF_reading
    world.part(8, 100, 50)
    assert acquire(world.a, 8, 2, readonly=False).pin == 0x201
    world.full(8, GTF_permit_access, domid=5)
    assert acquire(world.a, 8, 2, readonly=False).pin == 0x202, "it is written to already: not looked at"
    for readonly in (True, True, False, False):
        world.hv.frames.put_page(first.mfn)
        release(world.a, 8, readonly)
    assert world.status(8) == 0
    assert not problems(world.hv)


# -- another's grant, passed on ------------------------------------------------------------------------------

def test_a_grant_is_passed_on(world: World2) -> None:
    world.full(8, domid=1, granter=world.c)
    world.passed_on(9)
    world.page(world.c, 20)[:16] = bytes(range(16))
    assert world.read(9) == 0
    assert bytes(world.page(world.b, 30)[:16]) == bytes(range(16))
    assert world.fill(9, 64) == 0
    assert bytes(world.page(world.c, 20)[64:80]) == bytes(range(16))
    active = acquire(world.a, 9, 2, readonly=False)
    assert (active.granter, active.ref, active.is_sub_page) == (world.c, 8, True)
    assert world.status(9) == world.status(8, world.c) == BOTH
    assert world.c.grants.active[8].domid == 1
    world.hv.frames.put_page(active.mfn)
    release(world.a, 9, readonly=False)
    assert world.status(9) == world.status(8, world.c) == 0
    assert not world.a.grants.active and not world.c.grants.active
    assert not problems(world.hv)


def test_the_one_passed_on_may_be_of_version_1_or_a_part(world: World2) -> None:
    assert world.change(world.c, 1) == 0
    write_entry(world.c.grants, 8, GTF_permit_access, 1, world.mfn(world.c, 20))
    world.passed_on(9)
    assert world.read(9) == 0
    assert world.change(world.c, 2) == 0
    world.part(8, 100, 50, domid=1, granter=world.c)
    assert world.read(9, 100, 50) == 0
    assert world.read(9, 99, 50) == GNTST_general_error
    # It may even be granted back to where it came from.
    assert world.change(world.b, 2) == 0
    world.full(8, domid=1, granter=world.b)
    world.passed_on(9, domid=2)
    assert world.read(9) == 0


def test_what_cannot_be_passed_on(world: World2) -> None:
    world.full(8, domid=1, granter=world.c)
    world.full(10, GTF_permit_access | GTF_readonly, domid=1, granter=world.c)
    world.full(11, domid=2, granter=world.c)  # to b, not to a
    world.full(8, domid=1)  # a to itself
    assert world.change(world.b, 2) == 0
    world.full(8, domid=3, granter=world.b)
    world.write(12, GTF_transitive, 1, 2, 8, world.c)
    world.write(13, GTF_permit_access, 1, 0, 1 << 40, world.c)
    for their_ref, domid, status in (
        (8, 1, GNTST_general_error),  # oneself
        (8, 77, GNTST_general_error),  # nobody
        (11, 3, GNTST_general_error),
        (12, 3, GNTST_general_error),  # transitive itself
        (13, 3, GNTST_bad_page),
        (300, 3, GNTST_bad_gntref),
    ):
        world.passed_on(9, domid, their_ref)
        assert world.read(9) == status, (their_ref, domid)
        assert world.status(9) == world.status(their_ref & 15, world.c) == 0
    world.passed_on(9, 3, 10)
    assert world.read(9) == 0
    assert world.fill(9) == GNTST_general_error, "read-only where it comes from"
    world.passed_on(9, 3, 8, GTF_transitive | GTF_readonly)
    assert world.fill(9) == GNTST_general_error, "passed on read-only"
    world.write(9, GTF_transitive, 5, 3, 8)
    assert world.read(9) == GNTST_general_error, "for somebody else"
    assert not world.a.grants.active and not world.c.grants.active
    assert not problems(world.hv)


def test_an_entry_of_version_1_that_says_transitive_is_no_grant(world: World2) -> None:
    assert world.change(world.a, 1) == 0
    write_entry(world.a.grants, 8, GTF_transitive, 2, world.mfn(world.a, 20))
    assert world.read(8) == GNTST_general_error
    write_entry(world.a.grants, 8, SUB_PAGE, 2, world.mfn(world.a, 20))
    assert world.read(8, 0, 4096) == 0, "version 1 knows no parts: it is all of it"


def test_an_entry_made_transitive_under_a_use_has_to_be_tried_again(world: World2) -> None:
    world.full(8, domid=1, granter=world.c)
    world.full(9)
    mapped = world.map(ref=9)
    world.passed_on(9)
    with pytest.raises(TryAgain):
        acquire(world.a, 9, 2, readonly=True)
    assert not world.c.grants.active
    assert world.status(9) == BOTH and world.status(8, world.c) == 0
    # The call is made again and again, a share of work at a time, until the entry is as it was or not in use.
    op: Any = GnttabCopy()
    op.source.u.ref, op.source.domid, op.flags, op.len = 9, 1, GNTCOPY_source_gref, 16
    op.dest.u.gmfn, op.dest.domid = world.mfn(world.b, 30), DOMID_SELF
    address = world.machine.put(world.vcpu, 5, op)
    world.machine.enter(world.vcpu)
    for _ in range(3):
        with pytest.raises(Continue) as again:
            world.hv.calls[20](world.vcpu, GNTTABOP.copy.number, address, 1)
        assert again.value.arguments == (GNTTABOP.copy.number, address, 1)
    assert world.unmap(mapped.handle) == 0
    assert world.machine.call(world.vcpu, 20, GNTTABOP.copy.number, world.machine.put(world.vcpu, 5, op), 1) == 0
    assert world.get(GnttabCopy).status == 0
    assert not problems(world.hv)


def test_a_transitive_entry_that_is_none_any_more_under_a_use(world: World2) -> None:
    world.full(8, domid=1, granter=world.c)
    world.passed_on(9)
    active = acquire(world.a, 9, 2, readonly=False)
    world.full(9)
    for readonly in (True, False):
        with pytest.raises(GrantError) as refused:
            acquire(world.a, 9, 2, readonly)
        assert refused.value.status == GNTST_bad_domain
    world.passed_on(9)
    assert acquire(world.a, 9, 2, readonly=True) is active
    for readonly in (True, False):
        world.hv.frames.put_page(active.mfn)
        release(world.a, 9, readonly)
    assert not problems(world.hv)


# -- batches -------------------------------------------------------------------------------------------------

def test_a_batch_keeps_what_it_copied_from_last(world: World2) -> None:
    """So an entry that is written over by the batch itself still counts, until another is named in between."""
    mfn = world.full(8)
    world.page(world.a, 20)[:4] = b"used"
    entry = world.a.grants.entries.slot(8) * 8
    assert world.change(world.b, 2) == 0
    table = world.a.grants.frames[0]
    world.write(9, GTF_permit_access, 2, 0, table)  # a lets b write its very table
    world.full(10)
    own = world.mfn(world.b, 30)
    world.page(world.b, 31)[:] = bytes(4096)
    blank = world.mfn(world.b, 31)
    wipe = ((blank, DOMID_SELF, 0), (9, 1, entry % 4096), 16, GNTCOPY_dest_gref)
    take = ((8, 1, 0), (own, DOMID_SELF, 0), 4, GNTCOPY_source_gref)
    # The source is held while only the destination changes; wiping needs another source, which lets it go.
    assert world.copies(take, take) == [0, 0]
    assert world.copies(take, wipe, take) == [0, 0, GNTST_general_error]
    world.write(8, GTF_permit_access, 2, 0, mfn)
    world.hv.ram.words[world.mfn(world.b, 30) * 512 + 64] = 0
    overwrite = ((8, 1, 2048), (9, 1, entry % 4096), 16, GNTCOPY_source_gref | GNTCOPY_dest_gref)
    both = ((8, 1, 0), (10, 1, 64), 4, GNTCOPY_source_gref | GNTCOPY_dest_gref)
    assert world.copies(both, overwrite, both) == [0, 0, 0]
    assert world.copies(both) == [GNTST_general_error]
    assert not world.a.grants.active
    assert not problems(world.hv)


def test_what_is_held_by_reference_is_no_frame_of_anybody_elses(world: World2) -> None:
    own = (world.mfn(world.b, 30), DOMID_SELF, 0)
    world.full(8)
    for number in (8, world.mfn(world.a, 20), world.mfn(world.a, 25)):
        by_reference = ((8, 1, 0), own, 16, GNTCOPY_source_gref)
        by_number = ((number, 1, 0), own, 16, 0)
        into = (own, (number, 1, 0), 16, 0)
        first_into = (own, (8, 1, 0), 16, GNTCOPY_dest_gref)
        assert world.copies(by_reference, by_number) == [0, GNTST_permission_denied]
        assert world.copies(first_into, into) == [0, GNTST_permission_denied]
    assert not problems(world.hv)


def test_an_item_that_fails_lets_everything_go(world: World2) -> None:
    own = (world.mfn(world.b, 30), DOMID_SELF, 0)
    world.full(8)
    good, beyond = ((8, 1, 0), own, 16, GNTCOPY_source_gref), ((8, 1, 4090), own, 16, GNTCOPY_source_gref)
    nobody, denied = ((8, 99, 0), own, 16, GNTCOPY_source_gref), ((8, 1, 0), own, 16, 0)
    nobodys, bad = ((8, 99, 0), own, 16, 0), ((300, 1, 0), (8, 1, 0), 16, GNTCOPY_source_gref)
    assert world.copies(good, beyond, good, nobody, good, denied, good, nobodys, good, bad) == [
        0, GNTST_bad_copy_arg, 0, GNTST_bad_domain, 0, GNTST_permission_denied, 0, GNTST_bad_domain, 0,
        GNTST_bad_gntref,
    ]  # fmt: skip
    assert not world.a.grants.active
    assert not problems(world.hv)


def test_a_batch_that_stops_for_others_holds_nothing(world: World2) -> None:
    world.full(8)
    world.machine.work = 12
    own = (world.mfn(world.b, 30), DOMID_SELF, 0)
    seen = []
    must_yield = world.hv.must_yield

    def watched(cost: int) -> bool:
        over = must_yield(cost)
        seen.append((over, len(world.a.grants.active)))
        return over

    world.hv.must_yield = watched  # type: ignore[method-assign]
    assert world.copies(*[((8, 1, 0), own, 16, GNTCOPY_source_gref)] * 10) == [0] * 10
    assert world.machine.continued > 1
    assert [held for over, held in seen if not over][1] == 1, "it is held from item to item"
    assert not world.a.grants.active
    # An item that fails lets go, too; and so does one that names another.
    seen.clear()
    world.machine.work = 1 << 20
    good, beyond, other = (
        ((ref, 1, offset), own, 16, GNTCOPY_source_gref) for ref, offset in ((8, 0), (8, 4090), (9, 0))
    )
    world.full(9)
    assert world.copies(good, beyond, other, good, good) == [0, GNTST_bad_copy_arg, 0, 0, 0]
    assert [held for _, held in seen] == [0, 1, 0, 1, 1]
    assert not world.a.grants.active
    assert not problems(world.hv)


def test_a_reference_and_a_frame_of_the_same_number(world: World2) -> None:
    """What is held as the one does not pass for the other."""
    number = world.mfn(world.b, 30)
    world.b.grants.setup(4)
    granted = world.mfn(world.b, 32)
    write_entry(world.b.grants, number, GTF_permit_access, 2, granted)
    world.page(world.b, 30)[:5], world.page(world.b, 32)[:5] = b"frame", b"grant"
    into = world.mfn(world.b, 31)
    by_reference = ((number, DOMID_SELF, 0), (into, DOMID_SELF, 0), 5, GNTCOPY_source_gref)
    by_number = ((number, DOMID_SELF, 0), (into, DOMID_SELF, 8), 5, 0)
    assert world.copies(by_reference, by_number) == [0, 0]
    assert bytes(world.page(world.b, 31)[:13]) == b"grant\0\0\0frame"
    world.page(world.b, 31)[:13] = bytes(13)
    assert world.copies(by_number, by_reference) == [0, 0]
    assert bytes(world.page(world.b, 31)[:13]) == b"grant\0\0\0frame"
    assert not problems(world.hv)


def test_pages_for_code_are_forgotten_when_copied_over(world: World2) -> None:
    world.passed_on(9)
    world.full(8, domid=1, granter=world.c)
    told = []
    world.hv.host_wrote = told.append  # type: ignore[method-assign]
    assert world.fill(9) == 0
    assert told == [world.mfn(world.c, 20)]
    assert world.read(HOLE) == GNTST_general_error
