# SPDX-License-Identifier: GPL-2.0-or-later
"""memory_op, as a guest meets it."""

from __future__ import annotations

from typing import Any

import pytest

from pvhv.abi import memory as abi
from pvhv.abi.errno import Errno
from pvhv.abi.memory import (
    XenAddToPhysmap,
    XenAddToPhysmapBatch,
    XenForeignMemoryMap,
    XenMachphysMapping,
    XenMachphysMfnList,
    XenMemoryDomain,
    XenMemoryExchange,
    XenMemoryMap,
    XenMemoryReservation,
    XenRemoveFromPhysmap,
)
from pvhv.abi.xen import DOMID_SELF, HYPERVISOR_memory_op, SharedInfo
from pvhv.core.mm.pte import NX, PRESENT, RW
from pvhv.core.mm.reservation import INVALID_M2P_ENTRY
from tests.core.guests import BASE, Machine

PAGES = 48
ROOM = 32
REQUESTS, LIST, OTHER_LIST = 5, 6, 7
NOWHERE = BASE - (1 << 30)
XENS = 0xFFFF_8000_0000_0000


class World:
    """One guest with room for more, and another."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.hv = self.machine.hv
        self.a = self.machine.guest(PAGES, room=ROOM)
        self.b = self.machine.guest(PAGES)
        self.vcpu = self.a.vcpus[0]

    def op(self, number: int, record: Any, place: int = 0) -> int:
        address = self.machine.put(self.vcpu, REQUESTS, record)
        return self.machine.call(self.vcpu, HYPERVISOR_memory_op, number | place << 6, address)

    def answer(self, kind: Any) -> Any:
        return self.machine.get(self.vcpu, kind, REQUESTS)

    def reserve(self, number: int, values: list[int], order: int = 0, flags: int = 0, domid: int = DOMID_SELF,
                where: int | None = None, count: int | None = None, place: int = 0) -> int:
        address = self.machine.put(self.vcpu, LIST, *(value.to_bytes(8, "little") for value in values))
        nr = len(values) if count is None else count
        op = XenMemoryReservation(address if where is None else where, nr, order, flags, domid)
        return self.op(number, op, place)

    def listed(self, count: int, pfn: int = LIST) -> list[int]:
        self.machine.enter(self.vcpu)
        return self.machine.cpu.memory.read_words(BASE + pfn * 4096, count).tolist()

    def spare(self, pfn: int) -> int:
        """A frame of a's that nothing refers to any more."""
        mfn = self.machine.mfn(self.a, pfn)
        self.machine.set_entry(self.a, pfn, 0)
        return mfn


@pytest.fixture
def world() -> World:
    return World()


# -- reservations ------------------------------------------------------------------------------------------------

def test_increase_gives_frames_and_tells_their_numbers(world: World) -> None:
    assert world.reserve(abi.XENMEM_increase_reservation, [0, 0, 0]) == 3
    mfns = world.listed(3)
    assert len(set(mfns)) == 3
    assert all(world.hv.frames.owner[mfn] == world.a.domid and world.hv.m2p[mfn] == INVALID_M2P_ENTRY for mfn in mfns)
    assert world.a.tot_pages == PAGES + 3
    assert world.reserve(abi.XENMEM_increase_reservation, [0], where=0) == 1  # nobody wants to know
    assert world.a.tot_pages == PAGES + 4


def test_populate_names_the_frames(world: World) -> None:
    assert world.reserve(abi.XENMEM_populate_physmap, [100, 200]) == 2
    mfns = world.listed(2)
    assert [world.hv.m2p[mfn] for mfn in mfns] == [100, 200]
    assert world.reserve(abi.XENMEM_populate_physmap, [1000], order=3) == 1
    mfn = world.listed(1)[0]
    assert [world.hv.m2p[mfn + index] for index in range(8)] == list(range(1000, 1008))
    assert world.a.tot_pages == PAGES + 10


def test_decrease_takes_them_back(world: World) -> None:
    free = world.hv.frames.free_frames
    mapped, spare = world.machine.mfn(world.a, 20), world.spare(21)
    assert world.reserve(abi.XENMEM_decrease_reservation, [spare, mapped]) == 2
    assert world.hv.frames.free_frames == free + 1  # the other is still mapped
    assert world.a.tot_pages == PAGES - 1
    world.machine.set_entry(world.a, 20, 0)
    assert world.hv.frames.free_frames == free + 2
    assert world.a.tot_pages == PAGES - 2
    assert world.reserve(abi.XENMEM_decrease_reservation, [spare]) == 0


def test_a_new_frame_has_nothing_of_its_past(world: World) -> None:
    mfn = world.machine.mfn(world.a, 20)
    world.hv.ram.frame(mfn)[:6] = b"secret"
    world.spare(20)
    assert world.reserve(abi.XENMEM_decrease_reservation, [mfn]) == 1
    assert world.reserve(abi.XENMEM_populate_physmap, [0]) == 1
    assert world.listed(1) == [mfn]  # the last one freed comes first
    assert bytes(world.hv.ram.frame(mfn)) == bytes(4096)


def test_where_each_stops(world: World) -> None:
    mine, theirs = world.spare(20), world.machine.mfn(world.b, 20)
    assert world.reserve(abi.XENMEM_decrease_reservation, [mine, theirs, mine]) == 1
    for value in (0, world.hv.m2p_l3, 1 << 40, INVALID_M2P_ENTRY):
        assert world.reserve(abi.XENMEM_decrease_reservation, [value]) == 0
    assert world.reserve(abi.XENMEM_populate_physmap, [1] * 40) == ROOM + 1  # it had given one back
    assert world.a.tot_pages == PAGES + ROOM == world.a.max_pages
    assert world.reserve(abi.XENMEM_increase_reservation, [0]) == 0


def test_memory_runs_out(world: World) -> None:
    world.a.max_pages = 1 << 20
    free = world.hv.frames.free_frames
    done = world.reserve(abi.XENMEM_increase_reservation, [], where=0, count=free // 512 + 5, order=9)
    assert 0 < done <= free // 512
    assert world.reserve(abi.XENMEM_increase_reservation, [], where=0, count=1 << 14) < 1 << 14
    assert world.hv.frames.free_frames == 0
    assert world.a.tot_pages == PAGES + free


def test_requests_that_do_nothing(world: World) -> None:
    increase, populate, decrease = (
        abi.XENMEM_increase_reservation, abi.XENMEM_populate_physmap, abi.XENMEM_decrease_reservation)
    for number in (increase, populate, decrease):
        assert world.reserve(number, [1], order=10) == 0
        assert world.reserve(number, [1], domid=world.b.domid) == 0
        assert world.reserve(number, [1], domid=9) == 0
        assert world.reserve(number, [1], where=XENS) == 0
        assert world.reserve(number, [1], count=0) == 0
        assert world.reserve(number, [1], count=1 << 26) == 0
        assert world.reserve(number, [1], place=7) == 7
        assert world.reserve(number, [1], flags=12) == 0  # below the first page
        assert world.reserve(number, [1], flags=abi.XENMEMF_exact_node(0)) == 0
        assert world.machine.call(world.vcpu, HYPERVISOR_memory_op, number | 3 << 6, NOWHERE) == 3
    assert world.reserve(populate, [1], where=NOWHERE) == world.reserve(decrease, [1], where=NOWHERE) == 0
    assert world.reserve(populate, [1], flags=abi.XENMEMF_populate_on_demand) == 0
    assert world.a.tot_pages == PAGES
    assert world.reserve(increase, [1], where=NOWHERE) == 0
    assert world.a.tot_pages == PAGES + 1  # as in Xen: the frame had come before its number could not be told
    assert world.reserve(increase, [1], flags=abi.XENMEMF_node(0)) == 1  # a wish, not a condition
    assert world.reserve(increase, [1], flags=63) == 1  # wider than memory


def test_address_bits_limit_where_frames_come_from(world: World) -> None:
    assert world.reserve(abi.XENMEM_increase_reservation, [0], flags=13) == 0
    assert world.a.tot_pages == PAGES
    assert world.reserve(abi.XENMEM_increase_reservation, [0], flags=24) == 1
    assert world.listed(1)[0] < 1 << 12


def test_a_control_domain_reserves_for_others(world: World) -> None:
    world.a.privileged = True
    world.b.max_pages += 600
    assert world.reserve(abi.XENMEM_increase_reservation, [0], domid=world.b.domid) == 1
    assert world.hv.frames.owner[world.listed(1)[0]] == world.b.domid
    assert world.reserve(abi.XENMEM_increase_reservation, [0], domid=world.b.domid, flags=abi.XENMEMF_node(64)) == 0
    assert world.reserve(abi.XENMEM_populate_physmap, [0], domid=world.b.domid,
                         flags=abi.XENMEMF_populate_on_demand) == 1
    assert world.b.tot_pages == PAGES + 1


def test_long_requests_stop_for_others_and_go_on(world: World) -> None:
    world.machine.work = 16
    assert world.reserve(abi.XENMEM_populate_physmap, list(range(24))) == 24
    assert world.machine.continued >= 4
    assert [world.hv.m2p[mfn] for mfn in world.listed(24)] == list(range(24))
    assert world.reserve(abi.XENMEM_decrease_reservation, world.listed(24)) == 24
    assert world.a.tot_pages == PAGES


# -- exchange ----------------------------------------------------------------------------------------------------

def exchange(world: World, given: list[int], order: int, names: list[int], gained_order: int, *, done: int = 0,
             flags: int = 0, domid: int = DOMID_SELF, other: int | None = None) -> int:
    machine = world.machine
    one = machine.put(world.vcpu, LIST, *(mfn.to_bytes(8, "little") for mfn in given))
    two = machine.put(world.vcpu, OTHER_LIST, *(pfn.to_bytes(8, "little") for pfn in names))
    op = XenMemoryExchange()
    for side, at, values, size, owner in ((getattr(op, "in"), one, given, order, domid),
                                          (op.out, two, names, gained_order, domid if other is None else other)):
        side.extent_start, side.nr_extents, side.extent_order, side.domid = at, len(values), size, owner
    op.out.mem_flags, op.nr_exchanged = flags, done
    return world.op(abi.XENMEM_exchange, op)


def test_exchange_singles_for_a_run_and_back(world: World) -> None:
    given = [world.spare(pfn) for pfn in range(20, 28)]
    assert exchange(world, given, 0, [500], 3) == 0
    assert world.answer(XenMemoryExchange).nr_exchanged == 8
    first = world.listed(1, OTHER_LIST)[0]
    assert [world.hv.m2p[first + index] for index in range(8)] == list(range(500, 508))
    assert world.a.tot_pages == PAGES
    assert exchange(world, [first], 3, list(range(600, 608)), 0) == 0
    singles = world.listed(8, OTHER_LIST)
    assert [world.hv.m2p[mfn] for mfn in singles] == list(range(600, 608))
    assert world.a.tot_pages == PAGES


def test_exchange_of_what_is_in_use_stops_at_its_chunk(world: World) -> None:
    given = [world.spare(20), world.spare(21), world.machine.mfn(world.a, 22)]
    assert exchange(world, given, 0, [1, 2, 3], 0) == -Errno.EINVAL
    assert world.answer(XenMemoryExchange).nr_exchanged == 2
    assert world.a.tot_pages == PAGES
    assert world.hv.frames.owner[given[2]] == world.a.domid
    spare = world.spare(23)
    assert exchange(world, [spare, spare], 0, [5], 1) == -Errno.EINVAL
    assert world.hv.frames.refs[spare] == 1


def test_what_exchange_refuses(world: World) -> None:
    mine = [world.spare(pfn) for pfn in (20, 21)]
    assert exchange(world, mine, 10, mine, 10) == -Errno.EPERM
    assert exchange(world, mine, 0, [1], 0) == -Errno.EINVAL
    assert exchange(world, mine, 0, [1], 1, done=3) == -Errno.EINVAL
    assert exchange(world, mine, 0, [1], 1, other=world.b.domid) == -Errno.EINVAL
    assert exchange(world, mine, 0, [1], 1, flags=abi.XENMEMF_exact_node(0)) == -Errno.EINVAL
    assert exchange(world, mine, 0, [1], 1, domid=9) == -Errno.ESRCH
    assert exchange(world, mine, 0, [1], 1, domid=world.b.domid) == -Errno.EPERM
    assert exchange(world, [world.machine.mfn(world.b, 20)], 0, [1], 0) == -Errno.EINVAL
    assert exchange(world, mine, 0, [1, 2], 0, done=2) == 0  # nothing left to do
    assert exchange(world, mine, 0, [1], 1, flags=13) == -Errno.ENOMEM
    assert world.a.tot_pages == PAGES
    assert all(world.hv.frames.refs[mfn] == 1 for mfn in mine)
    op = XenMemoryExchange()
    getattr(op, "in").nr_extents = op.out.nr_extents = 1
    getattr(op, "in").domid = op.out.domid = DOMID_SELF
    op.out.extent_start = XENS
    assert world.op(abi.XENMEM_exchange, op) == -Errno.EFAULT
    op.out.extent_start, getattr(op, "in").extent_start = BASE, NOWHERE
    assert world.op(abi.XENMEM_exchange, op) == -Errno.EFAULT
    assert world.op(abi.XENMEM_exchange, op, place=1) == -Errno.EINVAL
    assert world.machine.call(world.vcpu, HYPERVISOR_memory_op, abi.XENMEM_exchange, NOWHERE) == -Errno.EFAULT


def test_exchange_is_put_aside_between_chunks(world: World) -> None:
    world.machine.work = 8
    given = [world.spare(pfn) for pfn in range(20, 36)]
    assert exchange(world, given, 0, list(range(300, 308)), 1) == 0
    assert world.machine.continued > 2
    assert [world.hv.m2p[mfn] for mfn in world.listed(8, OTHER_LIST)] == list(range(300, 308))
    assert world.a.tot_pages == PAGES


def test_exchange_that_cannot_tell_has_happened(world: World) -> None:
    """As in Xen, the frames are exchanged before their numbers are written."""
    given = world.spare(20)
    op = XenMemoryExchange()
    one, two = getattr(op, "in"), op.out
    one.extent_start = world.machine.put(world.vcpu, LIST, given.to_bytes(8, "little"))
    two.extent_start = NOWHERE
    one.nr_extents = two.nr_extents = 1
    one.domid = two.domid = DOMID_SELF
    assert world.op(abi.XENMEM_exchange, op) == -Errno.EFAULT
    assert world.answer(XenMemoryExchange).nr_exchanged == 0
    assert world.a.tot_pages == PAGES


# -- how much, and maps --------------------------------------------------------------------------------------------

def test_numbers(world: World) -> None:
    assert world.machine.call(world.vcpu, HYPERVISOR_memory_op, abi.XENMEM_maximum_ram_page, 0) == world.hv.ram.frames
    info: Any = SharedInfo.from_buffer(world.hv.ram.bytes, world.a.shared_info * 4096)
    assert world.op(abi.XENMEM_maximum_gpfn, XenMemoryDomain(DOMID_SELF)) == 0
    info.arch.max_pfn = 500
    numbers = {
        abi.XENMEM_current_reservation: PAGES,
        abi.XENMEM_maximum_reservation: PAGES + ROOM,
        abi.XENMEM_maximum_gpfn: 499,
    }
    for number, value in numbers.items():
        assert world.op(number, XenMemoryDomain(DOMID_SELF)) == value
        assert world.op(number, XenMemoryDomain(world.a.domid)) == value
        assert world.op(number, XenMemoryDomain(world.b.domid)) == -Errno.EPERM
        assert world.op(number, XenMemoryDomain(9)) == -Errno.ESRCH
        assert world.op(number, XenMemoryDomain(DOMID_SELF), place=1) == -Errno.EINVAL
        assert world.machine.call(world.vcpu, HYPERVISOR_memory_op, number, NOWHERE) == -Errno.EFAULT
    assert world.op(abi.XENMEM_maximum_ram_page, b"", place=1) == -Errno.EINVAL


def test_the_memory_map_is_what_was_set(world: World) -> None:
    buffer = BASE + LIST * 4096
    assert world.op(abi.XENMEM_memory_map, XenMemoryMap(1, buffer)) == -Errno.ENOSYS
    entries = abi.E820_ENTRY.pack(0, 0x100000, abi.E820_RAM) + abi.E820_ENTRY.pack(0x100000, 0x1000, abi.E820_RESERVED)
    world.machine.put(world.vcpu, LIST, entries)
    op = XenForeignMemoryMap(DOMID_SELF, XenMemoryMap(2, buffer))
    assert world.op(abi.XENMEM_set_memory_map, op) == 0
    world.machine.put(world.vcpu, OTHER_LIST, bytes(64))
    assert world.op(abi.XENMEM_memory_map, XenMemoryMap(10, BASE + OTHER_LIST * 4096)) == 0
    assert world.answer(XenMemoryMap).nr_entries == 2
    assert world.machine.cpu.memory.read(BASE + OTHER_LIST * 4096, 40) == entries
    assert world.op(abi.XENMEM_memory_map, XenMemoryMap(1, BASE + OTHER_LIST * 4096)) == 0
    assert world.answer(XenMemoryMap).nr_entries == 1
    assert world.op(abi.XENMEM_memory_map, XenMemoryMap(1, NOWHERE)) == -Errno.EFAULT
    assert world.op(abi.XENMEM_memory_map, XenMemoryMap(1, buffer), place=1) == -Errno.ENOSYS
    for domid, answer in ((world.b.domid, Errno.EPERM), (9, Errno.ESRCH)):
        assert world.op(abi.XENMEM_set_memory_map, XenForeignMemoryMap(domid, op.map)) == -answer
    many = XenForeignMemoryMap(DOMID_SELF, XenMemoryMap(129, buffer))
    assert world.op(abi.XENMEM_set_memory_map, many) == -Errno.EINVAL
    lost = XenForeignMemoryMap(DOMID_SELF, XenMemoryMap(1, NOWHERE))
    assert world.op(abi.XENMEM_set_memory_map, lost) == -Errno.EFAULT


def test_the_m2p_is_where_the_call_says(world: World) -> None:
    assert world.op(abi.XENMEM_machphys_mapping, b"") == 0
    mapping = world.answer(XenMachphysMapping)
    assert (mapping.v_start, mapping.v_end, mapping.max_mfn) == (XENS, XENS + (256 << 30), (256 << 30) // 8 - 1)
    assert world.machine.call(world.vcpu, HYPERVISOR_memory_op, abi.XENMEM_machphys_mapping, NOWHERE) == -Errno.EFAULT
    assert world.op(abi.XENMEM_machphys_mfn_list, XenMachphysMfnList(8, BASE + LIST * 4096)) == 0
    assert world.answer(XenMachphysMfnList).nr_extents == 1  # 8192 frames: 64 KiB of table
    (mfn,) = world.listed(1)
    theirs = world.machine.mfn(world.a, 20)
    assert world.hv.ram.words[mfn * 512 + theirs] == 20
    assert world.op(abi.XENMEM_machphys_mfn_list, XenMachphysMfnList(0, NOWHERE)) == 0
    assert world.op(abi.XENMEM_machphys_mfn_list, XenMachphysMfnList(1, NOWHERE)) == -Errno.EFAULT


def test_what_a_pv_guest_is_refused(world: World) -> None:
    for number, kind in ((abi.XENMEM_add_to_physmap, XenAddToPhysmap),
                         (abi.XENMEM_add_to_physmap_batch, XenAddToPhysmapBatch),
                         (abi.XENMEM_remove_from_physmap, XenRemoveFromPhysmap)):
        assert world.op(number, kind(domid=DOMID_SELF)) == -Errno.EACCES
        assert world.op(number, kind(domid=world.b.domid)) == -Errno.EACCES
        assert world.op(number, kind(domid=9)) == -Errno.ESRCH
        assert world.machine.call(world.vcpu, HYPERVISOR_memory_op, number, NOWHERE) == -Errno.EFAULT
    foreign = XenAddToPhysmap(domid=DOMID_SELF, space=abi.XENMAPSPACE_gmfn_foreign)
    assert world.op(abi.XENMEM_add_to_physmap, foreign) == -Errno.ENOSYS
    ranged = XenAddToPhysmapBatch(domid=DOMID_SELF, space=abi.XENMAPSPACE_gmfn_range)
    assert world.op(abi.XENMEM_add_to_physmap_batch, ranged) == -Errno.EOPNOTSUPP
    for number in (abi.XENMEM_add_to_physmap, abi.XENMEM_add_to_physmap_batch):
        assert world.op(number, foreign, place=1 << 16) == -Errno.EDOM
    assert world.op(abi.XENMEM_remove_from_physmap, b"", place=1) == -Errno.EINVAL
    for number in (8, 29, 63):
        assert world.op(number, b"") == -Errno.ENOSYS
    for command in abi.XENMEM:
        if command.answer is not None:
            assert world.op(command.number, b"") == -command.answer


# -- conservation ------------------------------------------------------------------------------------------------

def test_all_comes_back() -> None:
    world = World()
    before = world.hv.frames.free_frames
    guest = world.a = world.machine.guest(PAGES, room=ROOM)
    world.vcpu = guest.vcpus[0]
    assert world.reserve(abi.XENMEM_populate_physmap, [1, 2, 3]) == 3
    mfns = world.listed(3)
    world.machine.set_entry(guest, 20, mfns[0] << 12 | PRESENT | RW | NX)
    assert world.reserve(abi.XENMEM_decrease_reservation, mfns[:2]) == 2  # one of them mapped
    world.machine.destroy(guest)
    assert guest.tot_pages == 0
    assert world.hv.frames.free_frames == before
    assert world.hv.frames.owned_by(guest.domid) == []
