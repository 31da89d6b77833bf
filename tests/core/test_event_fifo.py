# SPDX-License-Identifier: GPL-2.0-or-later
"""The FIFO ABI: queues of ports in pages of the guest's, how a domain changes over to it, and back."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from pvhv.abi.errno import Errno
from pvhv.abi.event_channel import (
    EVTCHN_FIFO_NR_CHANNELS,
    EvtchnFifoControlBlock,
    EvtchnInitControl,
    EVTCHNOP_reset,
    EVTCHNOP_reset_cont,
    EVTCHNOP_send,
    EVTCHNOP_set_priority,
    EVTCHNOP_unmask,
)
from pvhv.abi.vcpu import VCPUOP_register_vcpu_info, VcpuRegisterVcpuInfo
from pvhv.abi.xen import DOMID_SELF, VIRQ_TIMER, HYPERVISOR_event_channel_op, HYPERVISOR_vcpu_op
from pvhv.core.domain import Domain
from pvhv.core.events.two_level import TwoLevel
from pvhv.core.events.virq import send_virq
from pvhv.core.mm.frames import TYPE_MASK, WRITABLE
from tests.core.accounting import problems
from tests.core.fifo import ARRAY, BLOCK_OFFSET, BUSY, LINK, LINKED, MASKED, PENDING, REQUEST, FifoGuest
from tests.core.guests import TABLES, Machine, asleep
from tests.core.test_events import errno_of

DEFAULT = 7


class World:
    """`a` has the FIFO ABI and two vCPUs; `b` signals it."""

    def __init__(self, begin: bool = True, pages: int = 48) -> None:
        self.machine = Machine(4096)
        self.hv = self.machine.hv
        self.a = self.machine.guest(pages, vcpus=2)
        self.b = self.machine.guest(48)
        self.free = self.hv.frames.free_frames
        self.queues = FifoGuest(self.machine, self.a)
        if begin:
            self.queues.begin()

    def port(self, vcpu_id: int = 0, priority: int | None = None) -> int:
        """One of a's ports, which b can signal."""
        port = self.a.events.alloc_unbound(self.b.domid)
        bound = self.b.events.bind_interdomain(self.a.events, port)
        assert bound == port, "they are numbered alike, so that one number will do"
        if vcpu_id:
            self.a.events.bind_vcpu(port, vcpu_id)
        if priority is not None:
            self.a.events.set_priority(port, priority)
        return port

    def ports(self, count: int, **how: Any) -> list[int]:
        return [self.port(**how) for _ in range(count)]

    def signal(self, *ports: int) -> None:
        for port in ports:
            self.b.events.send(port)

    def call(self, command: int, *fields: int) -> int:
        """An event_channel_op of a's over 32-bit fields."""
        vcpu = self.a.vcpus[0]
        address = self.machine.put(vcpu, REQUEST, struct.pack(f"<{len(fields)}I", *fields))
        return self.machine.call(vcpu, HYPERVISOR_event_channel_op, command, address)


@pytest.fixture
def world() -> World:
    return World()


# -- changing over -------------------------------------------------------------------------------------------

def test_the_first_control_block_changes_over(world: World) -> None:
    machine = Machine(4096)
    domain = machine.guest(48, vcpus=2)
    queues = FifoGuest(machine, domain)
    assert queues.expand() == -Errno.EOPNOTSUPP
    assert isinstance(domain.events.ops, TwoLevel)
    assert queues.init_control(1) == 0
    op = machine.get(domain.vcpus[0], EvtchnInitControl, REQUEST)
    assert op.link_bits == 17
    assert domain.events.fifo is not None and domain.events.max_port == EVTCHN_FIFO_NR_CHANNELS - 1
    assert queues.expand() == 0
    assert not problems(machine.hv)


def test_what_init_control_refuses_in_this_order(world: World) -> None:
    queues = FifoGuest(world.machine, world.b)
    table, foreign = 3, world.machine.mfn(world.a, 20)
    assert queues.init_control(1, pfn=20, offset=4096) == -Errno.ENOENT
    for offset in (4095, 4032, 4025, 65, 1 << 31):
        assert queues.init_control(0, pfn=20, offset=offset) == -Errno.EINVAL, offset
    assert queues.init_control(0, pfn=table) == -Errno.EINVAL
    for mfn in (foreign, world.hv.m2p_l3, world.hv.frames.count, 0, 1 << 40, (1 << 64) - 1):
        assert queues.op(11, EvtchnInitControl(mfn, 0, 0)) == -Errno.EINVAL, hex(mfn)
    assert world.b.events.fifo is None, "nothing was changed over"
    assert not problems(world.hv)
    assert queues.init_control(0, pfn=20, offset=4096 - 72) == 0
    assert queues.init_control(0, pfn=21) == -Errno.EINVAL, "it has one"
    assert not problems(world.hv)


def test_what_expand_array_refuses(world: World) -> None:
    queues = world.queues
    for pfn in range(TABLES):
        assert queues.expand(pfn=pfn) == -Errno.EINVAL
    for mfn in (world.machine.mfn(world.b, 20), 0, world.hv.frames.count, (1 << 64) - 1):
        assert queues.op(12, mfn.to_bytes(8, "little")) == -Errno.EINVAL
    assert not problems(world.hv)


def test_the_array_has_128_pages_of_any_kind(world: World) -> None:
    """The same page may be given twice, and so may one of the hypervisor's that the guest may map."""
    queues = world.queues
    assert queues.op(12, world.a.shared_info.to_bytes(8, "little")) == 0
    for _ in range(126):
        assert queues.expand(pfn=20) == 0
    assert queues.expand(pfn=20) == -Errno.ENOSPC
    assert not problems(world.hv)
    world.machine.destroy(world.a)
    assert not problems(world.hv)


def test_a_page_in_use_stays_memory(world: World) -> None:
    frames, mfn = world.hv.frames, world.machine.mfn(world.a, ARRAY)
    assert frames.types[mfn] & TYPE_MASK == WRITABLE
    uses = frames.type_counts[mfn]
    world.machine.set_entry(world.a, ARRAY, 0)
    assert frames.type_counts[mfn] == uses - 1 > 0
    world.signal(port := world.port())
    assert world.queues.word(port) & PENDING


def test_a_signal_before_the_change_is_told_with_its_page(world: World) -> None:
    world = World(begin=False)
    one, other = world.ports(2)
    world.signal(one)
    world.a.events.set_pending(world.a.events.channel(other))
    assert world.queues.init_control(0) == 0
    assert not world.a.events.is_pending(one), "as long as its word is not there"
    assert world.a.events.ops.is_masked(world.a.events.channel(one))
    assert world.queues.expand() == 0
    assert world.queues.take(0) == [one, other]
    assert world.a.events.channel(one).priority == DEFAULT


def test_a_signal_before_the_change_waits_where_its_word_is_masked() -> None:
    world = World(begin=False)
    port = world.port()
    world.signal(port)
    assert world.queues.init_control(0) == 0
    assert world.queues.expand(masked=True) == 0
    assert world.queues.take(0) == []
    assert world.queues.word(port) == PENDING | MASKED
    assert world.call(EVTCHNOP_unmask, port) == 0
    assert world.queues.take(0) == [port]


def test_a_signal_to_a_port_without_a_word_waits_for_it(world: World) -> None:
    ports = world.ports(1030)
    world.signal(ports[-1], ports[0])
    assert world.queues.take(0) == [ports[0]]
    world.a.events.unmask(ports[-1])  # nothing to clear yet
    world.a.events.close(ports[-2])
    assert world.queues.expand() == 0
    assert world.queues.take(0) == [ports[-1]]


def test_a_signal_to_a_vcpu_without_a_control_block_is_lost() -> None:
    world = World(begin=False)
    assert world.queues.init_control(0) == 0
    assert world.queues.expand() == 0
    port = world.port(vcpu_id=1)
    world.signal(port)
    assert world.queues.word(port) == 0
    assert world.queues.init_control(1) == 0
    world.signal(port)
    assert world.queues.take(1) == [port]


# -- queues --------------------------------------------------------------------------------------------------

def test_events_come_in_the_order_they_were_sent(world: World) -> None:
    ports = world.ports(5)
    order = [ports[index] for index in (3, 0, 4, 1, 2)]
    world.signal(*order)
    world.signal(*order)  # again: pending already
    assert world.queues.head(0, DEFAULT) == order[0]
    assert [world.queues.word(port) & LINK for port in order] == [*order[1:], 0]
    assert world.queues.ready(0) == 1 << DEFAULT
    assert world.queues.take(0) == order
    assert world.queues.take(0) == []
    world.signal(*ports)
    assert world.queues.take(0) == ports


def test_the_highest_priority_comes_first(world: World) -> None:
    ports = [world.port(priority=priority) for priority in (15, 7, 0, 8, 0)]
    world.signal(*ports)
    assert world.queues.ready(0) == 1 << 15 | 1 << 7 | 1 << 0 | 1 << 8
    assert world.queues.take(0) == [ports[2], ports[4], ports[1], ports[3], ports[0]]


def test_an_upcall_is_told_once_and_wakes(world: World) -> None:
    woken = asleep(world.a)
    one, other = world.ports(2, vcpu_id=1)
    world.signal(one)
    assert woken() == [world.a.vcpus[1]]
    woken = asleep(world.a)
    world.signal(other)  # behind the first: told already
    assert woken() == []
    assert world.queues.take(0) == []
    assert world.queues.take(1) == [one, other]


def test_the_upcall_is_told_where_the_vcpus_info_is(world: World) -> None:
    one, other = world.ports(2)
    world.signal(one)
    assert world.queues.take(0) == [one]
    vcpu, before = world.a.vcpus[0], world.a.vcpus[0].vcpu_info
    where = VcpuRegisterVcpuInfo(world.machine.mfn(world.a, 30), 128)
    address = world.machine.put(vcpu, REQUEST, where)
    assert world.machine.call(vcpu, HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, 0, address) == 0
    assert world.queues.upcall(0), "one may have got lost on the way"
    world.signal(other)
    assert vcpu.vcpu_info != before and world.machine.ram.bytes[before] == 0
    assert world.machine.ram.bytes[(world.machine.mfn(world.a, 30) << 12) + 128] == 1
    assert world.queues.take(0) == [other]
    assert not problems(world.hv)


def test_a_masked_port_is_pending_and_on_no_queue(world: World) -> None:
    port = world.port()
    world.queues.mask(port)
    world.signal(port)
    assert world.queues.word(port) == PENDING | MASKED
    assert not world.queues.upcall(0)
    assert world.a.events.is_pending(port) and world.a.events.ops.is_masked(world.a.events.channel(port))
    assert world.call(EVTCHNOP_unmask, port) == 0
    assert world.queues.take(0) == [port]
    assert world.call(EVTCHNOP_unmask, port) == 0
    assert world.queues.take(0) == []


def test_a_port_masked_while_it_is_queued_stays_there(world: World) -> None:
    port, other = world.ports(2)
    world.signal(port)
    world.queues.mask(port)
    world.signal(other)
    assert world.queues.take(0) == [other]
    assert world.queues.word(port) == PENDING | MASKED
    world.a.events.unmask(port)
    assert world.queues.take(0) == [port]


def test_a_port_that_moves_leaves_its_queue_when_it_is_taken(world: World) -> None:
    port, behind = world.ports(2)
    world.signal(port)
    world.a.events.bind_vcpu(port, 1)
    world.a.events.set_priority(port, 3)
    world.signal(port, behind)
    assert world.queues.take(1) == []
    assert world.queues.take(0) == [port, behind]
    world.signal(port)
    assert world.queues.ready(1) == 1 << 3
    assert world.queues.take(1) == [port]


def test_a_tail_that_went_elsewhere_is_no_tail_any_more(world: World) -> None:
    """Else the next event of the old queue would be linked behind it, into the new one."""
    port, other = world.ports(2)
    world.signal(port)
    assert world.queues.take(0) == [port]
    world.a.events.bind_vcpu(port, 1)
    world.signal(port)
    world.signal(other)
    assert world.queues.word(port) & LINK == 0
    assert world.queues.take(1) == [port]
    assert world.queues.take(0) == [other]


def test_a_link_takes_busy_away(world: World) -> None:
    one, other = world.ports(2)
    world.signal(one)
    world.queues.set(one, world.queues.word(one) | BUSY)
    world.signal(other)
    assert world.queues.word(one) == PENDING | LINKED | other


def test_the_word_of_port_0_is_nobodys_tail(world: World) -> None:
    world.queues.set(0, LINKED)
    world.signal(port := world.port())
    assert world.queues.head(0, DEFAULT) == port
    assert world.queues.word(0) == LINKED


def test_pollers_are_woken(world: World) -> None:
    port, other = world.ports(2)
    world.queues.mask(port)
    asleep(world.a)
    poller = world.a.vcpus[1]
    poller.blocked = False
    world.hv.activity.poll(poller, (port,), 0)
    world.signal(other)
    assert poller.polling
    world.signal(port)
    assert not poller.polling
    world.hv.activity.poll(poller, (port,), 0)
    world.signal(port)  # pending already
    assert poller.polling
    world.queues.set(port, PENDING)  # the guest unmasked it itself: it goes on its queue, but is nothing new
    world.signal(port)
    assert world.queues.word(port) == PENDING | LINKED
    assert poller.polling


def test_ipis_and_virqs_are_queued_like_others(world: World) -> None:
    ipi = world.a.events.bind_ipi(1)
    timer = world.a.events.bind_virq(VIRQ_TIMER, 1)
    assert world.call(EVTCHNOP_send, ipi) == 0
    send_virq(world.a.vcpus[1], VIRQ_TIMER)
    assert world.queues.take(1) == [ipi, timer]


def test_closing_forgets_the_signal_but_not_the_link(world: World) -> None:
    one, two, three = world.ports(3)
    world.signal(one, two, three)
    world.a.events.close(two)
    assert world.queues.word(two) == LINKED | three
    assert world.a.events.alloc_unbound(2) == three + 1, "it is still on a queue"
    assert world.queues.take(0) == [one, three]
    assert world.a.events.alloc_unbound(2) == two


def test_ports_whose_words_say_linked_are_passed_over_quickly(world: World) -> None:
    world.a.events.limit(4000)
    world.ports(3000)
    for pfn in (ARRAY + 1, ARRAY + 2):
        assert world.queues.expand(pfn=pfn) == 0
    for port in range(1, 3000):
        world.a.events.close(port)
        world.queues.set(port, LINKED)
    for port in (2500, 1500, 1024, 2047):
        world.queues.set(port, PENDING | MASKED | BUSY | LINK)
        assert world.a.events.alloc_unbound(2) == port
    assert world.a.events.alloc_unbound(2) == 3001


def test_priorities_are_for_open_ports_of_this_abi(world: World) -> None:
    port = world.port()
    assert world.call(EVTCHNOP_set_priority, port, 15) == 0
    assert world.call(EVTCHNOP_set_priority, port, 16) == -Errno.EINVAL
    assert world.call(EVTCHNOP_set_priority, 63, 16) == -Errno.EACCES
    assert world.call(EVTCHNOP_set_priority, 0, 0) == -Errno.EACCES
    assert world.call(EVTCHNOP_set_priority, 64, 0) == -Errno.EINVAL
    assert errno_of(world.b.events.set_priority, port, 16) == Errno.ENOSYS
    assert errno_of(world.b.events.set_priority, 63, 0) == Errno.ENOSYS
    assert errno_of(world.b.events.set_priority, 64, 0) == Errno.EINVAL
    world.a.events.close(port)
    world.a.events.alloc_unbound(2)
    assert world.a.events.channel(port).priority == DEFAULT, "bound anew, it begins anew"


def test_there_are_131071_ports(world: World) -> None:
    events = world.a.events
    for _ in range(EVTCHN_FIFO_NR_CHANNELS - 1):
        port = events.bind_ipi(0)
    assert port == EVTCHN_FIFO_NR_CHANNELS - 1
    assert errno_of(events.bind_ipi, 0) == Errno.ENOSPC
    for _ in range(127):
        assert world.queues.expand(pfn=20) == 0
    assert world.queues.expand(pfn=20) == -Errno.ENOSPC
    assert world.call(EVTCHNOP_send, port) == 0
    assert world.queues.take(0) == [port]
    steps = sum(1 for _ in self_destruct(world.a))
    assert steps > 20, "it is not done in one go"
    assert events.active == 0 and events.fifo is None


def self_destruct(domain: Domain) -> Any:
    """The steps of closing all its ports, each with a share of work."""
    scheduler = domain.hypervisor.scheduler
    domain.dying = True
    undivided = scheduler.share
    steps = domain.events.destroy()
    try:
        while True:
            scheduler.share = type(undivided)(4096)
            try:
                next(steps)
            except StopIteration:
                return
            yield
    finally:
        scheduler.share = undivided


# -- and back ------------------------------------------------------------------------------------------------

def test_a_reset_goes_back_to_bits_and_gives_the_pages_back(world: World) -> None:
    world.signal(*world.ports(3))
    frames, mfn = world.hv.frames, world.machine.mfn(world.a, ARRAY)
    held = frames.refs[mfn]
    assert world.call(EVTCHNOP_reset, DOMID_SELF) == 0
    assert frames.refs[mfn] == held - 1
    assert world.a.events.fifo is None and world.a.events.active == 0
    assert not problems(world.hv)
    world.b.events.reset()
    port = world.port()
    world.signal(port)
    assert world.a.events.two_level.all_pending() == [port]
    assert world.call(EVTCHNOP_set_priority, port, 3) == -Errno.ENOSYS
    # ... and to queues again, with what is pending.
    world.queues = FifoGuest(world.machine, world.a)
    world.queues.begin()
    assert world.queues.take(0) == [port]


def test_a_long_reset_is_put_aside_and_others_have_to_wait(world: World) -> None:
    for _ in range(700):
        world.a.events.bind_ipi(0)
    world.machine.work = 300
    assert world.call(EVTCHNOP_reset_cont, DOMID_SELF) == -Errno.EBUSY
    assert world.call(EVTCHNOP_reset, DOMID_SELF) == 0
    assert world.machine.continued >= 4
    assert world.a.events.active == 0 and world.a.events.fifo is None
    assert not problems(world.hv)


def test_what_another_vcpu_does_during_a_reset(world: World) -> None:
    events = world.a.events
    for _ in range(700):
        events.bind_ipi(0)
    scheduler = world.hv.scheduler
    undivided, scheduler.share = scheduler.share, type(scheduler.share)(1)
    assert events.reset() is False
    assert errno_of(events.reset) == Errno.EBUSY
    assert events.bind_ipi(1) == 1, "the first was closed already"
    scheduler.share = undivided
    assert errno_of(events.reset, True) == Errno.EAGAIN
    assert events.active == 1 and events.fifo is not None
    assert errno_of(events.reset, True) == Errno.EBUSY
    assert events.reset() is True
    assert events.fifo is None


def test_a_domain_that_dies_during_a_reset_is_closed_from_the_start(world: World) -> None:
    events = world.a.events
    for _ in range(700):
        events.bind_ipi(0)
    scheduler = world.hv.scheduler
    undivided, scheduler.share = scheduler.share, type(scheduler.share)(1)
    assert events.reset() is False
    assert events.bind_ipi(1) == 1
    scheduler.share = undivided
    world.machine.destroy(world.a)
    assert events.active == 0
    assert not problems(world.hv)


def test_destruction_gives_every_page_back(world: World) -> None:
    world.signal(*world.ports(5))
    assert not problems(world.hv)
    world.machine.destroy(world.a)
    world.machine.destroy(world.b)
    assert not problems(world.hv)
    assert set(world.hv.domains) == {0}


# -- nonsense ------------------------------------------------------------------------------------------------

def test_one_page_for_everything_is_the_guests_own_loss(world: World) -> None:
    """Control blocks and all words in the very same page: what is written goes where it goes, and nothing else does."""
    world = World(begin=False)
    queues = world.queues
    for vcpu_id in (0, 1):
        assert queues.init_control(vcpu_id, pfn=20, offset=BLOCK_OFFSET) == 0
    for _ in range(8):
        assert queues.expand(pfn=20) == 0
    ports = world.ports(2000)
    mfn = world.machine.mfn(world.a, 20)
    written = {mfn, world.a.shared_info, *(vcpu.vcpu_info >> 12 for vcpu in world.a.vcpus)}
    others = [each for each in range(world.machine.ram.frames) if each not in written]
    before = [bytes(world.machine.ram.frame(each)) for each in others]
    rng = random.Random(1)
    for _ in range(3000):
        world.signal(rng.choice(ports))
        if rng.random() < 0.1:
            world.a.events.unmask(rng.choice(ports))
        if rng.random() < 0.2:
            queues.words[(mfn << 10) + rng.randrange(1024)] = rng.getrandbits(32)
    assert [bytes(world.machine.ram.frame(each)) for each in others] == before
    assert not problems(world.hv)
    assert not world.hv.bugs


def test_no_signal_is_lost_whatever_the_order() -> None:
    """Sends, masks, moves, priorities, closes and half-taken upcalls at random: each signal is told of, and none
    twice."""
    for seed in range(6):
        play(World(), random.Random(seed))


def play(world: World, rng: random.Random) -> None:
    queues, events = world.queues, world.a.events
    ports = world.ports(40)
    due: set[int] = set()

    def taken(vcpu_id: int, most: int = 1 << 20) -> None:
        told = queues.take(vcpu_id, most)
        assert set(told) <= due, "told of what nobody signalled"
        assert len(set(told)) == len(told)
        due.difference_update(told)

    for _ in range(4000):
        port = rng.choice(ports)
        what = rng.randrange(100)
        if what < 50:
            world.signal(port)
            due.add(port)
        elif what < 60:
            queues.mask(port)
        elif what < 70:
            events.unmask(port)
        elif what < 75:
            events.bind_vcpu(port, rng.randrange(2))
        elif what < 80:
            events.set_priority(port, rng.randrange(16))
        elif what < 82:
            world.b.events.close(port)
            assert world.b.events.bind_interdomain(world.a.events, port) == port
        elif what < 84:
            queues.set(port, queues.word(port) & ~PENDING)  # the guest looks for itself
            due.discard(port)
        else:
            taken(rng.randrange(2), rng.choice((1, 2, 1000)))
    for port in ports:
        events.unmask(port)
    for _ in range(3):
        for vcpu_id in (0, 1):
            taken(vcpu_id)
    assert not due, f"never told of: {due}"
    assert not problems(world.hv)


def test_the_control_block_is_72_bytes() -> None:
    assert len(bytes(EvtchnFifoControlBlock())) == 72
