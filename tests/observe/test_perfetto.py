# SPDX-License-Identifier: GPL-2.0-or-later
"""The picture of a trace keeps the rules of its format, however it ends, and is the same in every run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvhv.cli.trace_file import TraceFile
from pvhv.observe import counters, decode
from pvhv.observe.perfetto import Picture, lines, microseconds
from pvhv.observe.record import Record
from pvhv.observe.syscall_names import KERNELS
from pvhv.observe.trace import Recorder
from pvhv.observe.wanted import KINDS, Wanted
from pvhv.testing import Machine
from pvhv.toolstack.errors import ToolstackError
from tests.observe import trace_events

TABLE = KERNELS["guest_kernel"]
ALL = Wanted(kinds=frozenset(KINDS), syscalls=frozenset(), besides=True, endless=TABLE.endless)


def picture(
    kernel: str = "guest-pv", clock: str = "virtual", technique: str | None = None, stdin: str = "echo a | wc\nexit\n"
) -> tuple[str, counters.Counters]:
    """A run as a file's text, and what the core counted."""
    records: list[Record] = []
    with Machine() as machine:
        guest = machine.create(kernel, stdin=stdin, clock=clock, paused=True, technique=technique)
        recorder = Recorder(machine.hypervisor)
        recorder.start(guest.domain, records.append, ALL if technique is None else Wanted())
        guest.start()
        assert machine.run(guest, timeout=60)
        recorder.stop(guest.domain, records.append)
        counted = counters.read(guest.domain)
        drawn = Picture("guest", len(guest.domain.vcpus))
        events = [*drawn.begin()]
        for record in records:
            events += drawn.add(decode.plain(record, guest.symbols, TABLE))
        events += drawn.end()
    return "[\n" + ",\n".join(lines(events)) + "\n]\n", counted


def test_it_keeps_the_rules_and_shows_everything() -> None:
    text, counted = picture()
    events = trace_events.read(text)
    trace_events.check(events)
    slices = Counter((event["cat"], event["name"].partition(".")[0]) for event in events if event["ph"] == "X")
    for name, count in counted.hypercalls.items():
        assert slices["hypercall", name] + slices["in multicall", name] == count, name
    assert slices["fault", "page_fault"] == counted.exits["page_fault"]
    rows = Counter(event["name"] for event in events if event["ph"] == "b")
    assert sum(rows.values()) - rows["switched out"] == counted.exits["syscall"]
    assert rows["fork"] >= 2 and rows["switched out"] > 2
    threads = {event["args"]["name"] for event in events if event.get("name") == "thread_name"}
    assert threads == {"vCPU 0", "event channels"}
    arrows = Counter(event["ph"] for event in events)
    assert arrows["s"] >= arrows["f"] > 2 and arrows["B"] == arrows["E"] > 2
    rates = [event for event in events if event["ph"] == "C"]
    exits = sum(event["args"].get("hypercall", 0) for event in rates) // 100  # periods of 10 ms
    assert exits == sum(event.get("cat") == "hypercall" for event in events)


@pytest.mark.skipif(find_spec("perfetto") is None, reason="Perfetto's definitions are missing: pip install perfetto")
@pytest.mark.parametrize(("kernel", "technique"), [("guest-pv", None), ("guest-native", "trap-emulate")])
def test_perfetto_s_own_definitions_take_every_event(tmp_path: Path, kernel: str, technique: str | None) -> None:
    text, _counted = picture(kernel, technique=technique, stdin="exit\n" if technique else "echo a | wc\nexit\n")
    path = tmp_path / "trace.json"
    path.write_text(text)
    program = Path(__file__).with_name("perfetto_protos.py")
    done = subprocess.run([sys.executable, str(program), str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found, phases = json.loads(done.stdout), Counter(event["ph"] for event in trace_events.read(text))
    types = found["types"]
    assert found["events"] == phases.total() and found["undescribed"] == 0
    assert types["track_descriptor"] == phases["M"] and types["TYPE_COUNTER"] >= phases["C"] > 0
    assert types["TYPE_UNSPECIFIED"] == phases["X"] + phases["b"] + phases["e"]
    assert types.get("TYPE_SLICE_BEGIN", 0) == types.get("TYPE_SLICE_END", 0) == phases["B"]
    assert types.get("TYPE_INSTANT", 0) == phases["s"] + phases["f"]


@given(st.integers(0, 10**15))  # eleven days
def test_no_nanosecond_is_lost(ns: int) -> None:
    assert trace_events.nanoseconds(microseconds(ns)) == ns


def test_the_same_run_makes_the_same_bytes() -> None:
    assert picture()[0] == picture()[0]


def test_on_the_wall_clock_slices_have_a_length_and_nest() -> None:
    events = trace_events.read(picture(clock="wall")[0])
    trace_events.check(events)
    calls = [event for event in events if event.get("cat") == "hypercall"]
    assert sum(event["dur"] > 0 for event in calls) > len(calls) / 2


def test_a_fully_virtualized_guest() -> None:
    events = trace_events.read(picture("guest-native", technique="hw-nested", stdin="exit\n")[0])
    trace_events.check(events)
    assert {"NPF", "CPUID"} <= {event["name"] for event in events if event["ph"] == "X"}


def test_a_trace_that_ends_in_the_middle_is_closed() -> None:
    drawn = Picture("guest", 1)
    call = {"time": 5000, "vcpu": 0, "kind": "syscall", "name": "read", "number": 0, "call": 1, "depth": 0}
    records = [
        {"time": 1000, "vcpu": 0, "kind": "running", "then": "running"},
        call,
        {"time": 6000, "vcpu": 0, "kind": "switch", "what": "out", "call": 1, "depth": 1},
        {"time": 7000, "vcpu": 0, "kind": "return", "call": 99, "depth": 0},  # of one that began before
        {"time": 8000, "vcpu": 1, "kind": "running", "then": "blocked"},
    ]
    events = [*drawn.begin(), *(event for record in records for event in drawn.add(record)), *drawn.end()]
    told = trace_events.read("[" + ",".join(lines(events)) + "]")
    trace_events.check(told)
    assert [event["name"] for event in told if event["ph"] == "e"] == ["switched out", "read"]


def test_the_file_can_be_read_at_every_moment(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    file = TraceFile(str(path))
    file.begin({"tracing": "guest", "vcpus": 1})
    for time in range(1, 50):
        file.add([{"time": time * 1000, "vcpu": 0, "kind": "upcall", "rip": 1 << 63}] * (time % 3))
        trace_events.check(trace_events.read(path.read_text()))
    file.end()
    file.end()
    text = path.read_text()
    assert text.endswith("\n]\n") and len(trace_events.read(text)) == file.events == 5 + 49
    trace_events.check(trace_events.read(text))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none/trace.json", "No such file or directory"), (".", "Is a directory"), ("a\0b", "it is no name of a file")],
)
def test_a_file_that_cannot_be_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ToolstackError, match=reason):
        TraceFile(f"{tmp_path}/{name}").begin({"tracing": "guest", "vcpus": 1})


def test_a_full_disk_is_said_once(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        assert tmp_path.exists()  # a system without one
        return
    file = TraceFile(str(full))
    with pytest.raises(ToolstackError, match="cannot write /dev/full: No space left on device"):
        file.begin({"tracing": "guest", "vcpus": 1})
    file.end()
