# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the time of a Linux goes: the engine, each kind of exit, the rest of the hypervisor, idleness.

The guest runs in this very process, and the functions that an exit passes through are replaced by ones that keep a
ledger: outside a profile nothing of it is there, and costs nothing. What C does is the engine's: guest code, its
translation, and the way from an exit to Python and back.

What is wrapped, and when: methods of classes before the machine is made (their closures hold on to them), a pCPU's
handlers and the table of hypercalls as soon as there are any.

A table of accounts adds up to the time it was taken over. The profile itself costs time, about a microsecond each time
an account is entered: so the same is run once more without, and the line below the table says how long that took.

Read beside it: ledger.py; pvhv/core/traps/exits.py, for what is called.
"""

from __future__ import annotations

import gc
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.abi.xen import HYPERVISOR_iret
from pvhv.core.calls import mmuext
from pvhv.core.cpu import Cpu
from pvhv.core.hypervisor import Hypervisor
from pvhv.core.mm.ptwr import WritablePageTables
from pvhv.core.sched.scheduler import Scheduler
from pvhv.core.sched.timeline import Timeline
from pvhv.core.traps.bounce import Traps
from pvhv.core.traps.exits import Exits
from pvhv.machine import engine, seam
from pvhv.machine.cpustate import RAX
from pvhv.testing import Machine
from pvhv.toolstack import guest as toolstack_guest
from tools.benchmark import linux as stock
from tools.benchmark.guests import Failed
from tools.benchmark.ledger import Entry, Ledger, between
from tools.benchmark.linux import BOOT, LOOPS, OPERATIONS, Linux, Missing
from tools.benchmark.rows import readable

ENGINE, IDLE = "engine: guest code, its translation, to Python and back", "idle: nothing to do until a timer"
KINDS = (BOOT, OPERATIONS, LOOPS)
ROUNDS = "200000000 20000000"  # of xorshift and branchy: hundreds of the guest's ticks
FIGURE = re.compile(r"(\w+)=\d+(?:/\d+)?/(\d+)")  # what guest/micro.c says, and last how many it did
VECTORS = {
    1: "#DB", 6: "#UD: cpuid by forced emulation", 7: "#NM: the FPU of another process",
    13: "#GP: privileged instructions", 14: "#PF: to the guest",
}  # fmt: skip
METHODS: tuple[tuple[type, str, str], ...] = (
    (Scheduler, "turn", "scheduler"),
    (Scheduler, "_idle", IDLE),
    (Scheduler, "_serve_posted", "domain 0's backends"),
    (Scheduler, "_run_deferred", "domain 0's backends"),
    (Scheduler, "step_in_background", "domain 0's backends"),
    (Timeline, "fire", "timers"),
    (Cpu, "load", "vCPU on and off the pCPU"),
    (WritablePageTables, "page_fault", "#PF: a store to a page table, emulated"),
    (Exits, "descriptor_fault", "#PF: a descriptor table's page"),
)


@contextmanager
def profiled(ledger: Ledger) -> Iterator[None]:
    """Machines made here are profiled."""
    with ExitStack() as stack:
        for owner, name, account in METHODS:
            stack.enter_context(patch.object(owner, name, ledger.charging(account, getattr(owner, name))))
        for owner, run in ((engine, "uc_emu_start"), (seam, "run")):  # the published engine's, and ours
            stack.enter_context(patch.object(owner, run, ledger.charging(ENGINE, getattr(owner, run))))
        stack.enter_context(_after(Exits, "install", lambda exits: wrap_exits(ledger, exits)))
        stack.enter_context(_after(Hypervisor, "__init__", lambda hypervisor: wrap_calls(ledger, hypervisor)))
        stack.enter_context(patch.object(Traps, "_make_deliver_events", _charged_factory(ledger, "upcalls")))
        operations = {
            number: ledger.charging(f"mmuext_op: {call.__name__}", call) for number, call in mmuext.OPERATIONS.items()
        }
        stack.enter_context(patch.dict(mmuext.OPERATIONS, operations))
        stack.enter_context(patch.object(mmuext, "pin", ledger.charging("mmuext_op: pin", mmuext.pin)))
        stack.enter_context(_collections(ledger))
        yield


def _after(owner: type, name: str, then: Callable[[Any], None]) -> Any:
    """Have `then(self)` called behind a method."""
    method = getattr(owner, name)

    def both(self: Any, *arguments: Any, **named: Any) -> None:
        method(self, *arguments, **named)
        then(self)

    return patch.object(owner, name, both)


def _charged_factory(ledger: Ledger, account: str) -> Callable[[Traps], Any]:
    make = Traps._make_deliver_events
    return lambda traps: ledger.charging(account, make(traps))


@contextmanager
def _collections(ledger: Ledger) -> Iterator[None]:
    """Python's own garbage collection, which comes in the middle of anything."""

    def told(phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            ledger.enter("Python's garbage collection")
        else:
            ledger.leave()

    gc.callbacks.append(told)
    try:
        yield
    finally:
        gc.callbacks.remove(told)


def wrap_calls(ledger: Ledger, hypervisor: Hypervisor) -> None:
    """Every hypercall an account of its name."""
    table = hypervisor.calls_by_arity
    for number, (call, arity) in enumerate(table):
        if number in HYPERCALLS:
            table[number] = ledger.charging(HYPERCALLS[number].name, call), arity


def wrap_exits(ledger: Ledger, exits: Exits) -> None:
    """Every kind of exit an account."""
    pcpu, cpu, state = exits.cpu.pcpu, exits.cpu, exits.state
    syscall, enter, leave = pcpu.on_syscall, ledger.enter, ledger.leave

    def charged_syscall() -> None:
        if not cpu.current.kernel_mode:
            enter("a user's syscall, to the guest's kernel")
        elif state[RAX] == HYPERVISOR_iret:
            enter("iret")
        else:
            enter("hypercall: in and out")
        try:
            syscall()
        finally:
            leave()

    pcpu.on_syscall = charged_syscall
    for vector in range(32):
        account = VECTORS.get(vector, "other exceptions")
        pcpu.on_exception[vector] = ledger.charging(account, pcpu.on_exception[vector])
    pcpu.on_int = ledger.charging("int n", pcpu.on_int)
    pcpu.on_cpuid = ledger.charging("cpuid", pcpu.on_cpuid)
    pcpu.on_io = ledger.charging("in and out", pcpu.on_io)


# -- a Linux under it --------------------------------------------------------------------------------------------------
@dataclass
class Profile:
    """What a stretch of a guest's life was made of."""

    title: str
    entries: dict[str, Entry]
    operations: int = 0  # how many of them it held, if it is about one kind of operation

    @property
    def whole(self) -> int:
        """ns."""
        return sum(ns for ns, _ in self.entries.values())


class Watched:
    """A boot in this process, from reading the files to the domain's end; its ledger is looked at as it goes on."""

    def __init__(self, linux: Linux, work: str, ledger: Ledger | None, **given: object) -> None:
        self.profiles: list[Profile] = []
        self._ledger, self._line, self._last = ledger, b"", dict[str, Entry]()
        began = time.perf_counter_ns()
        charging = ledger.charging if ledger else lambda _account, function: function
        prepare = charging("the toolstack reads files and plans", toolstack_guest.prepare)
        with patch("pvhv.testing.prepare", prepare):
            machine = charging("a machine is made", Machine)(stock.MEMORY * 2)
            with machine:
                guest = charging("the toolstack builds the domain", machine.create)(
                    linux.kernel, name="linux", ramdisk=linux.ramdisk, memory=stock.MEMORY, clock="wall",
                    cmdline=stock.cmdline("hvc0", work, **given),
                )  # fmt: skip
                self._reader = guest.console.follow(self._more)
                machine.run(guest, timeout=stock.PATIENCE_S)
                result = machine.result(guest)
        self.ns = time.perf_counter_ns() - began
        if stock.USER_SPACE not in result.output or result.exit_status:
            raise Failed(f"Linux did not come to its end: {result.ending}\n{result.output[-2000:]}")

    def _more(self) -> None:
        *lines, self._line = (self._line + self._reader.take()).split(b"\n")
        if self._ledger is None:
            return
        for line in lines:
            text = line.decode("ascii", "replace").strip()
            if text == stock.USER_SPACE or text.startswith("begin="):
                self._stretch("what comes before", 0)
            elif (figure := FIGURE.fullmatch(text)) is not None:
                self._stretch(figure[1], int(figure[2]))

    def _stretch(self, title: str, operations: int) -> None:
        assert self._ledger is not None
        now = self._ledger.entries()
        self.profiles.append(Profile(title, between(self._last, now), operations))
        self._last = now


def boot(linux: Linux) -> tuple[list[Profile], int]:
    """A whole boot, and how many ns it takes when nobody profiles it."""
    plain = Watched(linux, BOOT, None).ns
    ledger = Ledger()
    with profiled(ledger):
        Watched(linux, BOOT, ledger)
    return [Profile("a stock Linux, from its files to user space, power-off and its end", ledger.entries())], plain


def operations(linux: Linux) -> list[Profile]:
    """One profile of each operation of guest/micro.c."""
    ledger = Ledger()
    with profiled(ledger):
        found = Watched(linux, OPERATIONS, ledger, ms=20, batches=5).profiles
    return [profile for profile in found if profile.operations and profile.title != "xorshift"]


def compute(linux: Linux) -> list[Profile]:
    """A process that computes, the last try of each loop: what is not the engine's is the guest's ticks."""
    ledger = Ledger()
    with profiled(ledger):
        found = Watched(linux, LOOPS, ledger, times=1, counts=ROUNDS).profiles
    return list({profile.title: profile for profile in found if profile.operations}.values())


# -- to be read --------------------------------------------------------------------------------------------------------
def as_table(profile: Profile) -> Table:
    """Accounts by what they took; they add up to the whole."""
    title = profile.title
    if profile.operations:
        title += f": {readable(profile.whole / profile.operations)} each"
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("where", footer="all of it")
    table.add_column("time", footer=readable(profile.whole), justify="right")
    table.add_column("share", footer="100.0 %", justify="right")
    table.add_column("times", justify="right")
    table.add_column("each", justify="right")
    counted = any(count > profile.operations / 2 for _, count in profile.entries.values()) and profile.operations
    if counted:
        table.add_column("times an operation", justify="right")
    for account, (ns, count) in sorted(profile.entries.items(), key=lambda item: -item[1].ns):
        often = [f"{count / profile.operations:.2f}"] if counted else []
        each = readable(ns / count) if count else ""
        table.add_row(account, readable(ns), f"{ns / profile.whole:.1%}", str(count or ""), each, *often)
    return table


def as_plain(profile: Profile) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "title": profile.title,
        "operations": profile.operations or None,
        "ns": profile.whole,
        "accounts": {account: entry._asdict() for account, entry in profile.entries.items()},
    }


def show(what: str, as_json: bool = False) -> int:
    """The profile that was asked for, on standard output; the exit status."""
    with tempfile.TemporaryDirectory(prefix="pvhv-bench-") as directory:
        try:
            linux = stock.prepare(Path(directory))
        except Missing as missing:
            print(f"bench: {missing}", file=sys.stderr)
            return 1
        plain = None
        if what == BOOT:
            profiles, plain = boot(linux)
        else:
            profiles = operations(linux) if what == OPERATIONS else compute(linux)
    if as_json:
        found = {"without_profile_ns": plain, "profiles": [as_plain(profile) for profile in profiles]}
        print(json.dumps(found, indent=1))
        return 0
    console = Console(file=sys.stdout)
    for profile in profiles:
        console.print(as_table(profile))
    if plain is not None:
        console.print(f"the same without a profile: {readable(plain)}")
    return 0
