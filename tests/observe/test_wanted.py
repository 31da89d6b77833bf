# SPDX-License-Identifier: GPL-2.0-or-later
"""A trace has what was asked for and nothing else, and a wrong word gets the right one."""

from __future__ import annotations

import pytest

from pvhv.abi.xen import HYPERVISOR_mmu_update, HYPERVISOR_multicall, HYPERVISOR_sched_op
from pvhv.observe import counters
from pvhv.observe.naming import call_name, name_of
from pvhv.observe.record import Record
from pvhv.observe.syscall_names import KERNELS, UNKNOWN, error_name
from pvhv.observe.tally import IN_MULTICALL, Tally
from pvhv.observe.trace import Recorder
from pvhv.observe.wanted import EVERYTHING, KINDS, USUAL, UnknownWord, Wanted, kinds_named, names_named
from pvhv.testing import Machine

TYPED = "ps\necho a | cat | wc\nexit\n"


def run(*wanted: Wanted) -> list[list[Record]]:
    """One session of a guest, watched by several at once."""
    told: list[list[Record]] = [[] for _ in wanted]
    with Machine() as machine:
        guest = machine.create("guest-pv", stdin=TYPED, paused=True)
        recorder = Recorder(machine.hypervisor)
        for records, each in zip(told, wanted, strict=True):
            recorder.start(guest.domain, records.append, each)
        guest.start()
        assert machine.run(guest)
    return told


def test_kinds() -> None:
    assert kinds_named([]) is None
    assert kinds_named(["hypercall, fault", "event"]) == {"hypercall", "fault", "event"}
    assert kinds_named(["!cpuid,io"]) == USUAL - {"cpuid", "io"} == kinds_named(["^cpuid", "^io"])
    assert kinds_named(["running"]) == {"running"}
    with pytest.raises(UnknownWord) as wrong:
        kinds_named(["hypercal"])
    assert wrong.value.message == "there is no kind of record 'hypercal'"
    assert wrong.value.hint == f"did you mean 'hypercall'?\nthere are: {', '.join(KINDS)}"


def test_names() -> None:
    calls, faults = names_named(["mmu_update,sched_op.block", "sched_op.YIELD,page_fault"])
    assert calls == {HYPERVISOR_mmu_update: None, HYPERVISOR_sched_op: {0, 1}} and faults == {14}
    assert names_named(["sched_op,sched_op.block"])[0] == {HYPERVISOR_sched_op: None}
    for word, near in (("mmu_updat", "mmu_update"), ("page_fualt", "page_fault"), ("sched_op.blok", "block")):
        with pytest.raises(UnknownWord) as wrong:
            names_named([word])
        assert f"did you mean '{near}'?" in wrong.value.hint
    with pytest.raises(UnknownWord, match=r"\\x1b"):
        names_named(["\x1b[2J"])


def test_system_calls() -> None:
    linux = KERNELS["linux"]
    assert linux.named(["openat"]) == {("x86-64", 257), ("i386", 295)}
    assert linux.named(["any", "nonsense"]) == frozenset()
    assert UNKNOWN.named(["257"]) == {("x86-64", 257)} and UNKNOWN.name("x86-64", 257) == "syscall_257"
    with pytest.raises(UnknownWord) as wrong:
        linux.named(["opneat"])
    assert wrong.value.hint.startswith("did you mean 'openat'?\nthere are: any, ") and len(wrong.value.hint) < 1200
    assert ("x86-64", 231) in linux.endless
    assert error_name(-9) == "EBADF" and error_name(3) is None and error_name(-4096) is None


def test_a_narrow_trace_is_part_of_the_whole() -> None:
    calls, _faults = names_named(["mmu_update,stack_switch"])
    whole, events, named, second = run(
        EVERYTHING, Wanted(kinds=frozenset({"event", "upcall"})), Wanted(kinds=frozenset({"hypercall"}), calls=calls),
        Wanted(vcpus=frozenset({1})),
    )  # fmt: skip
    assert events == [record for record in whole if record.kind in ("event", "upcall")] and len(events) > 5
    found = [call for record in named for call in (record.data[0].entries or record.data)]
    there = [call for record in whole if record.kind == "hypercall" for call in (record.data[0].entries or record.data)]
    assert found == [call for call in there if call.number in calls]
    assert {call_name(call) for call in found} == {"mmu_update", "stack_switch"}
    assert any(record.data[0].number == HYPERVISOR_multicall for record in named)
    assert second == []


def test_what_nobody_wants_is_not_even_probed() -> None:
    with Machine() as machine:
        guest = machine.create("test-hello", paused=True)
        pcpu = guest.domain.timeline.cpu.pcpu
        before = (pcpu.on_syscall, pcpu.on_int, pcpu.on_cpuid, pcpu.on_io, pcpu.on_exception[14])
        recorder = Recorder(machine.hypervisor)
        records: list[Record] = []
        more: list[Record] = []
        recorder.start(guest.domain, records.append, Wanted(kinds=frozenset({"hypercall"})))
        during = (pcpu.on_syscall, pcpu.on_int, pcpu.on_cpuid, pcpu.on_io, pcpu.on_exception[14])
        assert [a is b for a, b in zip(before, during, strict=True)] == [False, True, True, True, True]
        recorder.start(guest.domain, more.append, Wanted(kinds=frozenset({"io"})))
        assert pcpu.on_io is not before[3]
        recorder.stop(guest.domain, records.append)
        assert pcpu.on_syscall is before[0] and pcpu.on_io is not before[3]
        recorder.stop(guest.domain, more.append)
        after = (pcpu.on_syscall, pcpu.on_int, pcpu.on_cpuid, pcpu.on_io, pcpu.on_exception[14])
        assert all(a is b for a, b in zip(before, after, strict=True))
        assert "deliver_pending" not in vars(machine.hypervisor)


def test_a_probe_that_was_covered_stays_and_is_silent() -> None:
    """Somebody else (a debugger, say) put a handler around ours: his is not thrown away when we go."""
    with Machine() as machine:
        guest = machine.create("test-hello", paused=True)
        pcpu = guest.domain.timeline.cpu.pcpu
        recorder = Recorder(machine.hypervisor)
        records: list[Record] = []
        recorder.start(guest.domain, records.append, EVERYTHING)
        ours, calls = pcpu.on_syscall, 0

        def theirs() -> None:
            nonlocal calls
            calls += 1
            ours()

        pcpu.on_syscall = theirs
        recorder.stop(guest.domain, records.append)
        assert pcpu.on_syscall is theirs
        guest.start()
        assert machine.run(guest)
        assert calls > 0 and records == []
        assert machine.result(guest).passed


def test_a_summary_counts_as_the_core_does() -> None:
    tally, every = Tally(), list[Record]()
    with Machine() as machine:
        guest = machine.create("guest-pv", stdin=TYPED, paused=True)
        recorder = Recorder(machine.hypervisor)
        table = KERNELS["guest_kernel"]
        wanted = Wanted(copies=False, syscalls=frozenset(), besides=True, endless=table.endless)
        recorder.start(guest.domain, tally.take, wanted)
        recorder.start(guest.domain, every.append, Wanted(copies=False))
        guest.start()
        assert machine.run(guest)
        recorder.stop(guest.domain, tally.take)
        counted = counters.read(guest.domain)
    summary = tally.plain(table)
    calls: dict[str, int] = {}
    for row in summary["rows"]:
        if row["kind"] in ("hypercall", IN_MULTICALL):
            name = row["name"].partition(".")[0]
            calls[name] = calls.get(name, 0) + row["count"]
    assert calls == counted.hypercalls
    faults = {row["name"]: row["count"] for row in summary["rows"] if row["kind"] == "fault"}
    assert faults["page_fault"] == counted.exits["page_fault"]
    by_name = {call["name"]: call["count"] for call in summary["calls"]}
    assert sum(by_name.values()) == counted.exits["syscall"] and by_name["fork"] == by_name["exec"] > 3
    assert {name_of(record) for record in every if record.kind == "hypercall"} >= {"multicall", "sched_op.block"}
