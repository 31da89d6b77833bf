# SPDX-License-Identifier: GPL-2.0-or-later
"""Event channels: what each operation does to the table, the words the guest sees, and the other end."""

from __future__ import annotations

from typing import Any

import pytest

import pvhv.core.calls.event_channel  # noqa: F401  (registers the handlers)
from pvhv.abi.errno import Errno
from pvhv.abi.event_channel import (
    EVTCHNOP,
    EVTCHNSTAT_closed,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_ipi,
    EVTCHNSTAT_unbound,
    EVTCHNSTAT_virq,
)
from pvhv.abi.xen import DOMID_SELF, VIRQ_CONSOLE, VIRQ_DEBUG, VIRQ_DOM_EXC, VIRQ_TIMER, SharedInfo
from pvhv.core.domain import Domain
from pvhv.core.errors import HypercallError
from pvhv.core.events.ports import FREE, INTERDOMAIN, RESERVED, STATE_NAMES, TRANSITIONS, UNBOUND
from pvhv.core.events.virq import send_guest_global_virq, send_virq
from pvhv.core.traps.dispatch import HANDLERS
from tests.core.guests import Machine, asleep


class World:
    """Two guests and domain 0."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.hv = self.machine.hv
        self.a = self.hv.create_domain(vcpus=2)
        self.b = self.hv.create_domain(vcpus=1)
        assert (self.a.domid, self.b.domid) == (1, 2)
        self.woken = asleep(self.a)

    def shared_info(self, domain: Domain) -> Any:
        return SharedInfo.from_buffer(self.hv.ram.bytes, domain.shared_info * 4096)

    def pair(self) -> tuple[int, int]:
        """A channel between a and b; the ports' numbers in a and in b, nothing pending."""
        offered = self.a.events.alloc_unbound(2)
        bound = self.b.events.bind_interdomain(self.a.events, offered)
        self.take(self.b)
        return offered, bound

    def pending(self, domain: Domain) -> set[int]:
        return bits(self.shared_info(domain).evtchn_pending)

    def mask(self, domain: Domain, port: int, masked: bool = True) -> None:
        words = self.shared_info(domain).evtchn_mask
        words[port // 64] = words[port // 64] & ~(1 << port % 64) | masked << port % 64

    def take(self, domain: Domain) -> set[int]:
        """What the guest's upcall handlers do, on all vCPUs: the ports that were signalled by selector."""
        info = self.shared_info(domain)
        taken = set()
        for vcpu in range(len(domain.vcpus)):
            area = info.vcpu_info[vcpu]
            area.evtchn_upcall_pending = 0
            selector, area.evtchn_pending_sel = area.evtchn_pending_sel, 0
            for word in range(64):
                if selector >> word & 1:
                    live = info.evtchn_pending[word] & ~info.evtchn_mask[word]
                    info.evtchn_pending[word] &= ~live
                    taken |= {word * 64 + bit for bit in range(64) if live >> bit & 1}
        return taken


def bits(words: Any) -> set[int]:
    return {index * 64 + bit for index, word in enumerate(words) for bit in range(64) if word >> bit & 1}


@pytest.fixture
def world() -> World:
    return World()


def errno_of(function: Any, *arguments: Any) -> Errno:
    with pytest.raises(HypercallError) as caught:
        function(*arguments)
    return caught.value.errno


# -- the table -----------------------------------------------------------------------------------------------

def test_every_state_is_reached_and_left() -> None:
    assert {state for state, _ in TRANSITIONS} | {RESERVED} == set(range(len(STATE_NAMES)))
    assert set(TRANSITIONS.values()) | {RESERVED} == set(range(len(STATE_NAMES)))
    # Nothing touches the reserved port, and every bound port can be closed.
    assert not [what for state, what in TRANSITIONS if state == RESERVED]
    closable = {state for state, what in TRANSITIONS if what == "close"}
    assert closable == set(range(len(STATE_NAMES))) - {FREE, RESERVED}


def test_ports_are_given_out_from_one_lowest_first(world: World) -> None:
    events = world.a.events
    assert [events.alloc_unbound(2) for _ in range(3)] == [1, 2, 3]
    events.close(2)
    events.close(1)
    assert [events.alloc_unbound(2) for _ in range(3)] == [1, 2, 4]


def test_a_domain_has_4095_ports_and_not_one_more(world: World) -> None:
    events = world.a.events
    assert [events.alloc_unbound(2) for _ in range(4095)] == list(range(1, 4096))
    assert errno_of(events.alloc_unbound, 2) == Errno.ENOSPC
    events.close(4095)
    assert events.alloc_unbound(2) == 4095


def test_the_configured_limit_is_the_highest_port(world: World) -> None:
    world.a.events.limit(3)
    assert [world.a.events.alloc_unbound(2) for _ in range(3)] == [1, 2, 3]
    assert errno_of(world.a.events.bind_ipi, 0) == Errno.ENOSPC


def test_a_dying_domain_gets_no_port(world: World) -> None:
    world.a.dying = True
    assert errno_of(world.a.events.alloc_unbound, 2) == Errno.EINVAL


# -- interdomain ---------------------------------------------------------------------------------------------

def test_binding_connects_both_ends_and_signals_the_binder_once(world: World) -> None:
    offered = world.a.events.alloc_unbound(2)
    assert world.a.events.status(offered)[:3] == (EVTCHNSTAT_unbound, 0, 2)
    bound = world.b.events.bind_interdomain(world.a.events, offered)
    assert world.a.events.status(offered)[:4] == (EVTCHNSTAT_interdomain, 0, 2, bound)
    assert world.b.events.status(bound)[:4] == (EVTCHNSTAT_interdomain, 0, 1, offered)
    assert world.take(world.b) == {bound}
    assert world.pending(world.a) == set()


def test_only_the_domain_it_was_offered_to_may_bind(world: World) -> None:
    offered = world.a.events.alloc_unbound(7)
    assert errno_of(world.b.events.bind_interdomain, world.a.events, offered) == Errno.EINVAL
    assert errno_of(world.b.events.bind_interdomain, world.a.events, 63) == Errno.EINVAL  # closed
    assert errno_of(world.b.events.bind_interdomain, world.a.events, 64) == Errno.EINVAL  # beyond the table
    assert world.b.events.in_use() == []


def test_a_signal_sets_pending_selector_and_upcall_and_wakes(world: World) -> None:
    offered, bound = world.pair()
    world.b.events.send(bound)
    info = world.shared_info(world.a)
    assert world.pending(world.a) == {offered}
    assert info.vcpu_info[0].evtchn_pending_sel == 1 << offered // 64
    assert info.vcpu_info[0].evtchn_upcall_pending == 1
    assert world.woken() == [world.a.vcpus[0]]
    world.woken = asleep(world.a)
    world.b.events.send(bound)  # pending already: nothing more to do
    assert world.woken() == []
    assert world.take(world.a) == {offered}


def test_a_masked_port_only_becomes_pending_until_unmasked(world: World) -> None:
    offered, bound = world.pair()
    world.mask(world.a, offered)
    world.b.events.send(bound)
    assert world.pending(world.a) == {offered}
    assert world.shared_info(world.a).vcpu_info[0].evtchn_upcall_pending == 0
    assert world.woken() == []
    world.a.events.unmask(offered)
    assert world.woken() == [world.a.vcpus[0]]
    assert world.take(world.a) == {offered}
    world.a.events.unmask(offered)  # not masked any more: no second signal
    assert world.take(world.a) == set()


def test_a_high_port_is_found_through_its_selector_word(world: World) -> None:
    for _ in range(130):
        world.a.events.alloc_unbound(9)
    offered, bound = world.pair()
    world.b.events.send(bound)
    assert offered == 131
    assert world.shared_info(world.a).vcpu_info[0].evtchn_pending_sel == 1 << 2
    assert world.take(world.a) == {131}


def test_bind_vcpu_moves_the_upcall(world: World) -> None:
    offered, bound = world.pair()
    world.a.events.bind_vcpu(offered, 1)
    world.b.events.send(bound)
    info = world.shared_info(world.a)
    assert [info.vcpu_info[i].evtchn_upcall_pending for i in (0, 1)] == [0, 1]
    assert world.woken() == [world.a.vcpus[1]]


def test_closing_an_end_leaves_the_other_offered_again(world: World) -> None:
    offered, bound = world.pair()
    world.b.events.close(bound)
    assert world.a.events.status(offered)[:3] == (EVTCHNSTAT_unbound, 0, 2)
    world.a.events.send(offered)  # nobody hears it
    assert world.b.events.bind_interdomain(world.a.events, offered) == bound


def test_closing_forgets_the_signal_and_the_vcpu(world: World) -> None:
    offered, bound = world.pair()
    world.a.events.bind_vcpu(offered, 1)
    world.b.events.send(bound)
    world.a.events.close(offered)
    assert world.pending(world.a) == set()
    assert world.a.events.status(offered)[:2] == (EVTCHNSTAT_closed, 0)
    assert world.b.events.status(bound)[:3] == (EVTCHNSTAT_unbound, 0, 1)


def test_a_domain_may_connect_to_itself(world: World) -> None:
    one = world.a.events.alloc_unbound(1)
    two = world.a.events.bind_interdomain(world.a.events, one)
    world.take(world.a)
    world.a.events.send(one)
    assert world.take(world.a) == {two}
    world.a.events.reset()
    assert world.a.events.in_use() == []


def test_what_may_not_be_sent_on_or_closed(world: World) -> None:
    events = world.a.events
    timer = events.bind_virq(VIRQ_TIMER, 0)
    for port in (0, timer, 63, 64, 4096, 1 << 31):
        assert errno_of(events.send, port) == Errno.EINVAL, port
    for port in (0, 63, 64, 1 << 31):
        assert errno_of(events.close, port) == Errno.EINVAL, port
    for port in (64, 1 << 31):
        assert errno_of(events.unmask, port) == Errno.EINVAL, port
    events.unmask(63)  # closed, but a port: Xen does not mind


# -- IPIs and VIRQs ------------------------------------------------------------------------------------------

def test_an_ipi_signals_its_own_port(world: World) -> None:
    port = world.a.events.bind_ipi(1)
    assert world.a.events.status(port)[:2] == (EVTCHNSTAT_ipi, 1)
    world.a.events.send(port)
    assert world.woken() == [world.a.vcpus[1]]
    assert errno_of(world.a.events.bind_vcpu, port, 0) == Errno.EINVAL
    assert errno_of(world.a.events.bind_ipi, 2) == Errno.ENOENT


def test_a_vcpus_own_virq(world: World) -> None:
    events = world.a.events
    ports = [events.bind_virq(VIRQ_TIMER, vcpu) for vcpu in (0, 1)]
    send_virq(world.a.vcpus[1], VIRQ_TIMER)
    assert world.pending(world.a) == {ports[1]}
    assert world.woken() == [world.a.vcpus[1]]
    assert events.status(ports[1]) == (EVTCHNSTAT_virq, 1, 0, 0, VIRQ_TIMER)
    assert errno_of(events.bind_virq, VIRQ_TIMER, 0) == Errno.EEXIST
    assert errno_of(events.bind_vcpu, ports[1], 0) == Errno.EINVAL
    assert errno_of(events.bind_virq, VIRQ_TIMER, 2) == Errno.ENOENT
    events.close(ports[0])
    send_virq(world.a.vcpus[0], VIRQ_TIMER)  # unbound: nothing
    assert world.pending(world.a) == {ports[1]}
    assert events.bind_virq(VIRQ_TIMER, 0) == ports[0]


def test_a_global_virq_is_bound_on_vcpu_0_and_may_move(world: World) -> None:
    events = world.a.events
    assert errno_of(events.bind_virq, VIRQ_CONSOLE, 1) == Errno.EINVAL
    assert errno_of(events.bind_virq, 24, 0) == Errno.EINVAL
    port = events.bind_virq(VIRQ_CONSOLE, 0)
    events.bind_vcpu(port, 1)
    send_guest_global_virq(world.a, VIRQ_CONSOLE)
    assert world.woken() == [world.a.vcpus[1]]
    assert errno_of(events.bind_virq, VIRQ_CONSOLE, 0) == Errno.EEXIST
    events.close(port)  # moved to vCPU 1, but kept on vCPU 0's list
    assert events.bind_virq(VIRQ_CONSOLE, 0) == port
    send_guest_global_virq(world.b, VIRQ_DEBUG)  # not bound there
    assert world.pending(world.b) == set()


# -- poll ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("ports", "wakes"), [((), True), (("it",), True), (("other",), False),
                                              (("other", "another"), True)])
def test_a_port_becoming_pending_wakes_who_polls(world: World, ports: tuple[str, ...], wakes: bool) -> None:
    """With one port Xen looks which; with several (or none) any port ends the poll."""
    offered, bound = world.pair()
    world.mask(world.a, offered)
    numbers = {"it": offered, "other": 50, "another": 51}
    poller = world.a.vcpus[1]
    poller.blocked = False
    world.hv.activity.poll(poller, tuple(numbers[name] for name in ports), 0)
    world.b.events.send(bound)
    assert poller.polling is not wakes
    assert world.woken() == [poller]  # the other sleeps on


def test_is_pending_for_poll(world: World) -> None:
    offered, bound = world.pair()
    assert not world.a.events.is_pending(offered)
    world.b.events.send(bound)
    assert world.a.events.is_pending(offered)
    for port in (0, 63, 64):
        assert errno_of(world.a.events.is_pending, port) == Errno.EINVAL


# -- domain 0's functions ------------------------------------------------------------------------------------

def test_a_function_is_called_once_at_the_safe_point(world: World) -> None:
    calls: list[str] = []
    offered = world.a.events.alloc_unbound(0)
    port = world.hv.dom0.events.bind_interdomain(world.a.events, offered)
    world.hv.dom0.events.bind_handler(port, lambda: calls.append("upcall"))
    assert calls == []
    world.machine.safe_point()
    assert calls == ["upcall"]  # the signal that binding itself makes
    world.a.events.send(offered)
    world.a.events.send(offered)
    assert calls == ["upcall"]
    world.machine.safe_point()
    assert calls == ["upcall"] * 2
    world.machine.safe_point()
    assert calls == ["upcall"] * 2


def test_a_signal_waits_for_its_function_and_dies_with_its_port(world: World) -> None:
    calls: list[str] = []
    offered = world.a.events.alloc_unbound(0)
    dom0 = world.hv.dom0.events
    port = dom0.bind_interdomain(world.a.events, offered)
    world.machine.safe_point()
    assert dom0.is_pending(port)
    dom0.bind_handler(port, lambda: calls.append("upcall"))
    dom0.close(port)
    world.machine.safe_point()
    assert calls == []
    assert errno_of(dom0.bind_handler, port, lambda: None) == Errno.EINVAL
    assert dom0.alloc_unbound(1) == port
    assert not dom0.is_pending(port)


def test_the_machines_virqs_go_to_domain_0(world: World) -> None:
    calls: list[str] = []
    dom0 = world.hv.dom0.events
    port = dom0.bind_virq(VIRQ_DOM_EXC, 0)
    dom0.bind_handler(port, lambda: calls.append("dom_exc"))
    send_guest_global_virq(world.hv.dom0, VIRQ_DOM_EXC)
    world.machine.safe_point()
    assert calls == ["dom_exc"]
    assert errno_of(dom0.bind_virq, VIRQ_DOM_EXC, 0) == Errno.EEXIST
    assert errno_of(dom0.bind_virq, VIRQ_TIMER, 1) == Errno.ENOENT
    dom0.close(port)
    send_guest_global_virq(world.hv.dom0, VIRQ_DOM_EXC)


# -- conservation --------------------------------------------------------------------------------------------

def test_a_dead_domain_leaves_no_port_naming_it(world: World) -> None:
    offered, _bound = world.pair()
    world.a.events.bind_virq(VIRQ_TIMER, 1)
    world.a.events.bind_ipi(0)
    mine = world.b.events.alloc_unbound(1)
    world.a.events.bind_interdomain(world.b.events, mine)
    world.a.dying = True
    list(world.a.events.destroy())
    assert world.a.events.in_use() == []
    assert world.a.vcpus[1].virq_ports == {}
    assert all(channel.target is None for channel in world.b.events.channels)
    assert [channel.state for channel in world.b.events.in_use()] == [UNBOUND, UNBOUND]
    assert all(channel.state != INTERDOMAIN for channel in world.b.events.channels)
    assert errno_of(world.b.events.bind_interdomain, world.a.events, offered) == Errno.EINVAL


# -- the hypercall: who may ----------------------------------------------------------------------------------

def perform(command: Any, domain: Domain, **fields: int) -> Any:
    op = command.arg(**fields)
    HANDLERS[command](domain.vcpus[0], op)
    return op


def test_alloc_unbound_for_oneself_and_others(world: World) -> None:
    assert perform(EVTCHNOP.alloc_unbound, world.a, dom=DOMID_SELF, remote_dom=2).port == 1
    assert perform(EVTCHNOP.alloc_unbound, world.a, dom=1, remote_dom=DOMID_SELF).port == 2
    assert world.a.events.channel(2).remote_domid == 1
    assert errno_of(lambda: perform(EVTCHNOP.alloc_unbound, world.a, dom=2, remote_dom=1)) == Errno.EPERM
    assert errno_of(lambda: perform(EVTCHNOP.alloc_unbound, world.a, dom=9, remote_dom=1)) == Errno.ESRCH
    world.a.target = 2
    assert perform(EVTCHNOP.alloc_unbound, world.a, dom=2, remote_dom=DOMID_SELF).port == 1
    world.b.events.limit(0)
    world.a.target = None  # Xen finds no room before it finds no right
    world.b.events.close(1)
    assert errno_of(lambda: perform(EVTCHNOP.alloc_unbound, world.a, dom=2, remote_dom=1)) == Errno.ENOSPC


def test_status_fills_the_union(world: World) -> None:
    offered, bound = world.pair()
    op = perform(EVTCHNOP.status, world.a, dom=DOMID_SELF, port=offered)
    assert (op.status, op.vcpu, op.u.interdomain.dom, op.u.interdomain.port) == (2, 0, 2, bound)
    virq = perform(EVTCHNOP.bind_virq, world.a, virq=VIRQ_TIMER, vcpu=1).port
    op = perform(EVTCHNOP.status, world.a, dom=1, port=virq)
    assert (op.status, op.vcpu, op.u.virq) == (4, 1, VIRQ_TIMER)
    assert errno_of(lambda: perform(EVTCHNOP.status, world.a, dom=2, port=bound)) == Errno.EPERM
    assert errno_of(lambda: perform(EVTCHNOP.status, world.a, dom=2, port=64)) == Errno.EINVAL
    assert errno_of(lambda: perform(EVTCHNOP.status, world.a, dom=9, port=1)) == Errno.ESRCH


def test_reset_of_another_needs_privilege_and_a_pause(world: World) -> None:
    world.pair()
    assert errno_of(lambda: perform(EVTCHNOP.reset, world.a, dom=2)) == Errno.EPERM
    world.a.privileged = True
    world.b.controller_paused = False
    assert errno_of(lambda: perform(EVTCHNOP.reset, world.a, dom=2)) == Errno.EINVAL
    world.b.controller_paused = True
    perform(EVTCHNOP.reset, world.a, dom=2)
    assert world.b.events.in_use() == []
    perform(EVTCHNOP.reset, world.a, dom=DOMID_SELF)
    assert world.a.events.in_use() == []


def test_no_guest_owns_a_physical_interrupt(world: World) -> None:
    assert errno_of(lambda: perform(EVTCHNOP.bind_pirq, world.a, pirq=3)) == Errno.EPERM
    assert errno_of(lambda: perform(EVTCHNOP.bind_pirq, world.a, pirq=1000)) == Errno.EINVAL
