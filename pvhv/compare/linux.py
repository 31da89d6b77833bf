# SPDX-License-Identifier: GPL-2.0-or-later
"""A stock Linux beside the teaching kernel: what the same operations cost another paravirtual kernel.

Two things are counted, each in a boot of its own on the virtual clock:

- operations: the kernel boots to guest_kernel/linux, which is the very program that measures the teaching kernel
  (user/bin/measure.c) over Linux's system calls. It always does all its operations, in the same order. The marks
  are the same function at the same address, and to watch for them causes no exit;
- a life: it boots with its own ramdisk to a shell, and is powered off by what is typed there. The parts are divided by
  the first system call of user code, and by the moment at which the prompt is shown and no vCPU has anything to do.
  The teaching kernel's life is counted likewise.

All counts are exact and the same in every run and on every machine, for the same kernel, ramdisk and command line: time
is the number of instructions, and Linux sees no other clock, no entropy of the host's, and no other domain. They
include what Linux does on its own account (ticks, kernel threads), which differs from one Linux to another.

Not counted: benchmarks inside the kernel, and those that need a shell of the teaching kernel's.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from pvhv.build import initfs
from pvhv.compare.errors import CompareError
from pvhv.compare.names import BENCHES, LINUX, LIVES, MICRO, PV
from pvhv.compare.records import Comparison, Counts
from pvhv.compare.runner import BenchmarkFailed, Progress
from pvhv.compare.watcher import BEGIN, END, USER_MARK, Paravirtual
from pvhv.core.errors import HypercallError
from pvhv.machine import cpustate as cs
from pvhv.machine import ctrl_c
from pvhv.observe.record import Record
from pvhv.observe.trace import Recorder
from pvhv.testing import Machine
from pvhv.toolstack import fetched
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import Guest, prepare
from pvhv.toolstack.kernel_files import find_kernel

Seen = tuple[dict[str, "int | None"], dict[str, dict[Any, int]]]  # scalars and families of Counts

PROGRAM = "measure-linux"
MEMORY_MIB = 256
TIMEOUT_S = 600.0
CMDLINE = "console=hvc0"
QUIET = f"{CMDLINE} quiet"
PROMPT = re.compile(rb"[#$] (\x1b\[6n)?\Z")
SAID = re.compile(r"^(?P<name>[\w-]+): (?P<what>ok (?P<count>\d+)|none|failed)", re.MULTILINE)
# What the measuring program does under Linux: init.c of guest_kernel/linux lists the same.
OPERATIONS: Final = (
    "syscall", *(name for name, bench in BENCHES.items() if bench.group == MICRO and name != "sh"),
)  # fmt: skip
SHELL_ONLY = "it needs the teaching kernel's shell"
IN_KERNEL = "it is done inside the teaching kernel"


class Linux(NamedTuple):
    """The files of a Linux that is booted."""

    kernel: Path
    ramdisk: Path


class Kernel(NamedTuple):
    """A paravirtual kernel whose life is counted."""

    technique: str
    kernel: Path | str
    ramdisk: Path | None
    cmdline: str
    memory: int
    typed: bytes  # at its prompt: what powers it off


def found(kernel: str | None, ramdisk: str | None) -> Linux:
    """The Linux that is asked for, or the one that was fetched. Raises CompareError."""
    files = []
    for given, name, what in ((kernel, "debian-vmlinuz", "--kernel"), (ramdisk, "debian-initramfs", "--ramdisk")):
        path = fetched.find(name) if given is None else Path(given)
        if path is None:
            raise CompareError(
                "there is no Linux to compare with",
                f"`python3 tools/fetch_linux.py` fetches one; or name a file: {what} FILE",
            )
        if not path.is_file():
            raise CompareError(f"there is no file {given}", f"{what} takes a file of Linux's own")
        files.append(path)
    linux = Linux(*files)
    try:
        prepare(DomainConfig(name="linux", **linux._asdict(), cmdline=CMDLINE, memory=MEMORY_MIB, maxmem=MEMORY_MIB))
    except ToolstackError as failure:
        raise CompareError(failure.message, failure.hint) from None
    return linux


def add(
    comparison: Comparison, linux: Linux, benches: Iterable[str], *, lives: bool, progress: Progress | None = None
) -> Comparison:
    """A comparison with Linux's column: its operations among `benches`, and with `lives` the lives of both kernels."""
    counts = list(comparison)
    absent = dict(comparison.absent)
    wanted = set(benches)
    kernels = [
        Kernel(PV, "guest-pv", None, "", 64, b"exit\n"),
        Kernel(LINUX, linux.kernel, linux.ramdisk, CMDLINE, MEMORY_MIB, b"poweroff -f\n"),
    ]
    if PV not in comparison.techniques:
        kernels = kernels[1:]
    steps = 1 + len(kernels) * lives
    if progress is not None:
        progress(LINUX, "operations", 0, steps)
    counts += [each for each in operations(linux) if each.bench in wanted]
    there = {each.bench for each in counts if each.technique == LINUX}
    for bench in wanted - there:
        absent[LINUX, bench] = SHELL_ONLY if BENCHES[bench].group == MICRO else IN_KERNEL
    for done, kernel in enumerate(kernels if lives else (), start=1):
        if progress is not None:
            progress(kernel.technique, "life", done, steps)
        counts += life(kernel)
    return Comparison.of(counts, absent=absent, sequences=comparison.sequences, measured=comparison.measured)


# -- operations ----------------------------------------------------------------------------------------------
def operations(linux: Linux) -> list[Counts]:
    """The counts of all operations of the measuring program. Raises BenchmarkFailed."""
    program = find_kernel(PROGRAM, Path.cwd(), "compare").read_bytes()
    # One file by three names: what the kernel starts, what that starts, and what is executed to be timed.
    files = dict.fromkeys(("init", "bin/measure", "bin/false"), program) | {"tmp/here": b""}
    with tempfile.TemporaryDirectory(prefix="pvhv-compare-") as scratch:
        ramdisk = Path(scratch) / "initramfs"
        ramdisk.write_bytes(initfs.pack(files))
        with _machine() as machine:
            guest = _create(machine, Kernel(LINUX, linux.kernel, ramdisk, QUIET, MEMORY_MIB, b""))
            marks = Marks(guest)
            output = _run(machine, guest)
    said = list(SAID.finditer(output))
    if len(said) != len(marks.seen) or any(match["count"] is None for match in said) or not said:
        raise BenchmarkFailed(f"not all operations ended well under Linux; it said:\n{_last(output)}")
    return [
        Counts(LINUX, match["name"], int(match["count"]), scalars, **families)
        for match, (scalars, families) in zip(said, marks.seen, strict=True)
    ]


class Marks:
    """Counts what happens between each pair of marks."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.pcpu = guest.domain.timeline.cpu.pcpu
        self.seen: list[Seen] = []
        self._heard: Paravirtual | None = None
        self._began = (0, 0)
        Recorder(guest.hypervisor).start(guest.domain, self._record)
        self.pcpu.on_address(USER_MARK, self._mark)

    def _mark(self) -> None:
        kind = self.pcpu.state[cs.RDI]
        now = self.pcpu.executed_user, self.pcpu.executed
        if kind == BEGIN:
            self._heard = _listener(self.guest)
            self._began = now
        elif kind == END and self._heard is not None:
            scalars, families = self._heard.result()
            self._heard = None
            self.seen.append((scalars | _instructions(self._began, now), families))

    def _record(self, record: Record) -> None:
        if self._heard is not None:
            self._heard.hear(record)


# -- a life --------------------------------------------------------------------------------------------------
def life(kernel: Kernel) -> list[Counts]:
    """The counts of a kernel's life, from the first instruction to the end, in three parts. Raises BenchmarkFailed."""
    with _machine() as machine:
        guest = _create(machine, kernel)
        parts = Parts(guest, kernel.typed)
        output = _run(machine, guest)
        parts.end()
    if len(parts.seen) != len(LIVES):
        raise BenchmarkFailed(f"{kernel.kernel} reached no prompt; it said:\n{_last(output)}")
    return [
        Counts(kernel.technique, bench, 1, scalars, **families)
        for bench, (scalars, families) in zip(LIVES, parts.seen, strict=True)
    ]


class Parts:
    """Counts what happens in each part of a guest's life."""

    def __init__(self, guest: Guest, typed: bytes) -> None:
        self.guest = guest
        self.typed = typed
        self.pcpu = guest.domain.timeline.cpu.pcpu
        self.seen: list[Seen] = []
        self._heard = _listener(guest)
        self._began = (self.pcpu.executed_user, self.pcpu.executed)
        Recorder(guest.hypervisor).start(guest.domain, self._record)
        # Before the console's own, which hands over what was typed at that very moment.
        guest.domain.timeline.on_idle.insert(0, self._idle)

    def _record(self, record: Record) -> None:
        if record.kind == "syscall" and not self.seen:
            self.end()
        self._heard.hear(record)

    def _idle(self) -> bool:
        """The domain is idle. If its shell waits for input, the guest is told to power off."""
        if self.typed and PROMPT.search(self.guest.console.output()):
            if len(self.seen) == 1:
                self.end()
            self.guest.console.feed(self.typed)
            self.typed = b""
        return False

    def end(self) -> None:
        """A part is over, and the next one begins."""
        now = self.pcpu.executed_user, self.pcpu.executed
        scalars, families = self._heard.result()
        self.seen.append((scalars | _instructions(self._began, now), families))
        self._heard, self._began = _listener(self.guest), now


# -- both ----------------------------------------------------------------------------------------------------
def _machine() -> Machine:
    return Machine(MEMORY_MIB, by_mode=True)


def _create(machine: Machine, kernel: Kernel) -> Guest:
    try:
        return machine.create(kernel.kernel, ramdisk=kernel.ramdisk, cmdline=kernel.cmdline, memory=kernel.memory)
    except (ToolstackError, HypercallError) as failure:
        raise BenchmarkFailed(f"{kernel.kernel} cannot be booted: {failure}") from None


def _run(machine: Machine, guest: Guest) -> str:
    """Run a guest until it has powered off. Returns its output. Raises BenchmarkFailed."""
    with ctrl_c.put_off() as pressed:
        machine.hypervisor.run_until(lambda: pressed() or guest in machine.ended, TIMEOUT_S)
    result = machine.result(guest)
    if result.ending != "poweroff":
        raise BenchmarkFailed(f"Linux did not end well ({result.ending}); it said:\n{_last(result.output)}")
    return result.output


def _listener(guest: Guest) -> Paravirtual:
    vcpu = guest.domain.vcpus[0]
    return Paravirtual(lambda address: bytes(vcpu.memory.read(address, 2)))


def _instructions(before: tuple[int, int], after: tuple[int, int]) -> dict[str, int | None]:
    user = after[0] - before[0]
    return {"instructions.user": user, "instructions.kernel": after[1] - before[1] - user}


def _last(output: str) -> str:
    return "\n".join(output.splitlines()[-8:])
