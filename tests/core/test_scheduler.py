# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose turn it is: fairness, sleep, timers, and that nobody can make others wait.

Guests here are a few instructions on virtual timelines, so what is measured is the same in every run; slices are made
short so that there are many. What is about the host's time is measured in the processor time of the hypervisor's own
thread, which a busy machine does not change.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pvhv.abi.event_channel import EVTCHNOP_send
from pvhv.abi.sched import SCHEDOP_block, SCHEDOP_poll, SCHEDOP_shutdown, SCHEDOP_yield
from pvhv.abi.vcpu import VCPUOP_set_periodic_timer, VCPUOP_set_singleshot_timer, VCPUOP_stop_periodic_timer
from pvhv.abi.xen import (
    VIRQ_TIMER,
    HYPERVISOR_event_channel_op,
    HYPERVISOR_multicall,
    HYPERVISOR_sched_op,
    HYPERVISOR_set_timer_op,
    HYPERVISOR_vcpu_op,
    HYPERVISOR_xen_version,
)
from pvhv.core.domain import Domain
from pvhv.core.sched import patience as patience_module
from pvhv.core.sched import scheduler as scheduler_module
from pvhv.core.sched import timeline as timeline_module
from pvhv.core.sched.patience import Patience
from pvhv.core.sched.runstate import BLOCKED, OFFLINE, RUNNABLE
from pvhv.core.sched.timeline import VirtualTimeline
from pvhv.machine.cpustate import R8
from pvhv.machine.ticker import NEVER
from tests.core.code import R8 as CODE_R8
from tests.core.code import RBX, Code
from tests.core.lab import CODE, DATA, EVENT, Lab

SLICE = 50_000
MILLISECOND = 1_000_000


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(scheduler_module, "SLICE_NS", SLICE)
    monkeypatch.setattr(timeline_module, "SLICE_NS", SLICE)
    monkeypatch.setattr(timeline_module, "WAKE_LEAD_NS", SLICE // 2)
    lab = Lab()
    yield lab
    assert not lab.hv.bugs, lab.hv.bugs[0]


def virtual(lab: Lab, name: str = "lab") -> VirtualTimeline:
    timeline = lab.hv.timeline(name)
    assert isinstance(timeline, VirtualTimeline)
    return timeline


def spin() -> Code:
    """Count in %r8, for ever."""
    code = Code(CODE)
    no_ticks(code)
    again = code.here
    return code.inc(CODE_R8).jmp(again)


def no_ticks(code: Code) -> Code:
    """A PV guest begins with a periodic timer; most tests want none."""
    return code.hypercall(HYPERVISOR_vcpu_op, VCPUOP_stop_periodic_timer, 0, 0)


def run_for(lab: Lab, timeline: VirtualTimeline, ns: int) -> None:
    end = timeline.now() + ns
    assert lab.hv.run_until(lambda: timeline.now() >= end, 20)


def ran(domain: Domain) -> int:
    return domain.vcpus[0].ran


# -- fairness ----------------------------------------------------------------------------------------------------------
def test_equals_get_equal_time(lab: Lab) -> None:
    domains = [lab.domain(spin()) for _ in range(4)]
    run_for(lab, virtual(lab), 40 * SLICE)
    assert max(map(ran, domains)) - min(map(ran, domains)) <= SLICE * 1.1
    assert all(domain.vcpus[0].state[R8] > 0 for domain in domains)


def test_time_is_divided_by_weight(lab: Lab) -> None:
    heavy, light = lab.domain(spin()), lab.domain(spin())
    heavy.weight, light.weight = 768, 256
    run_for(lab, virtual(lab), 80 * SLICE)
    assert ran(heavy) / ran(light) == pytest.approx(3, rel=0.1)


def test_who_could_not_run_gets_no_time_back(lab: Lab) -> None:
    worker, paused, late = lab.domain(spin()), lab.domain(spin()), lab.domain(spin())
    for domain in (paused, late):
        lab.hv.activity.pause(domain)
    run_for(lab, virtual(lab), 60 * SLICE)
    assert ran(worker) > 59 * SLICE
    lab.hv.activity.unpause(paused)
    run_for(lab, virtual(lab), 20 * SLICE)
    assert ran(paused) == pytest.approx(10 * SLICE, abs=2 * SLICE)
    # Now the one that computed all the while is away for a moment, and comes back to one that slept as long.
    lab.hv.activity.pause(worker)
    lab.hv.activity.pause(paused)
    lab.hv.activity.unpause(late)
    run_for(lab, virtual(lab), SLICE)
    lab.hv.activity.unpause(worker)
    before = ran(worker)
    run_for(lab, virtual(lab), 20 * SLICE)
    assert ran(worker) - before == pytest.approx(10 * SLICE, abs=2 * SLICE)


def test_new_domains_start_level(lab: Lab) -> None:
    first = lab.domain(spin())
    run_for(lab, virtual(lab), 40 * SLICE)
    second = lab.domain(spin())
    before = ran(first)
    run_for(lab, virtual(lab), 20 * SLICE)
    assert ran(first) - before == pytest.approx(10 * SLICE, abs=2 * SLICE)
    assert ran(second) == pytest.approx(10 * SLICE, abs=2 * SLICE)


def test_yield_gives_the_rest_of_the_slice_away(lab: Lab) -> None:
    polite = Code(CODE)
    no_ticks(polite)
    again = polite.here
    polite.hypercall(HYPERVISOR_sched_op, SCHEDOP_yield, 0).jmp(again)
    giver, taker = lab.domain(polite), lab.domain(spin())
    run_for(lab, virtual(lab), 20 * SLICE)
    assert ran(giver) < SLICE / 10
    assert ran(taker) > 19 * SLICE


def test_vcpus_of_all_timelines_get_host_time(lab: Lab) -> None:
    one, other = lab.domain(spin()), lab.domain(spin(), timeline=lab.hv.timeline("another"))
    wall = lab.domain(spin(), timeline=lab.hv.wall)
    assert lab.hv.run_until(lambda: all(ran(domain) > 30 * SLICE for domain in (one, other, wall)), 20)


# -- runstates ---------------------------------------------------------------------------------------------------------
def test_runstates_add_up(lab: Lab) -> None:
    domains = [lab.domain(spin()) for _ in range(2)]
    timeline = virtual(lab)
    run_for(lab, timeline, 20 * SLICE)
    lab.hv.activity.pause(domains[0])
    run_for(lab, timeline, 5 * SLICE)
    for domain in domains:
        runstate = domain.vcpus[0].runstate
        times = runstate.times(timeline.now())
        assert sum(times) == timeline.now()
        assert times[0] == pytest.approx(ran(domain), abs=SLICE * 1.1)
    assert domains[0].vcpus[0].runstate.state == OFFLINE
    assert domains[0].vcpus[0].runstate.times(timeline.now())[OFFLINE] == pytest.approx(5 * SLICE, abs=SLICE * 1.1)
    assert domains[1].vcpus[0].runstate.times(timeline.now())[RUNNABLE] == pytest.approx(10 * SLICE, abs=2 * SLICE)


# -- timers ------------------------------------------------------------------------------------------------------------
def bind_timer(domain: Domain) -> None:
    domain.events.bind_virq(VIRQ_TIMER, 0)


def test_a_timer_set_while_running_comes_in_time(lab: Lab) -> None:
    """Not at the end of the slice."""
    deadline = 5000
    code = no_ticks(Code(CODE)).hypercall(HYPERVISOR_set_timer_op, deadline)
    again = code.inc(CODE_R8).here
    code.jmp(again)
    domain = lab.domain(code)
    bind_timer(domain)
    lab.hv.ram.bytes[domain.vcpus[0].vcpu_info + 1] = 0
    lab.run(domain)
    assert lab.frame(domain.vcpus[0]).vector == EVENT
    assert deadline <= virtual(lab).now() <= deadline + 600


def test_a_timer_in_the_past_fires_at_once(lab: Lab) -> None:
    for call in (
        (HYPERVISOR_set_timer_op, 1),
        (HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, 0, DATA),
    ):
        code = no_ticks(Code(CODE)).hypercall(*call)
        code.jmp(code.here)
        domain = lab.domain(code)
        lab.poke(domain, DATA, 1)
        bind_timer(domain)
        lab.hv.ram.bytes[domain.vcpus[0].vcpu_info + 1] = 0
        before = virtual(lab).now()
        lab.run(domain)
        assert lab.frame(domain.vcpus[0]).vector == EVENT
        assert virtual(lab).now() - before < 1000


def test_a_sleeping_domain_is_woken_by_its_one_shot_timer_while_another_spins_on_the_wall_clock(lab: Lab) -> None:
    lab.domain(spin(), timeline=lab.hv.wall)
    code = no_ticks(Code(CODE)).hypercall(HYPERVISOR_set_timer_op, 30 * MILLISECOND)
    code.hypercall(HYPERVISOR_sched_op, SCHEDOP_block, 0).jmp(code.here)
    domain = lab.domain(code)
    bind_timer(domain)
    lab.run(domain)
    assert 30 * MILLISECOND <= virtual(lab).now() < 30 * MILLISECOND + SLICE


def test_a_guest_alone_on_the_wall_clock_is_not_stopped_by_the_tick(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (scheduler_module, timeline_module):
        monkeypatch.setattr(module, "SLICE_NS", 2 * MILLISECOND)
    runs = 0
    run_wall = lab.hv.wall.cpu.pcpu.run_wall

    def counted(*arguments: Any, **named: Any) -> None:
        nonlocal runs
        runs += 1
        run_wall(*arguments, **named)

    monkeypatch.setattr(lab.hv.wall.cpu.pcpu, "run_wall", counted)
    lab.domain(spin(), timeline=lab.hv.wall)
    assert not lab.hv.run_until(lambda: False, 0.2)
    assert 1 <= runs < 10  # in the time of 100 slices; and the limit of 0.2 s ended the last

    woken: list[int] = []
    wake_at = lab.hv.wall.now() + 20 * MILLISECOND
    lab.hv.wall.after(wake_at, lambda: woken.append(lab.hv.wall.now()))
    assert lab.hv.run_until(lambda: bool(woken), 20)  # a timer ends such a turn
    assert woken[0] >= wake_at

    other = lab.domain(spin(), timeline=lab.hv.wall)
    runs = 0
    # With two of them, slices are slices; on a busy host they are long ones.
    assert lab.hv.run_until(lambda: runs > 20 and bool(other.vcpus[0].ran), 20)


def test_timers_that_wake_nobody_end_no_slice(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each vCPU of a Linux has a tick: were it to end the others' slices, they would have hardly any."""
    slice_ns = 20 * MILLISECOND
    for module in (scheduler_module, timeline_module):
        monkeypatch.setattr(module, "SLICE_NS", slice_ns)
    wall = lab.hv.wall
    for _ in range(2):
        lab.domain(spin(), timeline=wall)
    picked = fired = 0
    pick = wall.pick

    def counted() -> Any:
        nonlocal picked
        picked += 1
        return pick()

    def tick() -> None:
        nonlocal fired
        fired += 1
        wall.after(wall.now() + MILLISECOND, tick)

    monkeypatch.setattr(wall, "pick", counted)
    began = wall.now()
    tick()
    assert lab.hv.run_until(lambda: fired >= 100, 60)
    assert 1 <= picked <= (wall.now() - began) // slice_ns + 2


def test_who_is_woken_does_not_wait_for_the_end_of_a_slice(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    slice_ns = 60_000 * MILLISECOND
    for module in (scheduler_module, timeline_module):
        monkeypatch.setattr(module, "SLICE_NS", slice_ns)
    wall = lab.hv.wall
    code = no_ticks(Code(CODE))
    again = code.here
    code.hypercall(HYPERVISOR_sched_op, SCHEDOP_block, 0).jmp(again)
    (sleeper,) = lab.domain(code, timeline=wall).vcpus
    assert lab.hv.run_until(lambda: sleeper.blocked, 20)
    sleeper.credit_used = 0  # a busy host may have charged it more for its first steps than the other has by then
    lab.domain(spin(), timeline=wall)
    woken: list[int] = []

    def wake() -> None:
        woken.append(wall.now())
        lab.hv.activity.wake(sleeper)

    wall.after(wall.now() + 50 * MILLISECOND, wake)
    assert lab.hv.run_until(lambda: bool(woken) and sleeper.blocked, 200)
    assert wall.now() - woken[0] < slice_ns // 2


def test_the_time_of_paused_domains_stands_still(lab: Lab) -> None:
    code = no_ticks(Code(CODE)).hypercall(HYPERVISOR_set_timer_op, 30 * MILLISECOND)
    code.hypercall(HYPERVISOR_sched_op, SCHEDOP_block, 0).jmp(code.here)
    domain = lab.domain(code)
    bind_timer(domain)
    vcpu = domain.vcpus[0]
    assert lab.hv.run_until(lambda: vcpu.blocked, 10)
    lab.hv.activity.pause(domain)
    before = virtual(lab).now()
    turns = count_turns(lab)
    assert not lab.hv.run_until(lambda: False, 0.05)
    assert virtual(lab).now() == before
    assert len(turns) < 5  # and nobody computes meanwhile
    lab.hv.activity.unpause(domain)
    lab.run(domain)
    assert virtual(lab).now() >= 30 * MILLISECOND


def test_time_does_not_jump_while_somebody_holds_it(lab: Lab) -> None:
    """Who sleeps until a timer sleeps on until those who hold the timeline have caught up."""
    code = no_ticks(Code(CODE)).hypercall(HYPERVISOR_set_timer_op, 30 * MILLISECOND)
    code.hypercall(HYPERVISOR_sched_op, SCHEDOP_block, 0).jmp(code.here)
    domain, timeline = lab.domain(code), virtual(lab)
    bind_timer(domain)
    timeline.after(MILLISECOND, lambda: setattr(timeline, "held", 1))
    assert lab.hv.run_until(lambda: timeline.held > 0, 10)
    before, turns = timeline.now(), count_turns(lab)
    assert not lab.hv.run_until(lambda: False, 0.05)
    assert timeline.now() == before < 2 * MILLISECOND and len(turns) < 5
    timeline.held = 0
    lab.run(domain)
    assert timeline.now() >= 30 * MILLISECOND


def test_a_tick_waits_until_a_vcpu_that_sleeps_runs_again(lab: Lab) -> None:
    """It neither wakes the vCPU nor is lost; and it comes once for all that were missed."""
    code = Code(CODE).hypercall(HYPERVISOR_vcpu_op, VCPUOP_set_periodic_timer, 0, DATA)
    code.hypercall(HYPERVISOR_sched_op, SCHEDOP_block, 0).jmp(code.here)
    domain = lab.domain(code)
    lab.poke(domain, DATA, MILLISECOND)
    bind_timer(domain)
    vcpu, timeline, woken = domain.vcpus[0], virtual(lab), 10 * MILLISECOND + 500_000
    slept: list[bool] = []
    timeline.after(woken, lambda: (slept.append(vcpu.blocked), lab.hv.activity.wake(vcpu)))  # type: ignore[arg-type]
    lab.run(domain)
    assert slept == [True] and lab.frame(vcpu).vector == EVENT
    assert woken <= timeline.now() < woken + 1000
    assert vcpu.periodic_last == woken


def test_a_stopped_domain_costs_nothing(lab: Lab) -> None:
    code = Code(CODE).hypercall(HYPERVISOR_vcpu_op, VCPUOP_set_periodic_timer, 0, DATA)
    code.hypercall(HYPERVISOR_sched_op, SCHEDOP_shutdown, DATA + 8)
    for timeline in (virtual(lab), lab.hv.wall):
        domain = lab.domain(code, timeline=timeline)
        lab.poke(domain, DATA, MILLISECOND)
        bind_timer(domain)
        lab.run(domain)
    turns = count_turns(lab)
    assert not lab.hv.run_until(lambda: False, 0.05)
    assert len(turns) < 5


def count_turns(lab: Lab) -> list[float]:
    """Note the thread's processor time at each turn of the loop from now on."""
    turns: list[float] = []
    scheduler = lab.hv.scheduler
    original = scheduler.turn

    def turn(deadline: float | None = None) -> None:
        turns.append(time.thread_time())
        original(deadline)

    scheduler.turn = turn  # type: ignore[method-assign]
    return turns


def test_cancelled_timers_do_not_pile_up(lab: Lab) -> None:
    code = no_ticks(Code(CODE)).mov(RBX, 3000)
    again = code.here
    code.hypercall(HYPERVISOR_set_timer_op, 1 << 40).add(RBX, -1).jne(again)
    code.hypercall(HYPERVISOR_sched_op, SCHEDOP_shutdown, DATA)
    domain = lab.domain(code)
    lab.run(domain)
    assert len(virtual(lab).timers) < 300


# -- sleeping in the middle of things ----------------------------------------------------------------------------------
def entry(number: int, *arguments: int) -> bytes:
    """A multicall_entry."""
    return struct.pack("<QQ6Q", number, 0xAAAA, *arguments, *[0] * (6 - len(arguments)))


@pytest.mark.parametrize("sleep", [SCHEDOP_block, SCHEDOP_poll])
def test_a_multicall_that_sleeps_goes_on_after_it(lab: Lab, sleep: int) -> None:
    code = no_ticks(Code(CODE)).hypercall(HYPERVISOR_multicall, DATA, 3)
    code.hypercall(HYPERVISOR_sched_op, SCHEDOP_shutdown, DATA + 512)
    domain = lab.domain(code)
    lab.write(
        domain,
        DATA,
        entry(HYPERVISOR_set_timer_op, MILLISECOND)
        + entry(HYPERVISOR_sched_op, sleep, DATA + 1024)
        + entry(HYPERVISOR_xen_version, 0),
    )
    bind_timer(domain)
    vcpu = domain.vcpus[0]
    assert lab.hv.run_until(lambda: vcpu.runstate.state == BLOCKED, 10)
    assert lab.word(domain, DATA + 64 + 8) == 0  # the sleep is done with
    assert lab.word(domain, DATA + 128 + 8) == 0xAAAA  # what stands behind it is not
    lab.hv.activity.wake(vcpu)
    lab.run(domain)
    assert lab.word(domain, DATA + 128 + 8) == 4 << 16 | 17


def test_nothing_of_a_multicall_happens_after_its_shutdown(lab: Lab) -> None:
    code = no_ticks(Code(CODE)).hypercall(HYPERVISOR_multicall, DATA, 2)
    domain = lab.domain(code.ud2())
    lab.write(domain, DATA, entry(HYPERVISOR_sched_op, SCHEDOP_shutdown, DATA + 512) + entry(HYPERVISOR_xen_version, 0))
    lab.run(domain)
    assert domain.shutdown_code == 0
    assert lab.word(domain, DATA + 64 + 8) == 0xAAAA


# -- what comes from outside -------------------------------------------------------------------------------------------
def trail(interrupt: Callable[[Lab], object] | None) -> list[tuple[int, int]]:
    """Who began to run when, of three domains on one timeline, while something outside interrupts."""
    lab = Lab()
    domains = [lab.domain(spin()) for _ in range(3)]
    domains[1].weight = 400
    timeline = virtual(lab)
    seen: list[tuple[int, int]] = []
    original = timeline.pick

    def pick() -> object:
        vcpu = original()
        if vcpu is not None:
            seen.append((timeline.now(), vcpu.domain.domid))
        return vcpu

    timeline.pick = pick  # type: ignore[assignment, method-assign]
    done = threading.Event()
    thread = None
    if interrupt is not None:

        def bother() -> None:
            while not done.wait(0.0005):
                interrupt(lab)

        thread = threading.Thread(target=bother)
        thread.start()
    run_for(lab, timeline, 60 * SLICE)
    done.set()
    if thread is not None:
        thread.join()
    return seen[:50]


def test_what_comes_from_outside_does_not_change_who_runs_when(lab: Lab) -> None:
    undisturbed = trail(None)
    assert len(undisturbed) == 50
    assert trail(lambda lab: lab.hv.post(lambda: None)) == undisturbed
    assert trail(lambda lab: lab.hv.cpu(True).pcpu.stop()) == undisturbed
    assert trail(lambda lab: lab.hv.scheduler.soon(lambda: None)) == undisturbed


def test_posted_functions_are_answered_while_guests_spin(lab: Lab) -> None:
    lab.domain(spin())
    lab.domain(spin(), timeline=lab.hv.wall)
    thread = threading.Thread(target=lab.hv.run)
    thread.start()
    try:
        for number in range(50):
            assert lab.hv.post(lambda number=number: number).result(10) == number  # type: ignore[misc]
        failing = lab.hv.post(lambda: 1 // 0)
        assert isinstance(failing.exception(10), ZeroDivisionError)
    finally:
        lab.hv.stop()
        thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("wall", [True, False])
def test_what_can_wait_for_a_moment_waits_no_longer(lab: Lab, monkeypatch: pytest.MonkeyPatch, wall: bool) -> None:
    """Though the guest does nothing else, and its slice is long."""
    for module in (scheduler_module, timeline_module):
        monkeypatch.setattr(module, "SLICE_NS", 60_000 * MILLISECOND)
    monkeypatch.setattr(scheduler_module, "HOST_SLICE_NS", 60_000 * MILLISECOND)
    lab.domain(spin(), timeline=lab.hv.wall if wall else None)
    done: list[str] = []

    def heard() -> None:
        done.append("soon")
        lab.hv.post(lambda: None)  # the guest does not run again: `run_until` looks

    for number in range(3):
        threading.Timer(0.05, lambda: lab.hv.scheduler.soon(heard)).start()
        assert lab.hv.run_until(lambda number=number: len(done) > number, 30)  # type: ignore[misc]


def test_what_can_wait_for_a_moment_does_not_wait_for_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody runs, and so nobody is disturbed."""
    monkeypatch.setattr(patience_module, "SOON_NS", 60_000 * MILLISECOND)
    monkeypatch.setattr(scheduler_module, "IDLE_WAIT_S", 60.0)
    done: list[str] = []
    threading.Timer(0.05, lambda: lab.hv.scheduler.soon(lambda: done.append("soon"))).start()
    assert lab.hv.run_until(lambda: bool(done), 30)


def test_who_is_taken_while_it_is_added_leaves_no_time_behind() -> None:
    """Or else each run of a guest would be over when it begins."""
    waiting = Patience()

    class Racing(deque[Callable[[], None]]):
        def append(self, function: Callable[[], None]) -> None:
            super().append(function)
            assert list(waiting.take()) == [function]  # by the hypervisor's thread, in this moment

    waiting.waiting = Racing()
    waiting.add(lambda: None)
    assert not list(waiting.take()) and waiting.due == NEVER


@pytest.mark.parametrize("nothing_left", [None, False, True])
def test_a_guest_that_signals_often_is_heard_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, nothing_left: bool | None
) -> None:
    """By a function that has another one before it, which is called at each signal: it waits until the guest rests, or
    is not called at all."""
    monkeypatch.setattr(patience_module, "SOON_NS", 60_000 * MILLISECOND)
    code = no_ticks(Code(CODE))
    for _ in range(5):
        code.hypercall(HYPERVISOR_event_channel_op, EVTCHNOP_send, DATA)
    code.hypercall(HYPERVISOR_sched_op, SCHEDOP_block, 0)
    domain = lab.domain(code, timeline=lab.hv.wall)
    offered, dom0 = domain.events.alloc_unbound(0), lab.hv.dom0.events
    lab.poke(domain, DATA, offered)
    heard: list[bool] = []
    first: list[bool] = []

    def at_once() -> bool:
        first.append(domain.vcpus[0].blocked)
        return bool(nothing_left)

    port = dom0.bind_interdomain(domain.events, offered)
    dom0.bind_handler(port, lambda: heard.append(domain.vcpus[0].blocked), None if nothing_left is None else at_once)
    assert lab.hv.run_until(lambda: domain.vcpus[0].blocked and not lab.hv.scheduler._patience.waiting, 20)
    assert True not in first
    if nothing_left is None:
        assert len(heard) >= 5 and True not in heard
    elif nothing_left:
        assert len(first) >= 5 and not heard
    else:  # (Binding makes one signal, which may be heard before the guest begins.)
        assert first and heard in ([False, True], [True])


def test_a_mistake_in_a_callback_does_not_end_the_loop() -> None:
    lab = Lab()

    def fail() -> None:
        raise ZeroDivisionError

    lab.hv.scheduler.defer(fail)
    lab.hv.wall.after(0, fail)
    happened: list[int] = []
    lab.hv.wall.after(1, lambda: happened.append(1))
    assert lab.hv.run_until(lambda: bool(happened), 10)
    assert ["ZeroDivisionError" in text for text in lab.hv.bugs] == [True, True]
