# SPDX-License-Identifier: GPL-2.0-or-later
"""A call that does much is charged for it, even where it cannot be put aside itself.

A multicall makes thousands of calls in a turn, unless each says what it cost; a batch of one item is put aside by
nobody but the list it stands in.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pvhv.abi import grant_table as gnttab
from pvhv.abi import memory, xen
from pvhv.abi.event_channel import (
    EvtchnInitControl,
    EVTCHNOP_expand_array,
    EVTCHNOP_init_control,
    EVTCHNOP_reset,
    EvtchnReset,
)
from pvhv.abi.xen import DOMID_SELF
from pvhv.core.sched.timeline import SLICE_NS, Turn
from pvhv.machine.cpustate import RAX, RIP
from tests.core.guests import ARGUMENTS, BASE, ENTRY, Machine, write_entry

MUCH = 1 << 30


class World:
    def __init__(self) -> None:
        self.machine = Machine(16384)
        self.a = self.machine.guest(48, room=2048)
        self.b = self.machine.guest(48)
        self.vcpu = self.a.vcpus[0]

    def charged(self, number: int, *arguments: int) -> int:
        """What one entry into the hypervisor with these arguments is charged; it must go well."""
        machine, vcpu = self.machine, self.vcpu
        machine.enter(vcpu)
        state = machine.cpu.state
        state[RAX], state[RIP] = number, ENTRY
        for register, value in zip(ARGUMENTS, arguments, strict=False):
            state[register] = value
        scheduler = machine.hv.scheduler
        unlimited = scheduler.share
        turn = scheduler.current_turn = scheduler.share = Turn(vcpu, 0, SLICE_NS, MUCH)
        try:
            machine.cpu.pcpu.on_syscall()
        finally:
            scheduler.current_turn, scheduler.share = None, unlimited
        assert state[RIP] == ENTRY and not state[RAX] >> 63, hex(state[RAX])
        return int(MUCH - turn.work_left)


@pytest.fixture
def world() -> World:
    return World()


def test_an_exchange_of_512_frames(world: World) -> None:
    world.a.max_pages += 512
    first = world.machine.hv.frames.allocate_run(world.a.domid, 512)
    world.a.tot_pages += 512
    op: Any = memory.XenMemoryExchange()
    for side, page, value in ((getattr(op, "in"), 6, first), (op.out, 7, 0)):
        side.extent_start = world.machine.put(world.vcpu, page, value.to_bytes(8, "little"))
        side.nr_extents, side.extent_order, side.domid = 1, 9, DOMID_SELF
    address = world.machine.put(world.vcpu, 5, op)
    assert world.charged(xen.HYPERVISOR_memory_op, memory.XENMEM_exchange, address) >= 512


def test_one_extent_of_512_frames(world: World) -> None:
    op = memory.XenMemoryReservation(0, 1, 9, 0, DOMID_SELF)
    address = world.machine.put(world.vcpu, 5, op)
    assert world.charged(xen.HYPERVISOR_memory_op, memory.XENMEM_increase_reservation, address) >= 512


def test_a_single_grant_item(world: World) -> None:
    write_entry(world.b.grants, 8, 1, world.a.domid, world.machine.mfn(world.b, 20))
    requests = {
        gnttab.GNTTABOP_map_grant_ref: gnttab.GnttabMapGrantRef(0, 5, 8, world.b.domid),
        gnttab.GNTTABOP_unmap_grant_ref: gnttab.GnttabUnmapGrantRef(),
        gnttab.GNTTABOP_copy: gnttab.GnttabCopy(),
        gnttab.GNTTABOP_transfer: gnttab.GnttabTransfer(),
        gnttab.GNTTABOP_swap_grant_ref: gnttab.GnttabSwapGrantRef(),
    }
    for number, request in requests.items():
        address = world.machine.put(world.vcpu, 5, request)
        assert world.charged(xen.HYPERVISOR_grant_table_op, number, address, 1) > 0, number


def test_a_long_list_of_frames_and_a_search_through_grants(world: World) -> None:
    op = gnttab.GnttabSetupTable(DOMID_SELF, 64, 0, BASE + 6 * 4096)
    address = world.machine.put(world.vcpu, 5, op)
    assert world.charged(xen.HYPERVISOR_grant_table_op, gnttab.GNTTABOP_setup_table, address, 1) >= 64
    world.b.grants.setup(2)
    mfn = world.machine.mfn(world.b, 20)
    for ref in range(800):
        write_entry(world.b.grants, ref, 1, world.a.domid, mfn)
        world.b.grants.pin(ref, world.a.domid, 1 << 8, readonly=True)
    flush = gnttab.GnttabCacheFlush(length=64, op=1)
    flush.a.dev_bus_addr = mfn << 12
    address = world.machine.put(world.vcpu, 5, flush)
    assert world.charged(xen.HYPERVISOR_grant_table_op, gnttab.GNTTABOP_cache_flush, address, 1) >= 100


def test_closing_all_ports(world: World) -> None:
    for _ in range(4000):
        world.a.events.alloc_unbound(world.b.domid)
    address = world.machine.put(world.vcpu, 5, EvtchnReset(DOMID_SELF))
    assert world.charged(xen.HYPERVISOR_event_channel_op, EVTCHNOP_reset, address) >= 4000
    assert world.a.events.in_use() == []


def test_changing_over_and_back(world: World) -> None:
    op = EvtchnInitControl(world.machine.mfn(world.a, 20), 0, 0)
    address = world.machine.put(world.vcpu, 5, op)
    assert world.charged(xen.HYPERVISOR_event_channel_op, EVTCHNOP_init_control, address) >= 500
    address = world.machine.put(world.vcpu, 5, world.machine.mfn(world.a, 21).to_bytes(8, "little"))
    assert world.charged(xen.HYPERVISOR_event_channel_op, EVTCHNOP_expand_array, address) >= 500
    world.a.grants.setup(64)
    for version in (2, 1):
        address = world.machine.put(world.vcpu, 5, gnttab.GnttabSetVersion(version))
        assert world.charged(xen.HYPERVISOR_grant_table_op, gnttab.GNTTABOP_set_version, address, 1) >= 128


def test_looking_for_a_port_that_is_on_no_queue(world: World) -> None:
    events, machine = world.a.events, world.machine
    events.init_control(0, machine.mfn(world.a, 20), 0)
    for _ in range(20):
        events.expand_array(machine.mfn(world.a, 21))
    for _ in range(20 * 1024):
        events.alloc_unbound(world.b.domid)
    for port in range(1, 20 * 1024):
        events.close(port)
    machine.ram.frame(machine.mfn(world.a, 21))[:] = b"\xff" * 4096
    address = machine.put(world.vcpu, 5, struct.pack("<HHL", DOMID_SELF, world.b.domid, 0))
    assert world.charged(xen.HYPERVISOR_event_channel_op, 6, address) >= 200
    assert [channel.port for channel in events.in_use()] == [20 * 1024, 20 * 1024 + 1]


def test_asking_for_a_port_where_there_is_none_is_no_search(world: World) -> None:
    events = world.a.events
    for _ in range(4095):
        events.alloc_unbound(world.b.domid)
    looked_at: list[int] = []

    class Watched(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            looked_at.append(index)
            return super().__getitem__(index)

    events.channels = Watched(events.channels)
    address = world.machine.put(world.vcpu, 5, struct.pack("<HHL", DOMID_SELF, world.b.domid, 0))
    assert world.machine.call(world.vcpu, xen.HYPERVISOR_event_channel_op, 6, address) == -28
    assert len(looked_at) < 4
