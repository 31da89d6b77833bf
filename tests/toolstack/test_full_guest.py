# SPDX-License-Identifier: GPL-2.0-or-later
"""Fully virtualized domains as dom0 knows them: the same life as a paravirtual domain's, under every technique."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from pvhv.hvm.names import BARE, HW_NESTED
from pvhv.hvm.techniques.registry import TECHNIQUES
from pvhv.observe import decode
from pvhv.observe.trace import Record, Recorder
from pvhv.testing import Machine, Result, boot
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.full_guest import FullGuest
from pvhv.toolstack.guest import Guest
from pvhv.toolstack.lifecycle import QUICK_RESTARTS
from tests.toolstack.recipes import Recipe

NATIVE = "guest-native"
PROMPT = b"$ "

every_technique = pytest.mark.parametrize("technique", TECHNIQUES)
both_clocks = pytest.mark.parametrize("clock", ["virtual", "wall"])


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(128) as made:
        frames = made.hypervisor.frames.free_frames
        yield made
    hypervisor, store = made.hypervisor, made.host.store
    assert hypervisor.run_until(lambda: list(hypervisor.domains) == [0], 5)
    assert hypervisor.frames.free_frames == frames
    assert hypervisor.scheduler.timelines == [hypervisor.wall]
    assert store.children("/local/domain") == ("0",) and store.children("/vm") == ()
    assert hypervisor.bugs == []


def until(machine: Machine, so: Callable[[], bool], seconds: float = 20) -> None:
    assert machine.hypervisor.run_until(so, seconds)


def at_prompt(guest: Guest) -> bool:
    return guest.console.output().endswith(PROMPT)


def run(stdin: str, technique: str, **options: object) -> Result:
    return boot(NATIVE, stdin=stdin, technique=technique, timeout=60, memory=16, **options)  # type: ignore[arg-type]


# -- endings -------------------------------------------------------------------------------------------------------
@both_clocks
@every_technique
@pytest.mark.parametrize(("word", "status"), [("poweroff", 0), ("reboot", 10)])
def test_endings(technique: str, clock: str, word: str, status: int) -> None:
    result = run(f"{word}\n", technique, clock=clock)
    assert (result.ending, result.exit_status) == (word, status)
    assert result.report == ""


@every_technique
def test_a_panic_stays_on_the_screen_until_time_is_up(technique: str) -> None:
    """The kernel halts with interrupts off: nothing can happen any more, and it does not end by itself."""
    with Machine(16) as machine:
        guest = machine.create(NATIVE, stdin="crash\n", technique=technique, memory=16)
        until(machine, lambda: guest.console.output().endswith(b"Halted.\r\n") and guest.domain.vcpus[0].blocked)
        assert not machine.run(guest, timeout=0.1)
        result = machine.result(guest)
    assert (result.ending, result.exit_status) == ("timeout", 124)
    assert result.last_line == "Halted."


@every_technique
def test_what_is_told_to_the_debug_exit_port(technique: str) -> None:
    with Machine(16) as machine:
        guest = machine.create(NATIVE, stdin="reboot\n", technique=technique, memory=16, cmdline="debug-exit")
        assert isinstance(guest, FullGuest)
        machine.run(guest)
        assert guest.hvm.exit_code == 2 * 1 + 1
        assert machine.result(guest).ending == "poweroff"


# -- the console ---------------------------------------------------------------------------------------------------
@every_technique
def test_the_console_is_kept_and_takes_input(machine: Machine, technique: str) -> None:
    guest = machine.create(NATIVE, technique=technique, clock="wall", memory=16)
    until(machine, lambda: at_prompt(guest))
    guest.console.typed += b"echo one two | wc\n"
    guest.console.pump()
    until(machine, lambda: guest.console.output().count(PROMPT) == 2 and at_prompt(guest))
    text = guest.console.output().decode().replace("\r\n", "\n")
    assert text.endswith("$ echo one two | wc\n1 2 8\n$ ")
    assert text.startswith("guest_kernel (native)")


# -- life ----------------------------------------------------------------------------------------------------------
@every_technique
def test_a_row_of_the_list(machine: Machine, technique: str) -> None:
    guest = machine.create(NATIVE, technique=technique, clock="wall", memory=16)
    until(machine, lambda: at_prompt(guest) and guest.domain.vcpus[0].blocked)
    row = machine.host.describe(guest)
    assert (row["memory"], row["vcpus"], row["state"], row["clock"]) == (16, 1, "-b----", "wall")


@both_clocks
@every_technique
def test_destroyed_while_it_runs(machine: Machine, technique: str, clock: str) -> None:
    guest = machine.create(NATIVE, stdin="spin\n", technique=technique, clock=clock, memory=16)
    until(machine, lambda: guest.console.output().endswith(b"spin\r\n"))
    machine.hypervisor.run_until(lambda: False, 0.02)
    assert machine.host.describe(guest)["state"] == "r-----"
    gone = machine.host.destroy(guest)
    until(machine, gone.done)
    assert not machine.host.guests


@both_clocks
@every_technique
@pytest.mark.parametrize(
    "code",
    ["ebfe", "fa ebfe", "fa f4", "e480 ebfc", "0fa2 ebfc", "0f31 ebfc", "b9ffffffff f3ac ebf7", "f390 ebfc"],
    ids=["loop", "cli", "halt", "in", "cpuid", "rdtsc", "string", "pause"],
)
def test_what_never_ends_can_be_destroyed(
    machine: Machine, tmp_path: Path, technique: str, clock: str, code: str
) -> None:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(native(bytes.fromhex(code)))
    guest = machine.create(kernel, technique=technique, clock=clock, memory=8)
    machine.hypervisor.run_until(lambda: False, 0.01)
    gone = machine.host.destroy(guest)
    until(machine, gone.done, 5)


@both_clocks
@every_technique
def test_what_is_gone_is_forgotten(machine: Machine, technique: str, clock: str) -> None:
    """Above all the engine, which is big."""
    guest = machine.create(NATIVE, stdin="exit\n", technique=technique, clock=clock, memory=16)
    assert isinstance(guest, FullGuest)
    machine.run(guest)
    gone = machine.host.destroy(guest)
    until(machine, gone.done)
    remembered = [weakref.ref(thing) for thing in (guest, guest.hvm, guest.hvm.pcpu, guest.hvm.technique)]
    machine.ended.clear()
    del guest, gone
    gc.collect()
    assert [reference() for reference in remembered] == [None] * 4


@every_technique
def test_its_engine_goes_with_it(machine: Machine, technique: str) -> None:
    """At once, its thread as well: garbage is collected when it pleases."""

    def ticking() -> int:
        return sum(thread.name == "pvhv-ticker" for thread in threading.enumerate())

    before = ticking()
    guest = machine.create(NATIVE, stdin="exit\n", technique=technique, clock="wall", memory=16)
    machine.run(guest)
    assert ticking() > before  # it has run on the wall clock
    gc.disable()
    try:
        until(machine, machine.host.destroy(guest).done)
        assert ticking() == before
    finally:
        gc.enable()


@every_technique
def test_pause_and_unpause(machine: Machine, technique: str) -> None:
    guest = machine.create(NATIVE, stdin="spin\n", technique=technique, clock="wall", memory=16)
    until(machine, lambda: guest.domain.vcpus[0].ran > 0)
    machine.host.pause(guest)
    machine.hypervisor.run_until(lambda: False, 0.02)
    ran = guest.domain.vcpus[0].ran
    machine.hypervisor.run_until(lambda: False, 0.05)
    assert guest.domain.vcpus[0].ran == ran
    machine.host.unpause(guest)
    until(machine, lambda: guest.domain.vcpus[0].ran > ran)


@every_technique
def test_a_restart_is_another_life_with_the_same_console(machine: Machine, technique: str) -> None:
    guest = machine.create(NATIVE, technique=technique, clock="wall", memory=16)
    guest.config.on_reboot = "restart"
    for life in range(1, 3):
        until(machine, lambda life=life: guest.console.output().count(PROMPT) == life and at_prompt(guest))  # type: ignore[misc]
        guest.console.typed += b"reboot\n"
        guest.console.pump()
    until(machine, lambda: guest.console.output().count(b"guest_kernel (native)") == 3)
    (last,) = machine.host.guests.values()
    assert last is not guest and last.console is guest.console
    assert QUICK_RESTARTS > 3


def test_two_beside_each_other_and_a_paravirtual_one(machine: Machine) -> None:
    guests = [
        machine.create(NATIVE, name="one", technique=BARE, memory=16, stdin="spin 1\nexit\n"),
        machine.create(NATIVE, name="two", technique=HW_NESTED, memory=16, stdin="spin 1\nexit\n", clock="wall"),
        machine.create("guest-pv", name="three", memory=16, stdin="spin 1\nexit\n"),
    ]
    assert machine.run(*guests, timeout=60)
    assert [guest.ended.name for guest in guests if guest.ended] == ["poweroff"] * 3


# -- the same, every time ------------------------------------------------------------------------------------------
@every_technique
def test_two_runs_are_one_even_under_load(technique: str) -> None:
    """Output, time, instructions and exits; the second run has to share its processor with somebody."""

    def once() -> tuple[bytes, int, int, int, object]:
        with Machine(16) as machine:
            guest = machine.create(NATIVE, stdin="usertest sleep\nps\nsleep 1\nexit\n", technique=technique, memory=16)
            assert isinstance(guest, FullGuest)
            machine.run(guest, timeout=60)
            full = guest.hvm
            counted = full.counts.snapshot()
            return machine.result(guest).raw, full.timeline.now(), *full.instructions, counted

    quiet = once()
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        busy = once()
    finally:
        for process in load:
            process.kill()
            process.wait()
    assert quiet == busy


# -- crashes, and what is told of them -----------------------------------------------------------------------------
@every_technique
def test_a_crash_report_is_about_the_guests_own_cpu(machine: Machine, technique: str) -> None:
    guest = machine.create(NATIVE, technique=technique, memory=16)
    until(machine, lambda: at_prompt(guest) and guest.domain.vcpus[0].blocked)
    machine.hypervisor.crash(guest.domain, "for a test", guest.domain.vcpus[0])
    until(machine, lambda: guest.ended is not None)
    assert guest.ended is not None and guest.ended.status == 20
    lines = guest.report.splitlines()
    assert lines[0].endswith("crashed: for a test")
    assert lines[1] == "vCPU 0 at CPL 0, 64-bit mode"
    assert "<native_idle+" in lines[2] and "cs 0008" in lines[2]
    controls = next(line.split() for line in lines if line.startswith("cr0 "))
    values = dict(zip(controls[::2], (int(value, 16) for value in controls[1::2]), strict=True))
    assert values["cr0"] & 0x8000_0001 == 0x8000_0001
    assert values["cr4"] == 0x6A0
    assert values["cr3"] < 16 << 20  # the guest's own root, and no machine address of a shadow's
    frames = [line for line in lines if line.startswith("  called at ")]
    assert "<schedule+" in frames[0] and "<trap_common+" in frames[-1]
    assert not any("hypercalls" in line for line in lines)


@every_technique
def test_a_crash_in_the_first_instructions(tmp_path: Path, technique: str) -> None:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(native(b"\x90\x0f\x0b"))
    result = boot(kernel, technique=technique, memory=8)
    assert (result.ending, result.exit_status) == ("crash", 20)
    assert "triple fault" in result.report.splitlines()[0]
    assert "vCPU 0 at CPL 0, 32-bit protected mode" in result.report
    assert "rip 0000000000100001" in result.report


def native(code: bytes) -> bytes:
    """A kernel that a PVH loader takes, at 1 MiB."""
    return Recipe(code=code, notes={18: 0x10_0000}).build()


@pytest.mark.parametrize("technique", [name for name in TECHNIQUES if name != BARE])
def test_a_trace_has_every_exit_and_nothing_else(machine: Machine, technique: str) -> None:
    guest = machine.create(NATIVE, stdin="exit\n", technique=technique, memory=16, paused=True)
    assert isinstance(guest, FullGuest)
    records: list[Record] = []
    recorder = Recorder(machine.hypervisor)
    recorder.start(guest.domain, records.append)
    guest.start()
    machine.run(guest)
    counts = guest.hvm.counts
    found = [decode.plain(record, guest.symbols) for record in records]
    for kind, counter in (("exit", counts.exits), ("callout", counts.callouts)):
        reasons = [record["reason"] for record in found if record["kind"] == kind]
        assert {reason: reasons.count(reason) for reason in set(reasons)} == {
            reason: count for reason, count in counter.items() if count
        }
    assert {record["kind"] for record in found} <= {"exit", "callout"}
    assert all(before["time"] <= after["time"] for before, after in pairwise(found))
    assert "user" in {record["mode"] for record in found} or technique == HW_NESTED
    assert any("native_shutdown" in record.get("symbol", "") for record in found)
    assert machine.result(guest).counters.exits == {reason: count for reason, count in counts.exits.items() if count}
    recorder.stop(guest.domain, records.append)
    assert counts.listener is None


# -- bad input -----------------------------------------------------------------------------------------------------
def test_a_native_kernel_is_no_paravirtual_one() -> None:
    with pytest.raises(ToolstackError, match="is a kernel for a fully virtualized domain") as told:
        boot(NATIVE)
    assert told.value.hint == 'say type = "hvm"'


def test_a_paravirtual_kernel_has_no_machine_of_its_own() -> None:
    with pytest.raises(ToolstackError, match="has no PVH entry, so it cannot start in a fully") as told:
        boot("guest-pv", technique=HW_NESTED)
    assert 'type = "pv"' in str(told.value.hint)


def test_too_little_memory(tmp_path: Path) -> None:
    big = tmp_path / "big.elf"
    big.write_bytes(Recipe(code=b"\xf4", notes={18: 0x10_0000}, bss=32 << 20).build())
    with pytest.raises(ToolstackError, match="8 MiB is too little"):
        boot(big, technique=HW_NESTED, memory=8)


def test_more_memory_than_the_machine_has(machine: Machine) -> None:
    with pytest.raises(ToolstackError, match="has no 4096 MiB left"):
        machine.create(NATIVE, technique=HW_NESTED, memory=4096)
