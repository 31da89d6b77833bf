# SPDX-License-Identifier: GPL-2.0-or-later
"""A trace tells what a guest did in the words of the specs, changes nothing, and leaves nothing behind."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvhv.abi.xen import HYPERVISOR_multicall
from pvhv.cli.trace_lines import line
from pvhv.observe import counters, decode
from pvhv.observe.record import Record, SystemCall
from pvhv.observe.trace import Recorder
from pvhv.testing import Machine
from pvhv.toolstack.guest import Guest
from tests.toolstack.recipes import Recipe, shutdown


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as made:
        yield made


def traced(
    machine: Machine, kernel: str | Path, clock: str = "virtual", name: str = "guest", vcpus: int = 1
) -> tuple[Guest, list[Record]]:
    """Run a kernel to its end with a trace on it."""
    guest = machine.create(kernel, paused=True, clock=clock, name=name, vcpus=vcpus)
    recorder, records = Recorder(machine.hypervisor), list[Record]()
    sink = records.append
    recorder.start(guest.domain, sink)
    guest.start()
    assert machine.run(guest)
    recorder.stop(guest.domain, sink)
    assert recorder.watches == {} and recorder._probes == []
    return guest, records


def kernel_of(tmp_path: Path, code: bytes) -> Path:
    path = tmp_path / "kernel.elf"
    path.write_bytes(Recipe(code=code).build())
    return path


def test_events_are_told_of_whatever_the_abi(machine: Machine) -> None:
    """A guest changes over to queues and back, twice: each signal before, between and after is on record."""
    guest, records = traced(machine, "test-event-fifo", vcpus=2)
    plain = [decode.plain(record, guest.symbols) for record in records]
    rings = [call for call in plain if call.get("command") == "send" and call["result"] == 0]
    ipis = [event for event in plain if event["kind"] == "event" and event["type"] == "ipi"]
    changes = [call for call in plain if call.get("command") == "init_control" and call["result"] == 0]
    assert [change["out"][0]["link_bits"] for change in changes] == [17] * 3
    assert len(ipis) > 20 and len(rings) > 20
    assert ipis[0]["time"] < changes[0]["time"] < ipis[-1]["time"]
    assert "set_pending" not in vars(guest.domain.events)


def test_a_hypercall_is_told_by_its_spec(machine: Machine, tmp_path: Path) -> None:
    guest, records = traced(machine, kernel_of(tmp_path, shutdown(0)))
    found = decode.plain(records[-1], guest.symbols)
    assert found["name"] == "sched_op"
    assert found["command"] == "shutdown"
    assert found["in"] == [{"reason": 0}]
    assert (found["vcpu"], found["mode"], found["symbol"]) == (0, "kernel", "end_of_it+0x9")
    text = line(found)
    assert text.split(maxsplit=2)[1:] == [
        "d1v0",
        "hypercall  sched_op.shutdown({reason=0}) = 0  at end_of_it+0x9",
    ]
    json.dumps(found)


def test_every_kind_of_record_has_words() -> None:
    samples: dict[str, tuple[object, ...]] = {
        "syscall": (39, (1, 2, 3, 4, 5, 6), "x86-64"),
        "fault": (14, 6, 0x1000, "bounced"),
        "event": (3, 3, (2, 0, 0, 9, 0)),
        "upcall": (),
        "int": (0x80, 4),
        "cpuid": (1,),
        "io": (0x64, 1, False, 255),
        "exit": ("IOIO", "out 0x3f8"),
        "callout": ("popf", ""),
        "device": ("xvda", 0, 0, 0, 8, 1, 8, 7, "vbd"),
        "running": (2,),
        "switch": ("out",),
        "return": (SystemCall(1, "x86-64", -9, "returned", 0, 5, 0, 7, (("hypercall", "iret", 1), ("upcall", "", 2))),),
    }
    assert set(samples) | {"hypercall"} == set(decode.READERS)
    for kind, data in samples.items():
        found = decode.plain(Record(1_000_000_000, 1, 0, kind, 0x1234, False, data))
        json.dumps(found)
        assert line(found).startswith("   1.000000000 d1v0  ")
    fault = decode.plain(Record(0, 1, 0, "fault", 0x1234, False, samples["fault"]))
    assert fault["access"] == ["write", "user"]
    event = decode.plain(Record(0, 1, -1, "event", 0, False, samples["event"]))
    assert (event["from_domid"], event["from_port"]) == (0, 9)


def test_errors_go_by_name(machine: Machine, tmp_path: Path) -> None:
    # xen_version(999, 0); hypercall 63; then power off
    code = b"\xbf\xe7\x03\0\0\x31\xf6\xb8\x11\0\0\0\x0f\x05" + b"\xb8\x3f\0\0\0\x0f\x05" + shutdown(0)
    _guest, records = traced(machine, kernel_of(tmp_path, code))
    calls = [decode.plain(record) for record in records if record.kind == "hypercall"]
    assert [call["name"] for call in calls] == ["xen_version", "hypercall 63", "sched_op"]
    assert [call.get("error") for call in calls] == ["ENOSYS", "ENOSYS", None]
    assert calls[0]["command"] == 999


@pytest.mark.parametrize("kernel", ["test-multicall", "test-exceptions", "test-user-mode"])
def test_tracing_changes_nothing(kernel: str) -> None:
    """On a virtual clock the same instructions run at the same times, looked at or not."""
    with Machine() as machine:
        guest, records = traced(machine, kernel)
        looked_at = machine.result(guest)
    with Machine() as machine:
        guest = machine.create(kernel)
        machine.run(guest)
        alone = machine.result(guest)
    assert looked_at.passed and alone.passed, alone.output
    assert looked_at.counters == alone.counters
    calls = [record.data[0] for record in records if record.kind == "hypercall"]
    calls += [entry for call in calls for entry in call.entries if entry.number != HYPERVISOR_multicall]
    assert len(calls) == sum(alone.counters.hypercalls.values())
    for record in records:
        assert line(decode.plain(record, guest.symbols))


def test_a_trace_is_of_one_domain_only(machine: Machine) -> None:
    other = machine.create("test-hello", name="other", clock="virtual", timeline="t")
    guest, records = traced(machine, "test-hello")
    machine.run(other)
    assert {record.domid for record in records} == {guest.domid}
    assert machine.result(other).passed


def test_counters(machine: Machine) -> None:
    guest = machine.create("test-exceptions")
    machine.run(guest)
    found = counters.read(guest.domain)
    assert found.hypercalls["set_trap_table"] == 1
    assert found.exits["page_fault"] > 0
    assert found.total > 5
    assert found.runstate_ns["running"] == found.ran_ns > 0
    json.dumps(found.plain())
