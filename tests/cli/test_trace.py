# SPDX-License-Identifier: GPL-2.0-or-later
"""`pvhv trace` as people use it: of what they ask for, summed up, into a file; and how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Pvhv
from tests.observe import trace_events
from tests.toolstack.recipes import SPIN

TYPED = "echo a | cat | wc\nexit\n"


@pytest.fixture
def hello(shared: Pvhv) -> Pvhv:
    """A guest on a virtual clock, ready to be created."""
    (shared.directory / "hello.cfg").write_text('kernel = "guest-pv"\nmemory = 16\nclock = "virtual"\nname = "hello"')
    return shared


def traced(pvhv: Pvhv, *options: str, typed: str = TYPED) -> subprocess.CompletedProcess[bytes]:
    """Trace a guest from its first instruction to its end."""
    pvhv.ok("create", "-p", "hello.cfg")
    process = begun(pvhv, *options)
    pvhv.ok("unpause", "hello")
    pvhv.ok("console", "hello", stdin=typed)
    out, error = process.communicate(timeout=60)
    pvhv.run("destroy", "hello")
    return subprocess.CompletedProcess(options, process.returncode, out, error)


def begun(pvhv: Pvhv, *options: str, name: str = "hello") -> subprocess.Popen[bytes]:
    """A trace that is on."""
    process = pvhv.start("trace", name, *options)
    assert process.stderr is not None
    line = process.stderr.readline()
    if line != f"pvhv: tracing {name}\n".encode():
        process.kill()
        pytest.fail((line + process.communicate()[1]).decode())
    return process


def test_of_what_is_asked_for(hello: Pvhv) -> None:
    done = traced(hello, "--json", "--only", "sched_op.shutdown,stack_switch")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record["kind"] for record in records} == {"hypercall"}
    assert records[-1]["in"] == [{"reason": 0}]
    calls = [call["name"] for record in records for call in record.get("entries", [record])]
    assert set(calls) == {"stack_switch", "sched_op"} and len(calls) > 5


def test_a_system_call(hello: Pvhv) -> None:
    done = traced(hello, "-s", "fork", "-n", "2")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0
    assert lines[0].split()[2:4] == ["#1", "syscall"] and "fork(" in lines[0]
    assert all(line.split()[2] in ("#1", "#2") for line in lines if "d1v0" in line)
    assert "| hypercall  multicall(" in done.stdout.decode()
    assert "return     fork = " in lines[-1] and "exits: " in lines[-1]


def test_summed_up(hello: Pvhv) -> None:
    text = traced(hello, "-c", "-s", "any").stdout.decode()
    heading, *rows = text.splitlines()
    assert heading.split("  ")[-1] == "System call"
    assert {"fork", "exec", "write", "read"} <= {row.split()[-1] for row in rows if row}
    assert "in multicall" in text and "stack_switch" in text
    summary = json.loads(traced(hello, "-c", "--json").stdout)
    assert summary["calls"] == [] and sum(row["count"] for row in summary["rows"]) > 100


def test_requests_of_a_disk(hello: Pvhv) -> None:
    """A domain's own driver, on the clock of the wall: what it asked for, in what pieces, and how long that took."""
    (hello.directory / "hello.cfg").write_text(
        'kernel = "guest-pv"\nmemory = 16\nname = "hello"\ndisk = ["d.img,raw,xvda,rw"]'
    )
    (hello.directory / "d.img").write_bytes(bytes(1 << 20))
    typed = [
        "dd if=/dev/xvda of=/x bs=8k skip=4 count=1 iflag=direct", "dd if=/x of=/dev/xvda bs=8k seek=9 conv=fsync",
        "dd if=/dev/xvda of=/dev/null bs=512 skip=3 count=1 iflag=direct", "exit\n",
    ]  # fmt: skip
    done = traced(hello, "--kind", "device", typed="\n".join(typed))
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0 and lines
    request = re.compile(
        r" *\d+\.\d+ d\d+ +device     xvda ring 0 #\d+: (\w+) sector (\d+), (\d+) bytes in (\d+ segments?), "
        r"([\d.]+) (us|ms|s)"
    )
    found = [request.fullmatch(line) for line in lines]
    assert all(found), lines
    told = [match.groups()[:4] for match in found if match]
    assert ("read", "64", "8192", "2 segments") in told and ("write", "144", "8192", "2 segments") in told
    assert ("read", "0", "4096", "1 segment") in told  # its kernel reads a page
    assert ("flush", "0", "0", "0 segments") in told
    assert all(float(match[5]) > 0 for match in found if match)


def test_ctrl_c_shows_the_sum(shared: Pvhv) -> None:
    shared.ok("create", shared.domain("spins", b"\xb8\x11\0\0\0\x31\xff\x0f\x05" + b"\xeb\xf5"))  # xen_version for ever
    process = begun(shared, "-c", name="spins")
    rows = lambda: int(json.loads(shared.ok("top", "--json", "-d", "0.1"))[0]["hypercalls_per_s"])  # noqa: E731
    shared.until(rows)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    (row,) = [line.split() for line in out.decode().splitlines() if "xen_version" in line]
    assert int(row[3]) > 10
    process = begun(shared, name="spins")
    assert process.stdout is not None and b"xen_version" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _out, error = process.communicate(timeout=30)
    assert process.returncode == 130 and b"Traceback" not in error
    shared.ok("destroy", "spins")


def test_a_file_for_perfetto(hello: Pvhv) -> None:
    texts = []
    for name in ("one.json", "two.json"):
        done = traced(hello, "--perfetto", name)
        assert done.returncode == 0 and done.stdout == b""
        texts.append((hello.directory / name).read_text())
        events = trace_events.read(texts[-1])
        trace_events.check(events)
        assert f"{name}: {len(events)} events; https://ui.perfetto.dev opens it" in done.stderr.decode()
    assert len(trace_events.read(texts[0])) > 300


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_file_that_is_broken_off_can_be_read_and_the_guest_goes_on(shared: Pvhv, end: signal.Signals) -> None:
    shared.ok("create", shared.domain("spins", b"\xb8\x11\0\0\0\x31\xff\x0f\x05" + b"\xeb\xf5"))
    path = shared.directory / f"{end.name}.json"
    process = begun(shared, "--perfetto", path.name, name="spins")
    shared.until(lambda: path.exists() and path.stat().st_size > 20_000)
    process.send_signal(end)
    process.communicate(timeout=30)
    assert process.returncode == (-end if end == signal.SIGKILL else 128 + end)
    text = path.read_text()
    events = trace_events.read(text[: text.rindex("\n")] if end == signal.SIGKILL else text)
    assert any(event.get("name") == "xen_version.version" for event in events)
    if end != signal.SIGKILL:
        json.loads(text)  # closed, to its last bracket
        trace_events.check(events)
    before = counted(shared)
    shared.until(lambda: counted(shared) > before)
    shared.ok("destroy", "spins")


def counted(pvhv: Pvhv) -> float:
    row: dict[str, Any] = pvhv.list()["spins"]
    return float(row["time"])


@pytest.mark.parametrize(
    ("options", "words", "status"),
    [
        (["--kind", "hypercal"], "did you mean 'hypercall'?", 2),
        (["--kind", ""], "there is no kind of record ''", 2),
        (["--kind", "exit"], "spins is paravirtualized", 2),
        (["--only", "mmu_updat"], "did you mean 'mmu_update'?", 2),
        (["--only", "sched_op.blok"], "there are: yield, block,", 2),
        (["--vcpu", "7"], "spins has vCPU 0 alone", 2),
        (["--syscall", "read"], "there is no system call 'read'", 2),  # of a kernel whose table nobody knows
        (["--limit", "0"], "--limit", 2),
        (["--count", "--limit", "3"], "end it by Ctrl-C", 2),
        (["--perfetto", "x", "--json"], "leave out --count and --json", 2),
        (["--perfetto", "nowhere/x"], "cannot write nowhere/x: No such file or directory", 1),
        (["--perfetto", "."], "cannot write .: Is a directory", 1),
        (["--perfetto", ""], "cannot write : No such file or directory", 1),
    ],
)
def test_mistakes(shared: Pvhv, options: list[str], words: str, status: int) -> None:
    if "spins" not in shared.list():
        shared.ok("create", shared.domain("spins", SPIN))
    assert words in shared.fails("trace", "spins", *options, status=status)
    assert "spins" in shared.list()


def test_a_full_disk(shared: Pvhv) -> None:
    if "spins" not in shared.list():
        shared.ok("create", shared.domain("spins", SPIN))
    if Path("/dev/full").exists():
        words = shared.fails("trace", "spins", "--perfetto", "/dev/full")
        assert words.startswith("pvhv: cannot write /dev/full: No space left on device\n")
    assert "spins" in shared.list()
    assert "there is no domain nobody" in shared.fails("trace", "nobody", "--perfetto", "kept.json")
    assert not (shared.directory / "kept.json").exists()
    shared.ok("destroy", "spins")
