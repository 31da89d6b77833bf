# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated PC with the real Xen on it: one boot, all jobs, an outcome for each as soon as it is known.

QEMU loads Xen as the multiboot kernel it is, with dom0's kernel and root as its modules. The first serial line is Xen's
own console; on the second dom0 reports about the jobs (in the words of dom0/init.sh). TCG with one CPU makes each run
alike, except for the clock, which is real time.

Invariant: every job has an outcome; if the machine stopped before a job's turn, its ending is "not run".

Read beside it: xen/docs/misc/xen-command-line.pandoc for what stands on Xen's command line.
"""

from __future__ import annotations

import base64
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pvhv.abi import sched
from tools.linux.deb import BadPackage
from tools.reference import jobs
from tools.reference.jobs import Job
from tools.reference.parts import Parts

MEMORY_MIB, DOM0_MIB = 1536, 384
CPU = "max,-xsave,-fsgsbase"  # as much as our own engine has: no larger registers, none of their new ways of saving
XEN_OPTIONS = f"console=com1 com1=115200,8n1 dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M loglvl=all guest_loglvl=all noreboot"
DOM0_OPTIONS = "console=hvc0 quiet panic=1"
BOOT_S = 240.0  # on a busy machine
MORE_S = 120.0  # what a job may take beyond its own time, for xl to make and unmake the domain
ENDINGS = {
    sched.SHUTDOWN_poweroff: "poweroff",
    sched.SHUTDOWN_reboot: "reboot",
    sched.SHUTDOWN_suspend: "suspend",
    sched.SHUTDOWN_crash: "crash",
    sched.SHUTDOWN_watchdog: "watchdog",
}
NOT_RUN, STOPPED = "not run", "the machine stopped"
LAST_WORDS = 12  # lines

Tell = Callable[["Outcome"], None]


@dataclass
class Outcome:
    """The outcome of a job: the lines of its console, how it ended, and what Xen and the victim said meanwhile."""

    name: str
    lines: list[str] = field(default_factory=list)
    ending: str = NOT_RUN
    victim: str = ""  # "well" or "hurt", where there was one
    complaints: list[str] = field(default_factory=list)  # xl's
    hypervisor: list[str] = field(default_factory=list)  # Xen's

    @property
    def last_line(self) -> str:
        return next((line for line in reversed(self.lines) if line), "")


def lines_of(console: bytes) -> list[str]:
    """What a domain wrote, as lines; bytes that are no characters are escaped."""
    text = console.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    shown = "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
    return shown.removesuffix("\n").split("\n") if shown else []


def run(
    parts: Parts,
    wanted: Sequence[Job],
    victim: Path | None,
    tell: Tell,
    cpu: str = CPU,
) -> list[Outcome]:
    """Run all jobs; `tell` is called with each outcome. Raises BadPackage, OSError."""
    outcomes = {job.name: Outcome(job.name) for job in wanted}
    with tempfile.TemporaryDirectory(prefix="pvhv-reference-") as directory:
        root, log = Path(directory, "dom0.cpio"), Path(directory, "com1")
        root.write_bytes(parts.dom0.read_bytes() + jobs.archive(wanted, victim))
        process = subprocess.Popen(
            [
                *parts.qemu(), "-M", "q35", "-accel", "tcg", "-cpu", cpu, "-m", str(MEMORY_MIB), "-nodefaults",
                "-display", "none", "-no-reboot", "-serial", f"file:{log}", "-serial", "stdio",
                "-kernel", str(parts.xen), "-append", XEN_OPTIONS,
                "-initrd", f"{parts.kernel} {DOM0_OPTIONS},{root}",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            Listener(process, log, wanted, outcomes, tell).listen()
        finally:
            process.kill()
            process.wait()
    return list(outcomes.values())


class Listener:
    """Reads what dom0 reports, and notes it in the outcomes."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        log: Path,
        wanted: Sequence[Job],
        outcomes: dict[str, Outcome],
        tell: Tell,
    ) -> None:
        self.process, self.log, self.outcomes, self.tell = process, log, outcomes, tell
        self.seconds = {job.name: job.seconds for job in wanted}
        self.current: Outcome | None = None
        self.patience = BOOT_S
        self.up = False
        self.console = b""  # of the current job, in base64
        self.heard = 0  # of Xen's own log, until the current job began

    def listen(self) -> None:
        """Read until all jobs are reported, or the machine stops or is silent for too long. Raises BadPackage if Xen
        did not boot."""
        for line in self._lines():
            word, _, rest = line.partition(" ")
            if word == "@done":
                return
            self._hear(line, word, rest)
        last = self._log().decode("utf-8", "replace").splitlines()[-LAST_WORDS:]
        if not self.up:
            self.process.kill()
            assert self.process.stderr is not None
            last += self.process.stderr.read().decode("utf-8", "replace").splitlines()
            raise BadPackage("Xen did not come up. Its last words:\n" + "\n".join(last))
        if self.current is not None:
            self.current.ending, self.current.hypervisor = STOPPED, last
            self.tell(self.current)

    def _hear(self, line: str, word: str, rest: str) -> None:
        if word == "@ready":
            self.up = True
        elif word == "@begin":
            self.current, self.patience = self.outcomes[rest], self.seconds[rest] + MORE_S
            self.heard, self.console = len(self._log()), b""
        elif (current := self.current) is None:
            return
        elif line.startswith("|"):
            self.console += line[1:].encode()
        elif line.startswith("!"):
            current.complaints.append(line[1:])
        elif word == "@victim":
            current.victim = rest
        elif word == "@end":
            how = rest.partition(" ")[2]
            current.lines = lines_of(base64.b64decode(self.console))
            current.ending = ENDINGS.get(int(how), how) if how.isdecimal() else how
            current.hypervisor = self._log()[self.heard :].decode("utf-8", "replace").splitlines()
            self.current = None
            self.tell(current)

    def _log(self) -> bytes:
        return self.log.read_bytes() if self.log.exists() else b""

    def _lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            last = time.monotonic()
            while (left := last + self.patience - time.monotonic()) > 0 and selector.select(left):
                some = os.read(self.process.stdout.fileno(), 65536)
                if not some:
                    return
                last = time.monotonic()
                *lines, rest = (rest + some).split(b"\n")
                for line in lines:
                    yield line.decode("utf-8", "replace").rstrip("\r")
