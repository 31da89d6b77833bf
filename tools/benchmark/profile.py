# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the time of a Linux goes: the engine, each kind of exit, the rest of the hypervisor, idleness.

The guest runs in this process. Around the functions that an exit passes through are others, which keep a ledger
(pvhv/machine/wrapping.py); without a profile they are not there, and cost nothing. What C does is charged to the
engine: guest code, its translation, and the way from an exit to Python and back.

A table of accounts adds up to the time it was taken over. The profile itself costs time, about a microsecond each time
an account is entered: so the guest is run once more without it, and the line below the table says how long that took.

Read beside it: ledger.py; pvhv/core/traps/exits.py, for what is called.
"""

from __future__ import annotations

import gc
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pvhv.abi.hypercalls import HYPERCALLS
from pvhv.abi.xen import HYPERVISOR_iret
from pvhv.core.calls import mmuext
from pvhv.core.domain import Domain
from pvhv.core.hypervisor import Hypervisor
from pvhv.core.traps.exits import Exits
from pvhv.core.vcpu import VCPU
from pvhv.machine.cpustate import RAX
from pvhv.machine.wrapping import Around, wrap
from pvhv.testing import Machine
from tools.benchmark import disk_rows
from tools.benchmark import linux as stock
from tools.benchmark.guests import Failed
from tools.benchmark.ledger import Entry, Ledger, between
from tools.benchmark.linux import BOOT, LOOPS, OPERATIONS, Linux, Missing
from tools.benchmark.rows import readable

ENGINE, IDLE = "engine: guest code, its translation, to Python and back", "idle: nothing to do until a timer"
DISK = "disk"
KINDS = (BOOT, OPERATIONS, LOOPS, DISK)
ROUNDS = "200000000 20000000"  # of xorshift and branchy: hundreds of the guest's ticks
FIGURE = re.compile(r"(\w+)=\d+(?:/\d+)?/(\d+)")  # what guest/micro.c says, and last how many it did
VECTORS = {
    1: "#DB", 6: "#UD: cpuid by forced emulation", 7: "#NM: the FPU of another process",
    13: "#GP: privileged instructions", 14: "#PF: to the guest",
}  # fmt: skip
PINS = dict.fromkeys(mmuext.PIN_LEVELS, "pin")
MMUEXT = {number: f"mmuext_op: {name}" for number, name in PINS.items()} | {
    number: f"mmuext_op: {call.__name__}" for number, call in mmuext.OPERATIONS.items()
}


@contextmanager
def profiled(ledger: Ledger | None, machine: Machine) -> Iterator[None]:
    """In this context all that the machine's wall clock and its pCPU do is charged to an account; without a ledger
    nothing is."""
    if ledger is None:
        yield
        return
    hypervisor = machine.hypervisor
    exits = hypervisor.exits[False]
    with ExitStack() as stack:
        for owner, name, account in parts(hypervisor, exits):
            stack.callback(wrap(owner, name, partial(ledger.charging, account)))
        exits.install()  # its closures keep what they call
        stack.callback(exits.install)
        for owner, name, around, entry in handlers(ledger, hypervisor, exits):
            stack.callback(wrap(owner, name, around, entry))
        stack.callback(wrap(mmuext, "perform", partial(_each_operation, ledger)))
        stack.callback(wrap(machine, "prepare", partial(ledger.charging, "the toolstack reads files and plans")))
        stack.enter_context(_collections(ledger))
        yield


def parts(hypervisor: Hypervisor, exits: Exits) -> Iterator[tuple[object, str, str]]:
    """What is called on the way, and on which account: (owner, name, account)."""
    scheduler = hypervisor.scheduler
    yield scheduler, "turn", "scheduler"
    yield scheduler, "idle", IDLE
    for name in ("serve_posted", "run_deferred", "step_in_background"):
        yield scheduler, name, "domain 0's backends"
    yield hypervisor.wall, "fire", "timers"
    yield exits.cpu, "load", "vCPU on and off the pCPU"
    yield exits.cpu.pcpu, "enter_engine", ENGINE
    yield exits.traps, "deliver_events", "upcalls"
    yield exits.writable_page_tables, "page_fault", "#PF: a store to a page table, emulated"
    yield exits, "descriptor_fault", "#PF: a descriptor table's page"


def handlers(
    ledger: Ledger, hypervisor: Hypervisor, exits: Exits
) -> Iterator[tuple[object, str, Around, int | None]]:
    """Every kind of exit, and every hypercall: (owner, name, what is put around it, entry of a table)."""
    pcpu = exits.cpu.pcpu
    yield pcpu, "on_syscall", partial(_by_kind_of_call, ledger, exits), None
    for vector in range(32):
        account = VECTORS.get(vector, "other exceptions")
        yield pcpu, "on_exception", partial(ledger.charging, account), vector
    for name, account in (("on_int", "int n"), ("on_cpuid", "cpuid"), ("on_io", "in and out")):
        yield pcpu, name, partial(ledger.charging, account), None
    for number, spec in HYPERCALLS.items():
        yield hypervisor, "calls_by_arity", partial(_with_arity, ledger, spec.name), number


def _with_arity(ledger: Ledger, account: str, row: tuple[Callable[..., int], int]) -> tuple[Callable[..., int], int]:
    return ledger.charging(account, row[0]), row[1]


def _each_operation(ledger: Ledger, perform: Callable[..., None]) -> Callable[..., None]:
    def charged(vcpu: VCPU, owner: Domain, command: int, first: int, second: int) -> None:
        ledger.enter(MMUEXT.get(command, "mmuext_op: refused"))
        try:
            perform(vcpu, owner, command, first, second)
        finally:
            ledger.leave()

    return charged


def _by_kind_of_call(ledger: Ledger, exits: Exits, syscall: Callable[[], object]) -> Callable[[], None]:
    cpu, state, enter, leave = exits.cpu, exits.state, ledger.enter, ledger.leave

    def charged() -> None:
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

    return charged


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


# -- a Linux under it --------------------------------------------------------------------------------------------------
@dataclass
class Profile:
    """What a stretch of a guest's life was made of."""

    title: str
    entries: dict[str, Entry]
    operations: int = 0  # how many of them it held, if it is about one kind of operation

    @property
    def whole(self) -> int:
        """The sum of all accounts, in ns."""
        return sum(ns for ns, _ in self.entries.values())


class Watched:
    """A boot in this process, from reading the files to the domain's end; its ledger is read while it runs."""

    def __init__(
        self, linux: Linux, work: str, ledger: Ledger | None, disks: Sequence[str] = (), **given: object
    ) -> None:
        self.profiles: list[Profile] = []
        self._ledger, self._line, self._last = ledger, b"", dict[str, Entry]()
        began = time.perf_counter_ns()
        charging = ledger.charging if ledger else lambda _account, function: function
        machine = charging("a machine is made", Machine)(stock.MEMORY * 2)
        with profiled(ledger, machine), machine:
            guest = charging("the toolstack builds the domain", machine.create)(
                linux.kernel, name="linux", ramdisk=linux.ramdisk, memory=stock.MEMORY, clock="wall",
                cmdline=stock.cmdline("hvc0", work, **given), disks=disks,
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
    """The profile of a whole boot, and how many ns it takes without a profile."""
    plain = Watched(linux, BOOT, None).ns
    ledger = Ledger()
    Watched(linux, BOOT, ledger)
    return [Profile("a stock Linux, from its files to user space, power-off and its end", ledger.entries())], plain


def operations(linux: Linux) -> list[Profile]:
    """One profile of each operation of guest/micro.c."""
    ledger = Ledger()
    found = Watched(linux, OPERATIONS, ledger, ms=20, batches=5).profiles
    return [profile for profile in found if profile.operations and profile.title != "xorshift"]


def compute(linux: Linux) -> list[Profile]:
    """A process that computes, the last try of each loop: what is not the engine's is the guest's ticks."""
    ledger = Ledger()
    found = Watched(linux, LOOPS, ledger, times=1, counts=ROUNDS).profiles
    return list({profile.title: profile for profile in found if profile.operations}.values())


def disk(directory: Path) -> list[Profile]:
    """One profile of each operation of guest/disk.c. The time of the thread that has the image is not in it."""
    ledger, image = Ledger(), disk_rows.make_image(directory)
    linux = disk_rows.prepare(directory)
    found = Watched(linux, disk_rows.ALL, ledger, [f"{image},raw,xvda,rw"], ms=500).profiles
    return [profile for profile in found if profile.operations]


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
        elif what == DISK:
            profiles = disk(Path(directory))
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
