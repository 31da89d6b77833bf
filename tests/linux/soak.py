# SPDX-License-Identifier: GPL-2.0-or-later
"""A soak: programs/soak.c in several stock Linuxes at once, watched from outside with a clock of our own.

`run` boots the guests side by side on one machine, has each do its work for as long as asked, and `check` says whether
one is well: every result was right, the kernel complained of nothing, the disk's file system is whole, and the guest's
clocks went as ours did.

How fast a guest's clock goes is told from its ticks: each says what time it is there, and is noted here with our time
on arrival. It arrives late if anything, never early, so of many ticks the promptest count: the least delay among the
first of them, against the least among the last.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from pvhv.devices.console.console import Reader
from pvhv.testing import Machine, Result
from pvhv.toolstack.guest import Guest
from tests.linux.conftest import Linux, host_tool
from tools.linux import initramfs, programs

SOURCE = Path(__file__).parent / "programs" / "soak.c"
MEMORY, DISK = 256, 64  # MiB
SLOW_HOST = 6  # how many times longer than asked all of it may take
# What a kernel says when it is not well. The OOM killer's report (with a trace of its own) is none of it.
UNWELL = re.compile(
    r"WARNING:|BUG:|Oops|soft lockup|rcu.*stall|hung task|blocked for more|unchecked MSR|general protection|segfault"
    r"|clocksource.*unstable|Marking clocksource|Kernel panic|bad page|Bad page|soak: FAILED"
)
TICK = re.compile(r"^tick (\d+) (\d+)\r?$")
OOM_KILL, TRACE = "invoked oom-killer", "Call Trace"
KEPT, CONTEXT = 1 << 16, 60  # characters, lines


class Tick(NamedTuple):
    """What time it was, in seconds: our clock, the guest's, and its date against ours."""

    ours: float
    guests: float
    date_off: float


class Watch:
    """A guest's console, read along as it is written."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.ticks: list[Tick] = []
        self.bad: list[str] = []  # from the first complaint on
        self.said: list[str] = []  # by the program itself
        self.oom_kills = self.traces = 0
        self.text = ""  # the last of it
        self._line = ""
        self._reader: Reader = guest.console.follow(self._read)

    def _read(self) -> None:
        while data := self._reader.take():
            text = data.decode("utf-8", "replace")
            self.text = (self.text + text)[-KEPT:]
            *lines, self._line = (self._line + text).split("\n")
            for line in lines:
                self._note(line)

    def _note(self, line: str) -> None:
        if tick := TICK.match(line):
            monotonic, date = int(tick[1]) / 1e9, int(tick[2]) / 1e9
            self.ticks.append(Tick(time.monotonic(), monotonic, date - time.time()))
        if UNWELL.search(line) or 0 < len(self.bad) < CONTEXT:
            self.bad.append(line.strip())
        if line.startswith("soak: "):
            self.said.append(line.strip())
        self.oom_kills += OOM_KILL in line
        self.traces += TRACE in line

    def drift(self) -> float:
        """By which part the guest's clock goes wrong."""
        part = max(len(self.ticks) // 4, 3)
        first, last = (min(some, key=lambda tick: tick.ours - tick.guests) for some in
                       (self.ticks[:part], self.ticks[-part:]))  # fmt: skip
        return (last.guests - first.guests) / (last.ours - first.ours) - 1


class Report(NamedTuple):
    """What came of one guest, and its disk."""

    watch: Watch
    result: Result
    disk: Path


def run(linux: Linux, directory: Path, seconds: int, *vcpus: int) -> list[Report]:
    """A guest for each number of vCPUs, all at once."""
    ramdisk = directory / "initramfs"
    ramdisk.write_bytes(initramfs.build(linux.busybox(), {"soak": programs.build(SOURCE)}, linux.modules()))
    watches, disks = [], []
    with Machine(MEMORY * len(vcpus)) as machine:
        for count in vcpus:
            disks.append(directory / f"disk-{count}")
            subprocess.run([host_tool("mke2fs"), "-q", "-t", "ext4", disks[-1], f"{DISK}M"], check=True)
            guest = machine.create(
                linux.kernel, name=f"soak-{count}", ramdisk=ramdisk, cmdline="console=hvc0", memory=MEMORY,
                vcpus=count, clock="wall", disks=[f"{disks[-1]},raw,xvda,rw"],
                stdin=f"stty -echo; PS1=; mount /dev/xvda /mnt; soak {seconds}; umount /mnt; dmesg; poweroff -f\n",
            )  # fmt: skip
            watches.append(Watch(guest))
        machine.run(*(watch.guest for watch in watches), timeout=seconds * SLOW_HOST + 120)
        return [Report(watch, machine.result(watch.guest), disk) for watch, disk in zip(watches, disks, strict=True)]


def check(report: Report) -> None:
    """Assert that a guest is well."""
    watch, result, disk = report
    assert result.exit_status == 0, watch.text[-4000:]
    assert not watch.bad, "\n".join(watch.bad)
    assert "soak: PASS" in watch.said, watch.said
    assert watch.traces == watch.oom_kills  # a report of the OOM killer has one; any other is a complaint
    said = "\n".join(watch.said)
    rounds = {name: int(count) for name, count in re.findall(r" (\w+)=(\d+)", said)}
    assert rounds.get("kills") and rounds.get("disk") and all(rounds.values()), rounds
    checked = subprocess.run([host_tool("e2fsck"), "-fn", disk], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert abs(watch.drift()) < 0.01, (watch.drift(), watch.ticks)
    # What Linux loses of its date before it has a clock to go by, it never makes good: seconds, on a busy machine.
    assert max(abs(tick.date_off) for tick in watch.ticks) < 30, watch.ticks[:10]
    lasted = re.search(r"least (\d+)", said)
    assert lasted and 1000 <= int(lasted[1]) <= 1010, said
