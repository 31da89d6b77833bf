# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens between a stock Linux and its hypervisor for a system call, seen from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from pvhv.observe import counters, decode
from pvhv.observe.perfetto import Picture, lines
from pvhv.observe.record import AMD64, Record
from pvhv.observe.syscall_names import KERNELS
from pvhv.observe.trace import Recorder
from pvhv.observe.wanted import KINDS, Wanted
from pvhv.testing import Machine
from tests.linux.conftest import Linux
from tests.observe import trace_events

pytestmark = pytest.mark.linux

TABLE = KERNELS["linux"]
ALL = Wanted(kinds=frozenset(KINDS), syscalls=frozenset(), besides=True, endless=TABLE.endless)
TYPED = "echo to be seen; ls /bin | wc -l; (sleep 0.1; true) & (seq 300 | md5sum); wait; poweroff -f\n"


def traced(linux: Linux, vcpus: int) -> tuple[list[Record], counters.Counters, list[trace_events.Event]]:
    """A session's records, beginning with user space; what the core counted; its picture."""
    records: list[Record] = []
    with Machine(256) as machine:
        guest = machine.create(
            linux.kernel, ramdisk=linux.ramdisk, cmdline="console=hvc0", memory=256, vcpus=vcpus, stdin=TYPED,
            paused=True,
        )  # fmt: skip
        picture = Picture("linux", vcpus)
        assert guest.kernel.guest_os == "linux"

        def take(record: Record) -> None:
            if records or record.kind == "syscall":
                records.append(record)

        recorder = Recorder(machine.hypervisor)
        recorder.start(guest.domain, take, ALL)
        guest.start()
        assert machine.run(guest, timeout=240)
        recorder.stop(guest.domain, take)
        events = [*picture.begin()]
        for record in records:
            events += picture.add(decode.plain(record, guest.symbols, TABLE))
        events += picture.end()
        return records, counters.read(guest.domain), trace_events.read("[" + ",\n".join(lines(events)) + "]")


def named(records: Iterable[Record], name: str) -> list[Record]:
    """The ends of system calls of that name."""
    return [
        record
        for record in records
        if record.kind == "return" and TABLE.name(record.data[0].abi, record.data[0].number) == name
    ]


def of(records: Iterable[Record], end: Record) -> Counter[str]:
    """What a system call was made of, by name."""
    return Counter({name or kind: count for kind, name, count in end.data[0].exits})


def test_system_calls(linux: Linux) -> None:
    records, counted, events = traced(linux, 2)
    begun = [record for record in records if record.kind == "syscall"]
    ends = [record for record in records if record.kind == "return"]
    assert len(begun) == counted.exits["syscall"] > 500
    assert Counter(record.call for record in begun) == Counter(record.call for record in ends)
    how = Counter(end.data[0].how for end in ends)
    assert how["lost"] == 0 and how["returned"] > 0.9 * len(ends)
    assert {end.data[0].how for end in named(records, "rt_sigreturn")} == {"elsewhere"}
    assert {TABLE.name(AMD64, end.data[0].number) for end in ends if end.data[0].how == "unfinished"} <= {
        "exit_group", "exit", "wait4", "read", "poll", "reboot", "pause", "rt_sigtimedwait", "nanosleep",
        "clock_nanosleep",
    }  # fmt: skip
    # A write to hvc0 is a signal to the console's backend.
    written = [end for end in named(records, "write") if of(records, end)["event_channel_op.send"]]
    assert written and all(end.data[0].result >= 1 for end in written)
    # A new process that shares no memory is page tables: made, pinned.
    clones = [end for name in ("clone", "fork") for end in named(records, name) if end.data[0].how == "returned"]
    assert any(of(records, end)["mmu_update"] + of(records, end)["multicall"] > 5 for end in clones)
    assert all(end.data[0].how == "elsewhere" for end in named(records, "execve") if end.data[0].result is None)
    # Who waits for a child is away; the shell's goes on in its handler of SIGCHLD, which ends in a system call itself.
    waited = [end for end in named(records, "wait4") if end.data[0].away]
    assert waited and all(end.data[0].away <= end.time - end.data[0].began for end in waited)
    calls = {record.call for record in records if record.kind == "switch"}
    assert calls and {record.data[0] for record in records if record.kind == "switch"} == {"out", "back"}
    assert {record.vcpu for record in records if record.call} >= {0, 1}
    # And the cheapest of all is nothing but the way in and the way out (a kernel that looks at the TSC traps here).
    made = of(records, named(records, "getpid")[0])
    assert set(made) - {"general_protection"} == {"syscall", "iret"} and made["syscall"] == made["iret"] == 1
    trace_events.check(events)
    # Who asks is told, not the stub through which all ask.
    callers = {event["args"].get("caller", "").partition("+")[0] for event in events if event.get("cat") == "hypercall"}
    assert {"xen_mc_flush", "xen_vcpuop_set_next_event"} <= callers
