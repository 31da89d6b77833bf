# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot a guest from a test, and look at what it said.

    from pvhv.testing import boot

    def test_my_guest() -> None:
        result = boot("build/my-guest", stdin="hello\\n", timeout=5)
        assert result.passed, result.output

The guest runs in the test's own process, on a machine that is made for this one run: there is no `pvhvd`, and nothing
is left behind. The clock is virtual by default, so that each run gives the same counts and the same output; the timeout
is in seconds of the host's time. `Machine` is for tests with more than one domain.

A bug of the hypervisor that shows during the run is raised as HypervisorBug, whatever the guest said.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from pvhv.core.hypervisor import Hypervisor
from pvhv.hvm import names as technique_names
from pvhv.machine import ctrl_c
from pvhv.observe import counters
from pvhv.observe.counters import Counters
from pvhv.toolstack import disk_spec
from pvhv.toolstack.config import DomainConfig
from pvhv.toolstack.errors import ToolstackError
from pvhv.toolstack.guest import PAGES_PER_MIB, Guest, Prepared, prepare
from pvhv.toolstack.host import Host
from pvhv.toolstack.kernel_files import find_kernel
from pvhv.toolstack.lifecycle import TIMEOUT_STATUS

HYPERVISOR_MIB = 32  # for itself: page tables, shared pages, the M2P
PASS, FAIL = "PASS", "FAIL"


class HypervisorBug(AssertionError):
    """The hypervisor itself has a bug; the text is the traceback."""


@dataclass(frozen=True)
class Result:
    """The result of running a guest.

    `verdict` is "PASS" or "FAIL" when its last line begins with that word, else empty. `exit_status` is that
    of `pvhv create -c`: 0 poweroff, 10 reboot, 20 crash, 21 watchdog, 124 timeout. `values` are its key=value
    lines.
    """

    output: str
    exit_status: int
    ending: str
    counters: Counters
    report: str = ""
    dmesg: str = ""
    raw: bytes = field(default=b"", repr=False)

    @property
    def lines(self) -> list[str]:
        """The lines of its output, without line ends and trailing blanks."""
        return [line.rstrip() for line in self.output.splitlines()]

    @property
    def last_line(self) -> str:
        """The last line of its output that is not empty."""
        return next((line for line in reversed(self.lines) if line), "")

    @property
    def verdict(self) -> str:
        """"PASS" or "FAIL", if its last line begins with that word; else empty."""
        word = self.last_line.partition(" ")[0].rstrip(":")
        return word if word in (PASS, FAIL) else ""

    @property
    def passed(self) -> bool:
        """Whether the guest said PASS and powered off."""
        return self.verdict == PASS and self.exit_status == 0

    @property
    def values(self) -> dict[str, str]:
        """The values of its lines of the form key=value; of several lines with one key, the last."""
        pairs = (line.partition("=") for line in self.lines)
        return {
            key.strip(): value.strip()
            for key, equals, value in pairs
            if equals and key.strip().isidentifier()
        }


class Machine:
    """A hypervisor of your own, with domains, in this process. To be used in a `with` statement."""

    WRAPPABLE: ClassVar = frozenset({"prepare"})

    def __init__(self, memory: int = 512, *, by_mode: bool = False) -> None:
        self.hypervisor = Hypervisor(memory_frames=(memory + HYPERVISOR_MIB) * PAGES_PER_MIB, by_mode=by_mode)
        self.host = Host(self.hypervisor)
        self.ended: set[Guest] = set()
        self.host.listeners.append(self._listen)

    def _listen(self, guest: Guest, what: str) -> None:
        if what == "ended":
            self.ended.add(guest)

    def create(
        self,
        kernel: str | os.PathLike[str],
        *,
        name: str = "guest",
        stdin: str | bytes = b"",
        clock: str = "virtual",
        timeline: str | None = None,
        cmdline: str = "",
        memory: int = 64,
        vcpus: int = 1,
        ramdisk: str | os.PathLike[str] | None = None,
        disks: Sequence[str] = (),  # each as in a domain file: "FILE,raw,xvda,rw"
        ephemeral: bool = False,
        technique: str | None = None,
        paused: bool = False,
    ) -> Guest:
        """Make a domain; it runs when the machine runs. `memory` is in MiB. If it is `ephemeral`, what it writes to its
        disks goes with it. Raises ToolstackError.

        With a `technique` the domain is fully virtualized by that technique."""
        config = DomainConfig(
            name=name,
            kernel=_kernel(kernel),
            ramdisk=None if ramdisk is None else Path(ramdisk),
            disks=[disk_spec.parse(disk, Path.cwd()) for disk in disks],
            cmdline=cmdline,
            type="pv" if technique is None else "hvm",
            technique=technique or technique_names.DEFAULT,
            memory=memory,
            maxmem=memory,
            vcpus=vcpus,
            clock=clock,
            timeline=timeline,
            on_reboot="preserve",
            on_poweroff="preserve",
            on_soft_reset="preserve",
        )
        if ephemeral:
            config.make_ephemeral()
        guest = self.host.create(self.prepare(config), paused=True)
        guest.console.typed += stdin.encode() if isinstance(stdin, str) else stdin
        if not guest.console.virtual:
            guest.console.pump()
        if not paused:
            guest.start()
        return guest

    def prepare(self, config: DomainConfig) -> Prepared:
        """Read a domain's files and plan its memory. Raises ToolstackError."""
        return prepare(config)

    def run(self, *guests: Guest, timeout: float = 10.0) -> bool:
        """Run until the guests have stopped. Returns False if `timeout` seconds of host time are over before."""
        wanted = set(guests)
        with ctrl_c.put_off() as pressed:
            return self.hypervisor.run_until(lambda: pressed() or wanted <= self.ended, timeout)

    def result(self, guest: Guest) -> Result:
        """The result of a guest so far. Raises HypervisorBug."""
        if self.hypervisor.bugs:
            raise HypervisorBug("\n".join(self.hypervisor.bugs))
        raw = guest.console.output()
        return Result(
            output=raw.decode("utf-8", "replace").replace("\r\n", "\n"),
            exit_status=guest.ended.status if guest.ended else TIMEOUT_STATUS,
            ending=guest.ended.name if guest.ended else "timeout",
            counters=counters.read(guest.domain),
            report=guest.report,
            dmesg=self.hypervisor.console.read(),
            raw=raw,
        )

    def close(self) -> None:
        """Destroy every domain."""
        for guest in list(self.host.guests.values()):
            self.host.destroy(guest)
        self.hypervisor.run_until(lambda: not self.host.guests, 10)

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def boot(
    kernel: str | os.PathLike[str],
    *,
    stdin: str | bytes = b"",
    timeout: float = 10.0,
    clock: str = "virtual",
    cmdline: str = "",
    memory: int = 64,
    vcpus: int = 1,
    ramdisk: str | os.PathLike[str] | None = None,
    disks: Sequence[str] = (),
    ephemeral: bool = False,
    technique: str | None = None,
) -> Result:
    """Run a kernel (a file, or the name of one that came with pvhv) until it stops, for `timeout` seconds at most.
    `memory` is in MiB. If it is `ephemeral`, what it writes to its disks goes with it. Raises ToolstackError,
    HypervisorBug."""
    with Machine(memory) as machine:
        guest = machine.create(
            kernel,
            stdin=stdin,
            clock=clock,
            cmdline=cmdline,
            memory=memory,
            vcpus=vcpus,
            ramdisk=ramdisk,
            disks=disks,
            ephemeral=ephemeral,
            technique=technique,
        )
        machine.run(guest, timeout=timeout)
        return machine.result(guest)


def _kernel(kernel: str | os.PathLike[str]) -> Path:
    if isinstance(kernel, str):
        return find_kernel(kernel, Path.cwd(), "boot()")
    path = Path(kernel)
    if not path.is_file():
        raise ToolstackError(f"there is no kernel {path}")
    return path
