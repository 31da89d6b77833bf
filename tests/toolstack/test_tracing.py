# SPDX-License-Identifier: GPL-2.0-or-later
"""Records on their way to a client who may be slow: a virtual guest waits for him, a wall-clock one does not."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pvhv.observe.trace import Recorder
from pvhv.testing import Machine
from pvhv.toolstack import tracing
from pvhv.toolstack.errors import UsageError
from pvhv.toolstack.guest import Guest
from tests.toolstack.recipes import Recipe, shutdown

CALLS = 3000
# mov $CALLS, %ebp; 1: mov $17, %eax (xen_version); xor %edi, %edi; syscall; dec %ebp; jnz 1b
LOOP = b"\xbd" + CALLS.to_bytes(4, "little") + b"\xb8\x11\0\0\0\x31\xff\x0f\x05\xff\xcd\x75\xf3"


class Client:
    """Takes items, each after a moment."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.dropped = 0
        self.waited = False

    async def item(self, value: dict[str, Any]) -> None:
        await asyncio.sleep(0.005)
        self.records += value.get("records", [])
        self.dropped += value.get("dropped", 0)


def follow(
    tmp_path: Path, clock: str, monkeypatch: pytest.MonkeyPatch, count: bool = False
) -> tuple[Client, Any, bool]:
    """A guest that makes many hypercalls at once, traced through a queue that holds few records."""
    monkeypatch.setattr(tracing, "QUEUE", 256)
    monkeypatch.setattr(tracing, "LOW_WATER", 64)
    monkeypatch.setattr(tracing, "BATCH", 32)
    (tmp_path / "kernel.elf").write_bytes(Recipe(code=LOOP + shutdown(0)).build())
    client = Client()
    with Machine() as machine:
        hypervisor = machine.hypervisor
        guest = machine.create(tmp_path / "kernel.elf", clock=clock, paused=True)

        async def story() -> Any:
            loop = asyncio.get_running_loop()
            made = tracing.Tracing(machine.host, Recorder(hypervisor), guest, loop, count=count)
            thread = threading.Thread(target=hypervisor.run)
            hypervisor.post(guest.start)
            thread.start()
            try:
                return await asyncio.wait_for(made.deliver(client), 60)  # type: ignore[arg-type]
            finally:
                await asyncio.wrap_future(hypervisor.post(made.close))
                hypervisor.stop()
                thread.join()

        answer = asyncio.run(story())
        return client, answer, guest.domain.timeline.held == 0


def test_a_virtual_guest_waits_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, answer, let_go = follow(tmp_path, "virtual", monkeypatch)
    assert client.dropped == 0 and let_go
    calls = [record for record in client.records if record["kind"] == "hypercall"]
    assert len(calls) == CALLS + 1 and answer["records"] == len(client.records)
    times = [call["time"] for call in calls]
    assert {after - before for before, after in pairwise(times[:-1])} == {5}  # instructions a round


def test_a_guest_on_the_wall_clock_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _answer, let_go = follow(tmp_path, "wall", monkeypatch)
    assert len(client.records) + client.dropped > CALLS and client.dropped > 0 and let_go


def test_a_summary_loses_nothing_on_any_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, answer, _let_go = follow(tmp_path, "wall", monkeypatch, count=True)
    assert client.records == []
    rows = {row["name"]: row for row in answer["summary"]["rows"] if row["kind"] == "hypercall"}
    assert rows["xen_version.version"]["count"] == CALLS
    assert rows["xen_version.version"]["ns"] > 0 == rows["xen_version.version"]["errors"]


def wanted(guest: Guest, *kinds: str, everything: bool = False, **more: list[str]) -> Any:
    texts = [list(kinds), *(more.get(name, []) for name in ("only", "vcpus", "syscalls"))]
    return tracing.wanted_of(guest, *texts, copies=True, everything=everything)


def test_what_is_wanted_of_whom(tmp_path: Path) -> None:
    with Machine() as machine:
        guest = machine.create("guest-pv", paused=True, vcpus=1)
        full = machine.create("guest-native", name="full", paused=True, technique="hw-nested")
        assert wanted(guest, only=["mmu_update"]).kinds == {"hypercall"}
        assert wanted(guest, only=["mmu_update,page_fault"]).kinds == {"hypercall", "fault"}
        assert "running" in wanted(guest, everything=True).kinds and wanted(guest, everything=True).besides
        assert not wanted(guest, "hypercall", everything=True).follows
        assert not wanted(full, everything=True).follows
        assert not wanted(guest, everything=True, syscalls=["read"]).besides
        for who, kinds, more, words in (
            (guest, ["fault"], {"only": ["mmu_update"]}, "leaves out: hypercall"),
            (guest, [], {"vcpus": ["1"]}, "guest has vCPU 0 alone"),
            (guest, [], {"vcpus": ["-1"]}, "--vcpu -1: there is no such vCPU"),
            (guest, ["exit"], {}, "is paravirtualized"),
            (full, ["hypercall"], {}, "the kinds exit, callout and device"),
            (full, [], {"syscalls": ["any"]}, "do not reach the hypervisor"),
            (guest, [], {"syscalls": ["raed"]}, "did you mean 'read'?"),
        ):
            with pytest.raises(UsageError) as wrong:
                wanted(who, *kinds, **more)  # type: ignore[arg-type]
            assert words in str(wrong.value)
