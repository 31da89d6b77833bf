# SPDX-License-Identifier: GPL-2.0-or-later
"""Grant tables, as a guest meets them: the hypercall, its statuses, and what it leaves behind."""

from __future__ import annotations

import struct
from typing import Any

import pytest

import pvhv.core.calls.grant_table as calls
from pvhv.abi import grant_table as abi
from pvhv.abi.errno import Errno
from pvhv.abi.grant_table import (
    GnttabCacheFlush,
    GnttabCopy,
    GnttabGetVersion,
    GnttabMapGrantRef,
    GnttabQuerySize,
    GnttabSetupTable,
    GnttabSetVersion,
    GnttabSwapGrantRef,
    GnttabTransfer,
    GnttabUnmapAndReplace,
    GnttabUnmapGrantRef,
    GTF_accept_transfer,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_transfer_committed,
    GTF_transfer_completed,
    GTF_transitive,
    GTF_writing,
)
from pvhv.abi.xen import DOMID_SELF, DOMID_XEN, HYPERVISOR_grant_table_op
from pvhv.core.domain import Domain
from pvhv.core.errors import DomainCrash, GrantError, GuestFault, HypercallError
from pvhv.core.grants import table as grants
from pvhv.core.grants.view import GrantView
from pvhv.core.mm.frames import CODE_MAPPED, L1, TYPE_MASK, WRITABLE
from pvhv.core.mm.pte import GUEST_KERNEL, NX, PRESENT, RW, USER
from tests.core.guests import BASE, Machine, write_entry

HOST, READONLY = abi.GNTMAP_host_map, abi.GNTMAP_readonly
REQUESTS = 5  # the page that requests are written in
HOLE = 40  # a page whose entry tests overwrite
PAGES = 48


class World:
    """`a` grants, `b` maps; both have PAGES pages."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.hv = self.machine.hv
        self.a = self.machine.guest(PAGES)
        self.b = self.machine.guest(PAGES)
        assert (self.a.domid, self.b.domid) == (1, 2)
        self.vcpu = self.b.vcpus[0]
        self.before = self.books()

    def books(self) -> Any:
        """All there is to balance."""
        frames = self.hv.frames
        return (
            frames.owner.tolist(), frames.refs.tolist(), frames.type_counts.tolist(), frames.free_frames,
            [domain.tot_pages for domain in (self.a, self.b)],
        )

    def grant(self, ref: int = 8, flags: int = GTF_permit_access, domid: int = 2, pfn: int = 20) -> int:
        """Have `a` grant one of its pages; the frame."""
        mfn = self.machine.mfn(self.a, pfn)
        write_entry(self.a.grants, ref, flags, domid, mfn)
        return mfn

    def flags(self, ref: int = 8) -> int:
        return int(self.hv.ram.words[self.a.grants.entries.slot(ref)] & 0xFFFF)

    def op(self, command: Any, *records: Any, count: int | None = None) -> int:
        address = self.machine.put(self.vcpu, REQUESTS, *records)
        return self.call(command.number, address, len(records) if count is None else count)

    def map(self, pfn: int = HOLE, flags: int = HOST, ref: int = 8, dom: int = 1, address: int | None = None) -> Any:
        where = BASE + pfn * 4096 if address is None else address
        assert self.op(calls.GNTTABOP.map_grant_ref, GnttabMapGrantRef(where, flags, ref, dom)) == 0
        return self.get(GnttabMapGrantRef)

    def unmap(self, handle: int, pfn: int = HOLE, bus: int = 0, address: int | None = None) -> int:
        where = BASE + pfn * 4096 if address is None else address
        assert self.op(calls.GNTTABOP.unmap_grant_ref, GnttabUnmapGrantRef(where, bus, handle)) == 0
        return int(self.get(GnttabUnmapGrantRef).status)

    def entry(self, pfn: int = HOLE) -> int:
        return int(self.machine.entry(self.b, pfn))

    def clear(self, pfn: int = HOLE) -> None:
        """Take b's own page out of an entry, so that mapping there and back leaves the books as they are."""
        self.machine.set_entry(self.b, pfn, 0)
        self.before = self.books()

    def mfn(self, domain: Domain, pfn: int) -> int:
        return self.machine.mfn(domain, pfn)

    def get(self, record: Any, index: int = 0) -> Any:
        """One of the requests, answered."""
        return self.machine.get(self.vcpu, record, REQUESTS, index)

    def call(self, number: int, address: int, count: int) -> int:
        return self.machine.call(self.vcpu, HYPERVISOR_grant_table_op, number, address, count)

    def slot(self, pfn: int) -> int:
        """Where the L1 entry of one of b's pages is."""
        return self.machine.entry_address(self.b, pfn)


@pytest.fixture
def world() -> World:
    made = World()
    made.clear()
    return made


def test_the_copy_codec_agrees_with_the_record() -> None:
    values = (0x1122334455667788, 7, 100, 0x8877665544332211, 9, 200, 300, 3, -8)
    op = GnttabCopy.from_buffer_copy(calls.COPY.pack(*values))
    assert calls.COPY.size == len(bytes(op))
    read = (op.source.u.gmfn, op.source.domid, op.source.offset, op.dest.u.gmfn, op.dest.domid, op.dest.offset,
            op.len, op.flags, op.status)
    assert read == values


# -- map and unmap -------------------------------------------------------------------------------------------

def test_map_shows_the_frame_and_unmap_takes_it_back(world: World) -> None:
    mfn = world.grant()
    world.hv.ram.frame(mfn)[:5] = b"hello"
    op = world.map()
    assert (op.status, op.dev_bus_addr) == (0, mfn << 12)
    assert world.entry() & 0xFF_FFFF_F000 == mfn << 12
    assert world.entry() & (PRESENT | RW | USER | GUEST_KERNEL | NX) == PRESENT | RW | USER | GUEST_KERNEL | NX
    assert world.flags() == GTF_permit_access | GTF_reading | GTF_writing
    assert world.vcpu.memory.read(BASE + HOLE * 4096, 5) == b"hello"
    world.vcpu.memory.write(BASE + HOLE * 4096, b"world")
    assert bytes(world.hv.ram.frame(mfn)[:5]) == b"world"
    assert world.unmap(op.handle) == 0
    assert world.entry() == 0
    assert world.flags() == GTF_permit_access
    assert world.books() == world.before
    assert world.unmap(op.handle) == abi.GNTST_bad_handle


def test_after_an_unmap_no_translation_is_left(world: World) -> None:
    world.grant()
    op = world.map()
    memory, address = world.machine.cpu.memory, BASE + HOLE * 4096
    memory.write(address, b"known to the TLB now")
    flushed: list[int] = []
    world.machine.cpu.pcpu.flush_on_entry = lambda: flushed.append(1)  # type: ignore[method-assign]
    assert world.unmap(op.handle) == 0
    assert flushed
    world.machine.enter(world.vcpu)
    for access in (lambda: memory.read(address, 1), lambda: memory.write(address, b"x")):
        with pytest.raises(GuestFault):
            access()


def test_a_copy_over_code_has_its_translation_forgotten(world: World) -> None:
    world.grant()
    mine = world.mfn(world.b, 6)
    world.hv.frames.code[mine] = CODE_MAPPED
    forgotten: list[int] = []
    world.machine.cpu.pcpu.forget_code = forgotten.append  # type: ignore[method-assign]
    assert copy(world, end(8, 1), end(mine, DOMID_SELF), flags=abi.GNTCOPY_source_gref) == 0
    assert forgotten == [mine]


def test_readonly_mappings_hold_no_writable_use(world: World) -> None:
    world.grant(flags=GTF_permit_access | GTF_readonly)
    op = world.map(flags=HOST | READONLY)
    assert op.status == 0
    assert world.entry() & RW == 0
    assert world.flags() == GTF_permit_access | GTF_readonly | GTF_reading
    assert world.map(pfn=HOLE + 1).status == abi.GNTST_general_error  # the entry allows no writing
    assert world.unmap(op.handle) == 0
    assert world.books() == world.before


def test_flags_shrink_as_uses_end(world: World) -> None:
    world.grant()
    reader = world.map(flags=HOST | READONLY).handle
    world.clear(HOLE + 1)
    writer = world.map(pfn=HOLE + 1).handle
    assert world.flags() == GTF_permit_access | GTF_reading | GTF_writing
    assert world.unmap(writer, HOLE + 1) == 0
    assert world.flags() == GTF_permit_access | GTF_reading
    assert world.unmap(reader) == 0
    assert world.flags() == GTF_permit_access


def test_what_an_entry_must_say(world: World) -> None:
    mfn = world.grant(ref=8, domid=3)
    assert world.map(ref=8).status == abi.GNTST_general_error  # for somebody else
    write_entry(world.a.grants, 9, GTF_transitive, 2, mfn)
    assert world.map(ref=9).status == abi.GNTST_general_error
    write_entry(world.a.grants, 10, GTF_permit_access | abi.GTF_sub_page, 2, mfn)
    assert world.map(ref=10).status == abi.GNTST_general_error
    write_entry(world.a.grants, 11, GTF_permit_access, 2, world.mfn(world.b, 6))
    assert world.map(ref=11).status == abi.GNTST_bad_page  # not a's to grant
    assert world.flags(11) == GTF_permit_access
    write_entry(world.a.grants, 12, GTF_permit_access, 2, 0xFFFF_FFFF)
    assert world.map(ref=12).status == abi.GNTST_bad_page
    write_entry(world.a.grants, 13, GTF_permit_access, 2, world.mfn(world.a, 3))  # its L1
    assert world.map(ref=13).status == abi.GNTST_general_error
    assert world.flags(13) == GTF_permit_access
    assert world.map(ref=512).status == abi.GNTST_bad_gntref
    assert world.map(flags=READONLY).status == abi.GNTST_bad_gntref
    assert world.map(dom=9).status == abi.GNTST_bad_domain
    assert world.map(dom=DOMID_SELF).status == abi.GNTST_bad_domain
    assert world.books() == world.before
    assert not world.a.grants.active and len(world.b.grants.free_handles) == len(world.b.grants.maptrack)


def test_a_page_table_can_be_mapped_to_read(world: World) -> None:
    write_entry(world.a.grants, 8, GTF_permit_access, 2, world.mfn(world.a, 3))
    op = world.map(flags=HOST | READONLY)
    assert op.status == 0
    assert world.hv.frames.types[world.mfn(world.a, 3)] & TYPE_MASK == L1
    assert world.unmap(op.handle) == 0
    assert world.books() == world.before


def test_where_a_mapping_can_go(world: World) -> None:
    world.grant()
    for address in (BASE - (1 << 30), 0xFFFF_8000_0000_0000, 1 << 47, 0x1234_0000_0000_0000):
        assert world.map(address=address).status == abi.GNTST_general_error, hex(address)
    contains = HOST | abi.GNTMAP_contains_pte
    slot = world.slot(HOLE)
    assert world.map(flags=contains, address=slot + 4).status == abi.GNTST_general_error
    assert world.map(flags=contains, address=world.mfn(world.b, 6) << 12).status == abi.GNTST_general_error
    assert world.map(flags=contains, address=world.mfn(world.b, 2) << 12).status == abi.GNTST_general_error
    assert world.map(flags=contains, address=world.mfn(world.a, 3) << 12).status == abi.GNTST_general_error
    assert world.map(flags=contains, address=1 << 50).status == abi.GNTST_general_error
    assert world.books() == world.before
    op = world.map(flags=contains, address=slot)
    assert op.status == 0 and world.entry() & PRESENT
    assert world.unmap(op.handle, address=slot) == 0
    assert world.books() == world.before


def test_application_map_and_the_guests_own_bits(world: World) -> None:
    world.grant()
    op = world.map(flags=HOST | abi.GNTMAP_application_map | 5 << 16)
    assert world.entry() & (USER | 0xE00) == USER | 5 << 9
    assert world.unmap(op.handle) == 0


def test_mapping_over_a_page_drops_it(world: World) -> None:
    world.grant()
    mine = world.mfn(world.b, 10)
    refs = world.hv.frames.refs[mine]
    op = world.map(pfn=10)
    assert op.status == 0
    assert world.hv.frames.refs[mine] == refs - 1
    assert world.hv.frames.type_counts[mine] == 0


def test_a_guest_cannot_make_a_grant_entry_itself(world: World) -> None:
    world.grant()
    op = world.map()
    address = world.slot(41)
    with pytest.raises(HypercallError) as caught:
        world.hv.pagetables.modify(address, world.entry(), False, 2, 2)
    assert caught.value.errno == Errno.EBUSY
    assert world.unmap(op.handle) == 0


def test_unmapping_wants_the_very_mapping(world: World) -> None:
    world.grant()
    op = world.map()
    assert world.unmap(op.handle, pfn=6) == abi.GNTST_general_error  # b's own page is there
    assert world.unmap(op.handle, address=1 << 47) == abi.GNTST_general_error
    assert world.unmap(op.handle + 1) == abi.GNTST_bad_handle
    assert world.unmap(1 << 20) == abi.GNTST_bad_handle
    assert world.unmap(op.handle, address=0) == 0  # asked for nothing
    assert world.unmap(op.handle) == 0
    assert world.books() == world.before


def test_a_device_mapping_is_a_pin(world: World) -> None:
    mfn = world.grant()
    op = world.map(flags=HOST | abi.GNTMAP_device_map)
    assert (op.status, op.dev_bus_addr) == (0, mfn << 12)
    assert world.hv.frames.type_counts[mfn] == 3  # a's own mapping, the host's and the device's
    assert world.unmap(op.handle, address=0, bus=(mfn << 12) + 8) == abi.GNTST_bad_dev_addr
    assert world.unmap(op.handle) == 0
    assert world.flags() == GTF_permit_access | GTF_reading | GTF_writing
    assert world.unmap(op.handle, address=0, bus=mfn << 12) == 0
    assert world.flags() == GTF_permit_access
    assert world.books() == world.before
    op = world.map(flags=abi.GNTMAP_device_map | READONLY)
    assert op.status == 0 and world.entry() == 0
    assert world.unmap(op.handle, bus=mfn << 12) == 0
    assert world.books() == world.before


def test_a_use_stops_at_128(world: World) -> None:
    world.grant()
    handles = [world.map(flags=abi.GNTMAP_device_map | READONLY).handle for _ in range(128)]
    assert len(set(handles)) == 128
    assert world.map(flags=abi.GNTMAP_device_map | READONLY).status == abi.GNTST_general_error
    op = world.map()  # another kind of use has its own count
    assert op.status == 0


def test_handles_run_out(world: World) -> None:
    world.grant()
    world.b.grants.max_mappings = 256
    handles = [world.map(flags=abi.GNTMAP_device_map | READONLY).handle for _ in range(128)]
    world.grant(ref=9, pfn=21)
    handles += [world.map(ref=9, flags=abi.GNTMAP_device_map | READONLY).handle for _ in range(128)]
    assert sorted(handles) == list(range(256))
    assert world.map(ref=9).status == abi.GNTST_no_space


def test_a_domain_may_map_its_own_grant(world: World) -> None:
    write_entry(world.b.grants, 8, GTF_permit_access, 2, world.mfn(world.b, 20))
    op = world.map(dom=2)
    assert op.status == 0
    assert world.unmap(op.handle) == 0
    assert world.books() == world.before


def test_replace_moves_the_entry(world: World) -> None:
    world.grant()
    op = world.map()
    moved = world.entry(10)
    request = GnttabUnmapAndReplace(BASE + HOLE * 4096, BASE + 10 * 4096, op.handle)
    assert world.op(calls.GNTTABOP.unmap_and_replace, request) == 0
    assert world.get(GnttabUnmapAndReplace).status == 0
    assert (world.entry(), world.entry(10)) == (moved, 0)
    assert world.books() == world.before
    op = world.map(pfn=10)
    request = GnttabUnmapAndReplace(BASE + 6 * 4096, BASE + 11 * 4096, op.handle)
    refs = world.hv.frames.refs[world.mfn(world.b, 11)]
    lost = world.mfn(world.b, 11)
    world.op(calls.GNTTABOP.unmap_and_replace, request)
    assert world.get(GnttabUnmapAndReplace).status == abi.GNTST_general_error
    assert world.entry(11) == 0 and world.hv.frames.refs[lost] == refs - 1  # Xen drops what it had taken


def test_a_batch_stops_for_others_and_goes_on(world: World) -> None:
    for index in range(6):
        world.grant(ref=8 + index, pfn=20 + index)
        world.clear(30 + index)
    world.machine.work = 4
    requests = [GnttabMapGrantRef(BASE + (30 + index) * 4096, HOST, 8 + index, 1) for index in range(6)]
    assert world.op(calls.GNTTABOP.map_grant_ref, *requests) == 0
    done = [world.get(GnttabMapGrantRef, index) for index in range(6)]
    assert [op.status for op in done] == [0] * 6
    assert world.machine.continued == 5
    flushes: list[int] = []
    world.hv.pagetables.flush_before_reuse = lambda: flushes.append(1)
    undo = [GnttabUnmapGrantRef(BASE + (30 + index) * 4096, 0, op.handle) for index, op in enumerate(done)]
    assert world.op(calls.GNTTABOP.unmap_grant_ref, *undo) == 0
    assert len(flushes) == 1  # one for the whole group
    assert world.books() == world.before


def test_an_item_that_faults_ends_the_batch_and_keeps_the_books(world: World) -> None:
    world.grant()
    op = world.map()
    last = BASE + PAGES * 4096 - 24  # the last request that fits before the end of what is mapped
    world.vcpu.memory.write(last, bytes(GnttabUnmapGrantRef(BASE + HOLE * 4096, 0, op.handle)))
    number = calls.GNTTABOP.unmap_grant_ref.number
    assert world.call(number, last, 2) == -Errno.EFAULT
    assert world.entry() == 0
    assert world.books() == world.before


# -- copy ----------------------------------------------------------------------------------------------------

def end(number: int, domid: int, offset: int = 0) -> Any:
    pointer = type(GnttabCopy().source)()
    pointer.u.gmfn, pointer.domid, pointer.offset = number, domid, offset
    return pointer


def copy(world: World, source: Any, dest: Any, length: int = 16, flags: int = 0) -> int:
    assert world.op(calls.GNTTABOP.copy, GnttabCopy(source, dest, length, flags)) == 0
    return int(world.get(GnttabCopy).status)


def test_copy_from_and_to_grants(world: World) -> None:
    mfn = world.grant()
    mine = world.mfn(world.b, 6)
    world.hv.ram.frame(mfn)[100:104] = b"take"
    assert copy(world, end(8, 1, 100), end(mine, DOMID_SELF, 8), 4, abi.GNTCOPY_source_gref) == 0
    assert bytes(world.hv.ram.frame(mine)[8:12]) == b"take"
    world.hv.ram.frame(mine)[0:4] = b"give"
    assert copy(world, end(mine, DOMID_SELF), end(8, 1, 4092), 4, abi.GNTCOPY_dest_gref) == 0
    assert bytes(world.hv.ram.frame(mfn)[4092:]) == b"give"
    assert copy(world, end(8, 1), end(8, 1, 2048), 2048, 3) == 0
    assert world.flags() == GTF_permit_access
    assert world.books() == world.before


def test_what_copy_refuses(world: World) -> None:
    world.grant(flags=GTF_permit_access | GTF_readonly)
    mine, table = world.mfn(world.b, 6), world.mfn(world.b, 3)
    own, theirs = end(mine, DOMID_SELF), world.mfn(world.a, 6)
    by_source, by_dest = abi.GNTCOPY_source_gref, abi.GNTCOPY_dest_gref
    assert copy(world, end(mine, 2), own) == abi.GNTST_permission_denied  # by number: DOMID_SELF only
    assert copy(world, own, end(theirs, 1)) == abi.GNTST_permission_denied
    assert copy(world, end(8, 9), own, flags=by_source) == abi.GNTST_bad_domain
    assert copy(world, own, end(8, 9), flags=by_dest) == abi.GNTST_bad_domain
    assert copy(world, end(theirs, DOMID_SELF), own) == abi.GNTST_bad_page
    assert copy(world, own, end(theirs, DOMID_SELF)) == abi.GNTST_bad_page
    assert copy(world, end(512, 1), own, flags=by_source) == abi.GNTST_bad_gntref
    assert copy(world, own, end(8, 1), flags=by_dest) == abi.GNTST_general_error  # read-only
    assert copy(world, own, end(table, DOMID_SELF)) == abi.GNTST_general_error  # a page table
    assert copy(world, end(table, DOMID_SELF), own) == 0
    assert copy(world, own, end(mine, DOMID_SELF, 4090)) == abi.GNTST_bad_copy_arg
    assert copy(world, end(mine, DOMID_SELF, 4090), own) == abi.GNTST_bad_copy_arg
    write_entry(world.a.grants, 9, GTF_transitive, 2, theirs)
    assert copy(world, end(9, 1), own, flags=by_source) == abi.GNTST_general_error
    assert world.books() == world.before
    assert not world.a.grants.active


def test_copy_looks_again_at_an_entry_that_changed_under_a_use(world: World) -> None:
    world.grant()
    reader = world.map(flags=HOST | READONLY)
    world.grant(pfn=22)  # a changes its mind about the frame
    mine = end(world.mfn(world.b, 6), DOMID_SELF)
    assert copy(world, end(8, 1), mine, flags=abi.GNTCOPY_source_gref) == 0  # a second reader gets what is in use
    assert copy(world, mine, end(8, 1), flags=abi.GNTCOPY_dest_gref) == abi.GNTST_general_error
    assert world.flags() & GTF_writing == 0
    assert world.unmap(reader.handle) == 0
    assert world.books() == world.before


# -- transfer ------------------------------------------------------------------------------------------------

def test_transfer_moves_a_frame(world: World) -> None:
    mfn = world.mfn(world.b, 10)
    world.clear(10)
    world.a.max_pages += 1
    write_entry(world.a.grants, 8, GTF_accept_transfer, 2, 0x777)
    assert world.op(calls.GNTTABOP.transfer, GnttabTransfer(mfn, 1, 8)) == 0
    assert world.get(GnttabTransfer).status == 0
    assert world.hv.frames.owner[mfn] == 1
    assert world.hv.m2p[mfn] == 0x777
    assert world.hv.ram.words[world.a.grants.entries.slot(8)] >> 32 == mfn
    assert world.flags() == GTF_accept_transfer | GTF_transfer_committed | GTF_transfer_completed
    assert (world.a.tot_pages, world.b.tot_pages) == (PAGES + 1, PAGES - 1)


def test_what_transfer_refuses_and_what_it_loses(world: World) -> None:
    def transfer(mfn: int, dom: int, ref: int) -> int:
        assert world.op(calls.GNTTABOP.transfer, GnttabTransfer(mfn, dom, ref)) == 0
        return int(world.get(GnttabTransfer).status)

    write_entry(world.a.grants, 8, GTF_accept_transfer, 2, 0)
    for mfn in (world.mfn(world.b, 6), world.mfn(world.a, 6), world.b.grants.frames[0], 0, 1 << 40):
        assert transfer(mfn, 1, 8) == abi.GNTST_bad_page, mfn
    assert world.books() == world.before
    spare = [world.mfn(world.b, pfn) for pfn in range(10, 15)]
    for pfn in range(10, 15):
        world.clear(pfn)
    assert transfer(spare[0], 9, 8) == abi.GNTST_bad_domain
    assert transfer(spare[1], 1, 8) == abi.GNTST_general_error  # no room
    world.a.max_pages += 1
    assert transfer(spare[2], 1, 9) == abi.GNTST_general_error  # no such offer
    assert transfer(spare[3], 1, 512) == abi.GNTST_general_error
    world.a.dying = True
    assert transfer(spare[4], 1, 8) == abi.GNTST_general_error
    assert [world.hv.frames.owner[mfn] for mfn in spare] == [0x7FFF] * 5
    assert world.b.tot_pages == PAGES - 5


# -- about the table -----------------------------------------------------------------------------------------

def test_setup_lists_frames_the_domain_can_map(world: World) -> None:
    op = GnttabSetupTable(DOMID_SELF, 3, 0, BASE + 6 * 4096)
    assert world.op(calls.GNTTABOP.setup_table, op) == 0
    assert world.get(GnttabSetupTable).status == 0
    frames = struct.unpack("<3Q", world.vcpu.memory.read(BASE + 6 * 4096, 24))
    assert list(frames) == world.b.grants.frames
    address = world.slot(HOLE)
    world.hv.pagetables.modify(address, frames[2] << 12 | PRESENT | RW | NX, False, 2, 2)
    assert world.b.tot_pages == PAGES
    assert world.hv.frames.types[frames[0]] & TYPE_MASK == WRITABLE
    with pytest.raises(HypercallError) as caught:  # but not make a page table of one
        world.hv.pagetables.get_root(frames[1], 2)
    assert caught.value.errno == Errno.EINVAL
    assert world.hv.frames.type_counts[frames[1]] == 1


def test_what_setup_refuses(world: World) -> None:
    def setup(**fields: int) -> Any:
        op = GnttabSetupTable(**{"dom": DOMID_SELF, "nr_frames": 1, "frame_list": BASE + 6 * 4096, **fields})
        result = world.op(calls.GNTTABOP.setup_table, op)
        return result or world.get(GnttabSetupTable).status

    assert setup(dom=9) == abi.GNTST_bad_domain
    assert setup(dom=1) == abi.GNTST_permission_denied
    assert setup(nr_frames=65) == abi.GNTST_general_error
    assert setup(frame_list=BASE - (1 << 30)) == abi.GNTST_bad_virt_addr
    assert setup(frame_list=0xFFFF_8000_0000_0000) == -Errno.EFAULT
    assert setup(nr_frames=64) == 0
    assert world.op(calls.GNTTABOP.setup_table, GnttabSetupTable(DOMID_SELF), count=2) == -Errno.EINVAL
    while world.hv.frames.free_frames:
        world.hv.frames.allocate(DOMID_XEN)
    world.b.grants.max_frames = 66
    assert setup(nr_frames=66) == abi.GNTST_general_error
    assert len(world.b.grants.frames) == 64


def test_query_size_and_versions(world: World) -> None:
    assert world.op(calls.GNTTABOP.query_size, GnttabQuerySize(DOMID_SELF)) == 0
    op = world.get(GnttabQuerySize)
    assert (op.nr_frames, op.max_nr_frames, op.status) == (1, 64, 0)
    world.op(calls.GNTTABOP.query_size, GnttabQuerySize(1))
    assert world.get(GnttabQuerySize).status == abi.GNTST_permission_denied
    world.op(calls.GNTTABOP.query_size, GnttabQuerySize(9))
    assert world.get(GnttabQuerySize).status == abi.GNTST_bad_domain
    world.b.grants.max_version = 1
    for version, answer in ((1, 0), (2, -Errno.ENOSYS), (3, -Errno.EINVAL)):
        assert world.op(calls.GNTTABOP.set_version, GnttabSetVersion(version)) == answer
        assert world.get(GnttabSetVersion).version == 1
    assert world.op(calls.GNTTABOP.get_version, GnttabGetVersion(DOMID_SELF)) == 0
    assert world.get(GnttabGetVersion).version == 1
    assert world.op(calls.GNTTABOP.get_version, GnttabGetVersion(1)) == -Errno.EPERM
    assert world.op(calls.GNTTABOP.get_version, GnttabGetVersion(9)) == -Errno.ESRCH


def test_a_version_1_table_has_no_status_frames(world: World) -> None:
    def status(nr_frames: int, dom: int = DOMID_SELF) -> int:
        op = abi.GnttabGetStatusFrames(nr_frames, dom, 0, BASE + 6 * 4096)
        assert world.op(calls.GNTTABOP.get_status_frames, op) == 0
        return int(world.get(abi.GnttabGetStatusFrames).status)

    assert [status(0), status(1)] == [0, abi.GNTST_general_error]
    assert [status(0, 1), status(0, 9)] == [abi.GNTST_permission_denied, abi.GNTST_bad_domain]


def test_swap_exchanges_entries_nobody_uses(world: World) -> None:
    def swap(ref_a: int, ref_b: int) -> int:
        assert world.op(calls.GNTTABOP.swap_grant_ref, GnttabSwapGrantRef(ref_a, ref_b)) == 0
        return int(world.get(GnttabSwapGrantRef).status)

    words, grants = world.hv.ram.words, world.b.grants
    write_entry(world.b.grants, 8, GTF_permit_access, 2, world.mfn(world.b, 20))
    entry = words[grants.entries.slot(8)]
    assert swap(8, 9) == 0
    assert (words[grants.entries.slot(8)], words[grants.entries.slot(9)]) == (0, entry)
    assert swap(8, 512) == swap(512, 8) == abi.GNTST_bad_gntref
    assert swap(9, 9) == 0
    assert world.map(ref=9, dom=2).status == 0
    assert swap(8, 9) == swap(9, 8) == abi.GNTST_eagain
    assert swap(9, 9) == 0


def test_cache_flush_only_checks(world: World) -> None:
    def flush(mfn: int, offset: int = 0, length: int = 64, op: int = abi.GNTTAB_CACHE_CLEAN, place: int = 0) -> int:
        request = GnttabCacheFlush(offset=offset, length=length, op=op)
        request.a.dev_bus_addr = mfn << 12
        address = world.machine.put(world.vcpu, REQUESTS, request)
        return world.call(abi.GNTTABOP_cache_flush | place, address, 1)

    mine, theirs = world.mfn(world.b, 6), world.grant()
    assert flush(mine) == flush(mine, op=3) == flush(mine, length=0) == flush(mine, op=0) == 0
    assert flush(mine, op=abi.GNTTAB_CACHE_INVAL) == -Errno.EOPNOTSUPP
    assert flush(mine, op=4) == flush(mine, op=1 << 31) == -Errno.EINVAL
    assert flush(mine, 4096) == flush(mine, 4000, 97) == flush(mine, 0, 4097) == -Errno.EINVAL
    assert flush(theirs) == flush(1 << 40) == -Errno.EINVAL
    assert flush(world.hv.m2p_l3) == flush(world.hv.ram.frames - 1) == -Errno.EPERM
    assert flush(mine, length=0, place=0x1000) == -Errno.EILSEQ
    world.map()
    assert flush(theirs) == 0
    assert flush(theirs, place=0x1000) == -Errno.EINVAL  # the search goes on after the entry


def test_what_the_call_itself_refuses(world: World) -> None:
    address = world.machine.put(world.vcpu, REQUESTS, b"")
    assert world.call(0, address, 1 << 31) == -Errno.EINVAL
    assert world.call(0x1000, address, 1) == -Errno.EINVAL
    assert world.call(3, address, 1) == -Errno.ENOSYS
    assert world.call(13, address, 1) == -Errno.ENOSYS
    assert world.call(0, 0xFFFF_8000_0000_0000, 1) == -Errno.EFAULT
    for number in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12):
        assert world.call(number, BASE - (1 << 30), 1) == -Errno.EFAULT, number
    for number in (0, 1, 4, 5, 7, 11, 12):
        assert world.call(number, address, 0) == 0, number


# -- domain 0's views ----------------------------------------------------------------------------------------

def test_a_view_is_a_mapping_of_domain_0(world: World) -> None:
    mfn = world.grant(domid=0)
    with GrantView(world.hv.dom0, 1, 8) as view:
        view.bytes[:2] = b"hi"
        assert world.flags() == GTF_permit_access | GTF_reading | GTF_writing
        assert world.hv.frames.type_counts[mfn] == 2
    assert bytes(world.hv.ram.frame(mfn)[:2]) == b"hi"
    assert world.flags() == GTF_permit_access
    assert world.books() == world.before
    view.release()
    with GrantView(world.hv.dom0, 1, 8, readonly=True) as view, pytest.raises(TypeError):
        view.bytes[0] = 1
    for domid, ref, status in ((9, 8, abi.GNTST_bad_domain), (1, 9, abi.GNTST_general_error)):
        with pytest.raises(GrantError) as caught:
            GrantView(world.hv.dom0, domid, ref)
        assert caught.value.status == status
    world.grant(domid=0, pfn=3)
    with pytest.raises(GrantError):
        GrantView(world.hv.dom0, 1, 8)
    assert world.books() == world.before


# -- conservation --------------------------------------------------------------------------------------------

def test_a_mapper_that_dies_gives_everything_back(world: World) -> None:
    refs = [world.hv.frames.refs[world.grant()], world.hv.frames.refs[world.grant(ref=9, pfn=21)]]
    assert world.map().status == 0
    assert world.map(pfn=10, ref=9, flags=HOST | READONLY).status == 0
    assert world.map(ref=9, flags=abi.GNTMAP_device_map).status == 0
    world.machine.destroy(world.b)
    assert not world.a.grants.active
    assert (world.flags(8), world.flags(9)) == (GTF_permit_access, GTF_permit_access)
    assert [world.hv.frames.refs[world.mfn(world.a, pfn)] for pfn in (20, 21)] == refs
    assert world.hv.frames.owned_by(2) == []
    assert world.b.tot_pages == 0


def test_a_granter_that_dies_is_gone_when_its_last_mapping_is(world: World) -> None:
    mfn = world.grant()
    op = world.map()
    world.machine.destroy(world.a)
    assert world.hv.frames.owned_by(1) == [mfn]
    assert world.a.tot_pages == 1
    assert world.hv.domains[1] is world.a  # its id is not given to another meanwhile
    assert world.map(pfn=10).status == abi.GNTST_bad_domain
    assert world.unmap(op.handle) == 0
    assert world.hv.frames.owned_by(1) == []
    assert 1 not in world.hv.domains


def test_an_entry_lost_otherwise_keeps_its_pin_and_unmapping_late_is_fatal(world: World) -> None:
    mfn = world.grant()
    op = world.map()
    world.machine.set_entry(world.b, HOLE, 0)
    assert world.hv.frames.type_counts[mfn] == 1  # what the entry held went with it
    assert world.flags() == GTF_permit_access | GTF_reading | GTF_writing  # but the granter is told it is in use
    assert world.unmap(op.handle) == abi.GNTST_general_error
    world.machine.destroy(world.a)
    assert world.a.tot_pages == 0
    with pytest.raises(DomainCrash):
        world.unmap(op.handle)
    world.machine.destroy(world.b)
    assert world.hv.frames.owned_by(1) == world.hv.frames.owned_by(2) == []


def test_release_of_many_mappings_stops_for_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "MAPPINGS_PER_STEP", 256)
    for ref in range(8, 13):
        world.grant(ref=ref, pfn=20 + ref)
        for _ in range(128):
            assert world.map(ref=ref, flags=abi.GNTMAP_device_map | READONLY).status == 0
    world.b.dying = True
    assert not world.b.grants.release_mappings()  # 640 mappings go in three pieces
    assert not world.b.grants.release_mappings()
    assert world.a.grants.active
    assert world.b.grants.release_mappings()
    assert not world.a.grants.active
    assert world.books() == world.before
