# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that is taken off its pCPU and put back thousands of times does not notice.

What is counted in a register, in memory by several instructions and in an SSE register is the same number at the end;
what several vCPUs count in one place is the sum. Slices are made very short, and something outside stops the pCPU
besides. And on a virtual timeline none of that changes what happens when.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pvhv.abi.event_channel import EVTCHNOP_send
from pvhv.abi.sched import SCHEDOP_poll, SCHEDOP_yield
from pvhv.abi.vcpu import VCPUOP_stop_periodic_timer
from pvhv.abi.xen import (
    HYPERVISOR_event_channel_op,
    HYPERVISOR_sched_op,
    HYPERVISOR_set_timer_op,
    HYPERVISOR_vcpu_op,
    HYPERVISOR_xen_version,
)
from pvhv.core.domain import Domain
from pvhv.core.sched import scheduler as scheduler_module
from pvhv.core.sched.timeline import Timeline
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import R12, RAX, RBX, RDI, RIP, RSI
from tests.core import code as asm
from tests.core.code import Code
from tests.core.lab import CODE, DATA, STOPPED, Lab

END = DATA + 0x800  # when this is not zero the guest stops
PLACES = 4  # words from DATA on that count the same


def counting(at: int = CODE, extra: str = "") -> Code:
    """Count, in as many ways as can go wrong, until END says to stop; the SSE register's count is stored then."""
    code = Code(at).mov(asm.RBX, DATA).mov(asm.R12, 0).mov(asm.RAX, 1)
    code.raw("66 48 0f 6e c8 66 0f ef c0")  # movq %rax, %xmm1; pxor %xmm0, %xmm0
    again = code.here
    code.inc(asm.R12).raw("48 ff 03")  # incq (%rbx)
    code.mov(asm.RAX, 1).raw("f0 48 0f c1 43 08")  # lock xadd %rax, 8(%rbx)
    code.raw("ff 73 10 48 83 04 24 01 8f 43 10")  # pushq 16(%rbx); addq $1, (%rsp); popq 16(%rbx)
    code.raw("66 0f d4 c1")  # paddq %xmm1, %xmm0
    code.raw(extra)
    code.load(asm.RAX, END).cmp(asm.RAX, 0)
    code.raw("0f 84").raw((again - code.here - 4).to_bytes(4, "little", signed=True))  # je again
    code.raw("66 0f d6 43 18")  # movq %xmm0, 24(%rbx)
    return code.ud2()


@contextmanager
def storm(lab: Lab) -> Iterator[None]:
    """Stop the pCPUs and post functions, as fast as another thread can."""
    done = threading.Event()

    def blow() -> None:
        while not done.wait(0.0003):
            for virtual in (True, False):
                lab.hv.cpu(virtual).pcpu.stop()
            lab.hv.post(lambda: None)

    thread = threading.Thread(target=blow)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def switches(lab: Lab) -> list[int]:
    """Counts how often a context was put on a pCPU."""
    count = [0]
    for virtual in (True, False):
        cpu: Any = lab.hv.cpu(virtual)
        original = cpu.load

        def load(vcpu: VCPU, cpu: Any = cpu, original: Any = original) -> None:
            count[0] += cpu.loaded is not vcpu
            original(vcpu)

        cpu.load = load
    return count


def timeline_of(lab: Lab, clock: str) -> Timeline:
    return lab.hv.wall if clock == "wall" else lab.hv.timeline("lab")


def finish(lab: Lab, *domains: Domain) -> None:
    for domain in domains:
        lab.poke(domain, END, 1)
    lab.run(*domains)
    assert all(domain.shutdown_code == STOPPED for domain in domains), domains[0].crash_report


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_two_domains_count_on_one_pcpu(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "SLICE_NS", 60_000 if clock == "wall" else 3_000)
    lab = Lab()
    count = switches(lab)
    domains = [lab.domain(counting(), timeline=timeline_of(lab, clock)) for _ in range(2)]
    with storm(lab):
        assert lab.hv.run_until(lambda: count[0] > 1500, 20)
    finish(lab, *domains)
    for domain in domains:
        rounds = domain.vcpus[0].state[R12]
        assert rounds > 1000
        assert [lab.word(domain, DATA + 8 * n) for n in range(PLACES)] == [rounds] * PLACES


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_two_vcpus_count_in_one_place(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked instruction is whole; even one that is not is, as all vCPUs of a domain share a pCPU."""
    monkeypatch.setattr(scheduler_module, "SLICE_NS", 60_000 if clock == "wall" else 3_000)
    lab = Lab()
    count = switches(lab)
    domain = lab.domain(counting(), timeline=timeline_of(lab, clock), vcpus=2)
    lab.hv.set_context(domain.vcpus[1], lab.context(domain, CODE, vcpu_id=1))
    with storm(lab):
        assert lab.hv.run_until(lambda: count[0] > 1500, 20)
    lab.poke(domain, END, 1)
    ended = [False, False]
    handler = lab.handler(6)
    lab.write(domain, handler, b"\xeb\xfe")  # jmp to itself: wait for the other one

    def both() -> bool:
        for vcpu in domain.vcpus:
            ended[vcpu.vcpu_id] = handler <= vcpu.state[RIP] < handler + 2
        return all(ended)

    assert lab.hv.run_until(both, 20)
    rounds = sum(vcpu.state[R12] for vcpu in domain.vcpus)
    assert min(vcpu.state[R12] for vcpu in domain.vcpus) > 100
    assert [lab.word(domain, DATA + 8 * n) for n in range(2)] == [rounds] * 2


@pytest.mark.parametrize("clock", ["wall", "virtual"])
def test_exits_in_between(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a hypercall and a yield in each round."""
    monkeypatch.setattr(scheduler_module, "SLICE_NS", 60_000 if clock == "wall" else 3_000)
    calls = Code(0).hypercall(HYPERVISOR_xen_version, 0).hypercall(HYPERVISOR_sched_op, SCHEDOP_yield, 0)
    lab = Lab()
    count = switches(lab)
    domains = [
        lab.domain(counting(extra=bytes(calls.bytes).hex()), timeline=timeline_of(lab, clock)) for _ in range(2)
    ]
    with storm(lab):
        assert lab.hv.run_until(lambda: count[0] > 1500, 20)
    finish(lab, *domains)
    for domain in domains:
        rounds = domain.vcpus[0].state[R12]
        assert [lab.word(domain, DATA + 8 * n) for n in range(PLACES)] == [rounds] * PLACES
        assert domain.hypercall_counts[HYPERVISOR_xen_version] == rounds


# -- determinism -------------------------------------------------------------------------------------------------------
def busybody(seed: int, me: int) -> Code:
    """A guest that computes, signals, sleeps, yields and sets timers, by its own unvarying will."""
    chance = random.Random(seed)
    code = Code(CODE).hypercall(HYPERVISOR_vcpu_op, VCPUOP_stop_periodic_timer, 0, 0)
    again = code.here
    for _ in range(12):
        code.mov(asm.RBX, chance.randrange(1, 3000))
        loop = code.here
        code.inc_memory(DATA).add(asm.RBX, -1).jne(loop)
        what = chance.randrange(5)
        if what == 0:
            code.hypercall(HYPERVISOR_event_channel_op, EVTCHNOP_send, DATA + 0x100)
        elif what == 1:
            code.load(asm.RAX, DATA + 0x210).add(asm.RAX, chance.randrange(1000, 60_000)).store(DATA + 0x210, asm.RAX)
            code.hypercall(HYPERVISOR_sched_op, SCHEDOP_poll, DATA + 0x200)
        elif what == 2:
            code.hypercall(HYPERVISOR_sched_op, SCHEDOP_yield, 0)
        elif what == 3:
            code.load(asm.RDI, DATA + 0x210).mov(asm.RAX, HYPERVISOR_set_timer_op).syscall()
        else:
            code.hypercall(HYPERVISOR_xen_version, me)
    return code.jmp(again)


def story(disturbed: bool) -> list[tuple[int, ...]]:
    """Who made which hypercall when, until virtual time 8 ms: three domains, two of them joined by an event channel."""
    lab = Lab()
    timeline = lab.hv.timeline("lab")
    domains = [lab.domain(busybody(seed, seed)) for seed in range(3)]
    first, second = domains[:2]
    port = first.events.alloc_unbound(second.domid)
    other = second.events.bind_interdomain(first.events, port)
    for domain, number in ((first, port), (second, other)):
        lab.write(domain, DATA + 0x100, number.to_bytes(4, "little"))
        lab.write(domain, DATA + 0x180, number.to_bytes(4, "little"))
        lab.poke(domain, DATA + 0x200, DATA + 0x180)
        lab.poke(domain, DATA + 0x208, 1)
    told: list[tuple[int, ...]] = []
    cpu = lab.hv.cpu(True)
    original = cpu.pcpu.on_syscall

    def syscall() -> None:
        vcpu, state = cpu.current, cpu.state
        told.append((timeline.now(), vcpu.domain.domid, state[RAX], state[RDI], state[RSI], state[RIP], state[RBX]))
        original()

    cpu.pcpu.on_syscall = syscall
    if disturbed:
        bystander = lab.domain(Code(CODE).jmp(CODE), timeline=lab.hv.wall)
        with storm(lab):
            assert lab.hv.run_until(lambda: timeline.now() > 8_000_000, 30)
        assert bystander.runs
    else:
        assert lab.hv.run_until(lambda: timeline.now() > 8_000_000, 30)
    assert not lab.hv.bugs
    return [each for each in told if each[0] <= 8_000_000]


def test_what_happens_on_a_virtual_timeline_depends_on_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "SLICE_NS", 40_000)
    told = story(disturbed=False)
    assert len(told) > 1000
    assert len({each[1] for each in told}) == 3
    assert story(disturbed=True) == told
    assert story(disturbed=True) == told
