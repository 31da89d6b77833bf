# SPDX-License-Identifier: GPL-2.0-or-later
"""A stock Linux on both sides: as a domain of ours, and natively in QEMU's TCG, with the same kernel and ramdisk.

Only the console differs (hvc0, ttyS0): Debian's kernel as tools/fetch_linux.py fetched it, 256 MiB,
one processor, and one initramfs with the busybox that was fetched and guest/micro.c compiled. What process 1 does is
chosen by `rdinit=`: each script mounts what the example's own init mounts, says USER_SPACE, does its work, and powers
off. QEMU emulates its plain `pc`, with no device but the serial port (-nodefaults).

Both are commands, timed whole: from the start of `pvhv create -c FILE`, or of qemu-system-x86_64, to its end.

Not here: what is measured with them (linux_rows.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from pvhv.build.zig import BuildError
from pvhv.toolstack import fetched
from tools.benchmark.cli import Pvhv
from tools.benchmark.guests import Failed
from tools.linux import cpio, initramfs, programs

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT / "tools/benchmark/guest/micro.c", ROOT / "guest_kernel/bench/lib/loops.S")
MEMORY = 256  # MiB
PATIENCE_S = 300.0
USER_SPACE = "user-space-is-reached"
QEMU = "qemu-system-x86_64"
FIGURE = re.compile(r"(\w+)=(\d+)/(\d+)/(\d+)")  # what guest/micro.c says of an operation

MOUNTS = initramfs.MOUNTS  # as the example has them
BOOT, OPERATIONS, LOOPS = "boot", "operations", "loops"
# Nothing of the kernel's own may come between: it would cut a figure's line in two.
WORK = {
    BOOT: "",
    OPERATIONS: "dmesg -n 1\n/root/micro operations $ms $batches\n",
    # Each time another copy: other frames, so that the engine translates the loops anew.
    LOOPS: "dmesg -n 1\nfor n in $(seq $times); do cp /root/micro /tmp/micro$n; /tmp/micro$n loops $counts; done\n",
}


class Missing(Exception):
    """Something that a measurement needs is not on this machine; the text says what to install."""


@dataclass(frozen=True)
class Linux:
    """The kernel and the initramfs, which both sides boot."""

    kernel: Path
    ramdisk: Path


def prepare(directory: Path) -> Linux:
    """The kernel that was fetched, and an initramfs in `directory` made of the busybox that was. Raises Missing."""
    kernel, example = fetched.find("debian-vmlinuz"), fetched.find("debian-initramfs")
    if kernel is None or example is None:
        raise Missing("there is no Linux to boot: python3 tools/fetch_linux.py fetches one")
    busybox = dict(cpio.read(example.read_bytes()))["bin/busybox"]
    try:
        micro = programs.build(SOURCES[0], others=SOURCES[1:])
    except BuildError as error:
        raise Missing(str(error)) from None
    extra = {"micro": micro} | {name: script(work).encode() for name, work in WORK.items()}
    ramdisk = directory / "initramfs"
    ramdisk.write_bytes(initramfs.build(busybox, extra))
    return Linux(kernel, ramdisk)


def script(work: str) -> str:
    """The script of process 1: it does `work` and powers off. Parameters that the kernel does not know are its
    environment."""
    return f"{MOUNTS}exec </dev/console >/dev/console 2>&1\nstty -onlcr\necho {USER_SPACE}\n{work}poweroff -f\n"


def cmdline(console: str, work: str, **given: object) -> str:
    """The command line that has process 1 do `work`."""
    variables = [f'{name}="{value}"' for name, value in given.items()]
    return " ".join([f"console={console}", f"rdinit=/root/{work}", *variables])


@dataclass(frozen=True)
class Run:
    """A boot, from the command's start to its end, in seconds; `cpu` is processor time, if the host tells it."""

    seconds: float
    output: str
    cpu: float | None = None


class Stopwatch:
    """Seconds, and seconds of processor time: of commands run meanwhile, and of the process `pid`."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        self._began, self._cpu_began = time.perf_counter(), self._cpu()

    def stop(self, output: bytes) -> Run:
        """The command is over, with this output. Returns its times."""
        seconds, cpu = time.perf_counter() - self._began, self._cpu()
        spent = None if cpu is None or self._cpu_began is None else cpu - self._cpu_began
        return Run(seconds, output.decode("utf-8", "replace"), spent)

    def _cpu(self) -> float | None:
        times = os.times()
        try:
            return times.children_user + times.children_system + self._of_other()
        except (OSError, ValueError):
            return None

    def _of_other(self) -> float:
        """utime and stime of `pid`: proc(5)."""
        if self._pid is None:
            return 0.0
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Ours:
    """Linux as a domain of `pvhv`, in a pvhvd of its own."""

    def __init__(self, linux: Linux, pvhv: Pvhv) -> None:
        self.pvhv = pvhv
        self.linux = linux
        self.pid: int | None = None  # of a pvhvd that is known to be up

    def run(self, work: str, **given: object) -> Run:
        """Create the domain, and wait for its end. Raises Failed."""
        file = Path(self.pvhv.directory) / "linux.cfg"
        lines = {
            "name": "linux",
            "kernel": str(self.linux.kernel),
            "ramdisk": str(self.linux.ramdisk),
            "cmdline": cmdline("hvc0", work, **given),
            "memory": MEMORY,
            "vcpus": 1,
        }
        file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
        stopwatch = Stopwatch(self.pid)
        return checked(stopwatch.stop(self.pvhv.run("create", "-c", str(file), patience=PATIENCE_S)), "pvhv create")

    def start(self) -> None:
        """Start pvhvd, and find its process."""
        self.pid = int(json.loads(self.pvhv.run("info", "--json"))["pvhvd_pid"])


class Qemu:
    """Linux on the PC that QEMU emulates by TCG. Raises Missing where there is no QEMU."""

    def __init__(self, linux: Linux) -> None:
        found = shutil.which(QEMU)
        if found is None:
            raise Missing(f"there is no {QEMU} to compare with: apt-get install qemu-system-x86")
        self.executable = found
        self.linux = linux
        self.devices: tuple[str, ...] = ()  # options for more of them

    def command(self, line: str, memory: int = MEMORY) -> list[str]:
        """The command that boots it with a command line of the kernel's."""
        return [
            self.executable, "-accel", "tcg", "-machine", "pc", "-m", str(memory), "-smp", "1",
            "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
            "-kernel", str(self.linux.kernel), "-initrd", str(self.linux.ramdisk), "-append", line, *self.devices,
        ]  # fmt: skip

    def run(self, work: str, **given: object) -> Run:
        """Boot it, and wait for its end. Raises Failed."""
        command = self.command(cmdline("ttyS0", work, **given))
        stopwatch = Stopwatch()
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=PATIENCE_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Failed(f"{QEMU} did not power off within {PATIENCE_S:g} s") from None
        return checked(stopwatch.stop(done.stdout), QEMU)


def checked(run: Run, who: str) -> Run:
    """The run, if it reached user space. Else raises Failed."""
    if USER_SPACE not in run.output:
        raise Failed(f"Linux did not reach user space in {who}:\n{run.output[-2000:]}")
    return run


def figures(output: str) -> dict[str, float]:
    """The ns of one operation, by name, from lines "NAME=NS/OPERATIONS/ALL" of a guest's output."""
    found = (FIGURE.fullmatch(line.strip()) for line in output.splitlines())
    return {figure[1]: int(figure[2]) / int(figure[3]) for figure in found if figure is not None}
