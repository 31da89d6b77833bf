# SPDX-License-Identifier: GPL-2.0-or-later
"""The group `disk`: what a stock Linux gets of a disk, beside the same Linux in QEMU's TCG with virtio-blk.

Both sides boot the same kernel and initramfs, one processor each, and use the same raw image, one after the other. QEMU
has it with cache=none,aio=threads. guest/disk.c does the same operations on both; a figure is ours as a share of QEMU's
throughput, the median of the runs' shares. Our side runs in this process, as the other groups do.

`disk_calls` is what another domain notices: the time of its system calls while a domain streams from its disk, against
the time without that domain. Only one of the two runs at a time, so what is compared is the median of batches of a
millisecond, in most of which the domain runs without a break.

`disk_cpu_*` say whose processor time a stream of 1 MiB reads takes: the domain's vCPU, the engine and its exits; and
everything else in the process, which is the backend on the hypervisor's thread and the thread that has the file.

`disk_login` is the boot of Debian from its own disk (fetch_linux.py --disk) to the login, with its own initramfs.

A row without its Linux, its QEMU or its disk says what to install.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pvhv.build.zig import BuildError
from pvhv.testing import Machine
from pvhv.toolstack import fetched
from pvhv.toolstack.guest import Guest
from tools.benchmark import linux as stock
from tools.benchmark.guests import Failed
from tools.benchmark.linux import Linux, Missing, Qemu
from tools.benchmark.report import progress
from tools.benchmark.rows import Effort, Row, readable
from tools.linux import cpio, initramfs, programs

GROUP = "disk"
SOURCE = stock.ROOT / "tools/benchmark/guest/disk.c"
IMAGE_MIB = 64
FEW = 3
OF_QEMU = "of QEMU's throughput"
OPERATION_ROWS: dict[str, tuple[str, float]] = {
    # the program's name for it: (what it is, target as a share of QEMU's throughput)
    "cached_read": ("read through the page cache, per MiB", 0.6),
    "cached_write": ("write through it and flush, per MiB", 0.6),
    "direct_read": ("read 1 MiB past the page cache", 0.5),
    "direct_write": ("write 1 MiB past the page cache", 0.5),
    "page_read": ("read 4 KiB, one at a time", 0.5),
    "page_write": ("write 4 KiB, one at a time", 0.5),
    "pages_read": ("read 4 KiB, 32 under way", 0.5),
    "pages_write": ("write 4 KiB, 32 under way", 0.5),
}
CALLS, LOGIN = "disk_calls", "disk_login"
CPU = ("disk_cpu_domain", "disk_cpu_backend", "disk_cpu_qemu")
TITLES = {
    CALLS: "system calls of one domain while another streams from its disk",
    CPU[0]: "processor time of a stream, per MiB: the domain's",
    CPU[1]: "... the backend's, and the rest of the process",
    CPU[2]: "... all of QEMU's",
    LOGIN: "Debian boots from its disk to the login",
}
TARGETS = {CALLS: 1.3}
ROWS = (*(f"disk_{name}" for name in OPERATION_ROWS), *TITLES)
ALL, STREAM, OTHER = "disk-all", "disk-stream", "disk-calls"
# The driver is that of the machine it is on: what the example's init loads, or virtio's.
FIND = """\
disk=/dev/xvda
[ -b $disk ] || { modprobe virtio_pci; modprobe virtio_blk; disk=/dev/vda; }
for n in 1 2 3 4 5 6 7 8 9; do [ -b $disk ] || sleep 0.2; done
dmesg -n 1
"""
WORK = {
    ALL: f"{FIND}/root/disk all $disk $ms\n",
    STREAM: f"{FIND}/root/disk stream $disk $ms\n",
    OTHER: "dmesg -n 1\n/root/disk calls $ms\n",
}
LOGIN_PROMPT = b"login: "
PATIENCE_S = 600.0


def rows(effort: Effort, wanted: Callable[[str], bool] = lambda _name: True) -> list[Row]:
    """All rows, or those of the parts that have a wanted row."""
    found: list[Row] = []
    operations = [f"disk_{name}" for name in OPERATION_ROWS]
    with tempfile.TemporaryDirectory(prefix="pvhv-bench-") as scratch:
        directory = Path(scratch)
        try:
            linux = prepare(directory)
            image = make_image(directory)
            if wanted(CALLS):
                found.append(calls_row(effort, linux, image))
            if any(map(wanted, [*operations, *CPU])):
                qemu = QemuWithDisk(linux, image)
                if any(map(wanted, operations)):
                    found += operation_rows(effort, linux, image, qemu)
                if any(map(wanted, CPU)):
                    found += cpu_rows(effort, linux, image, qemu)
            if wanted(LOGIN):
                found.append(login_row(directory))
        except Missing as missing:
            have = {row.name for row in found}
            found += [absent(name, str(missing)) for name in ROWS if name not in have]
    return sorted(found, key=lambda row: ROWS.index(row.name))


def absent(name: str, why: str) -> Row:
    """A row that could not be measured."""
    if name in TITLES:
        return Row(GROUP, name, TITLES[name], float("nan"), "", TARGETS.get(name), missing=why)
    title, target = OPERATION_ROWS[name.removeprefix("disk_")]
    return Row(GROUP, name, title, float("nan"), "", target, at_least=True, missing=why)


def prepare(directory: Path) -> Linux:
    """The kernel that was fetched, and an initramfs in `directory` with its modules and the program. Raises Missing."""
    parts = [fetched.find(f"debian-{name}") for name in ("vmlinuz", "initramfs", "modules")]
    kernel, example, modules = parts
    if kernel is None or example is None or modules is None or not modules.stat().st_size:
        raise Missing("there is no Linux to boot: python3 tools/fetch_linux.py fetches one")
    busybox = dict(cpio.read(example.read_bytes()))["bin/busybox"]
    try:
        program = programs.build(SOURCE)
    except BuildError as error:
        raise Missing(str(error)) from None
    extra = {"disk": program} | {name: stock.script(work).encode() for name, work in WORK.items()}
    ramdisk = directory / "initramfs"
    ramdisk.write_bytes(initramfs.build(busybox, extra, modules.read_bytes()))
    return Linux(kernel, ramdisk)


def make_image(directory: Path) -> Path:
    """A raw image without holes."""
    image = directory / "image"
    with image.open("wb") as file:
        for _ in range(IMAGE_MIB):
            file.write(os.urandom(1 << 20))
        os.fsync(file.fileno())
    return image


class QemuWithDisk(Qemu):
    """Linux on QEMU's PC with a virtio disk."""

    def __init__(self, linux: Linux, image: Path) -> None:
        super().__init__(linux)
        drive = f"file={image},if=none,id=disk,format=raw,cache=none,aio=threads"
        self.devices = ("-drive", drive, "-device", "virtio-blk-pci,drive=disk")


@contextmanager
def domain(machine: Machine, linux: Linux, work: str, image: Path | None, **given: object) -> Iterator[Guest]:
    """Linux as a domain, with the image as its disk."""
    guest = machine.create(
        linux.kernel, name=work, ramdisk=linux.ramdisk, memory=stock.MEMORY, clock="wall",
        cmdline=stock.cmdline("hvc0", work, **given), disks=[f"{image},raw,xvda,rw"] if image else [],
    )  # fmt: skip
    try:
        yield guest
    finally:
        machine.host.destroy(guest)


def ours(linux: Linux, work: str, image: Path | None, **given: object) -> str:
    """What a domain says, from its start to its end. Raises Failed."""
    with Machine(stock.MEMORY) as machine, domain(machine, linux, work, image, **given) as guest:
        machine.run(guest, timeout=stock.PATIENCE_S)
        return finished(machine, guest)


def finished(machine: Machine, guest: Guest) -> str:
    """What a domain said. Raises Failed if it did not power off."""
    result = machine.result(guest)
    if result.exit_status:
        raise Failed(f"Linux with a disk did not come to its end: {result.ending}\n{result.output[-2000:]}")
    return result.output


# -- operations --------------------------------------------------------------------------------------------------------
def operation_rows(effort: Effort, linux: Linux, image: Path, qemu: Qemu) -> list[Row]:
    """Everything of guest/disk.c, on either side in turn."""
    pace = {"ms": 1000 if effort.samples > 1 else 20}
    pairs = []
    for number in range(times := min(effort.samples, FEW)):
        progress(f"bench: disk: operations, {number + 1} of {times} ...")
        mine = stock.figures(ours(linux, ALL, image, **pace))
        theirs = stock.figures(qemu.run(ALL, **pace).output)
        pairs.append((mine, theirs))
    return [operation_row(name, pairs) for name in OPERATION_ROWS]


def operation_row(name: str, pairs: list[tuple[dict[str, float], dict[str, float]]]) -> Row:
    """An operation's share of QEMU's throughput. Raises Failed if a Linux did not do it."""
    title, target = OPERATION_ROWS[name]
    if any(name not in side for pair in pairs for side in pair):
        raise Failed(f"a Linux did not report {name}")
    share = statistics.median(theirs[name] / mine[name] for mine, theirs in pairs)
    mine, theirs = (statistics.median(side[name] for side in sides) for sides in zip(*pairs, strict=True))
    beside = f"QEMU {readable(theirs)}"
    return Row(GROUP, f"disk_{name}", title, share, OF_QEMU, target, at_least=True, ns=mine, beside=beside)


# -- what another domain notices -----------------------------------------------------------------------------------
def calls_row(effort: Effort, linux: Linux, image: Path) -> Row:
    """System calls with and without a domain that streams, in turn."""
    pace = {"ms": 1000 if effort.samples > 1 else 50}
    pairs = []
    for number in range(times := min(effort.samples, FEW)):
        progress(f"bench: disk: system calls beside a stream, {number + 1} of {times} ...")
        alone = stock.figures(ours(linux, OTHER, None, **pace))
        pairs.append((figure(beside_a_stream(linux, image, **pace)), figure(alone)))
    ratio = statistics.median(mine / alone for mine, alone in pairs)
    mine, alone = (statistics.median(times) for times in zip(*pairs, strict=True))
    beside = f"alone {readable(alone)}"
    return Row(GROUP, CALLS, TITLES[CALLS], ratio, "of alone", TARGETS[CALLS], ns=mine, beside=beside)


def beside_a_stream(linux: Linux, image: Path, **pace: object) -> dict[str, float]:
    """The figures of a domain while another streams. Raises Failed."""
    with Machine(2 * stock.MEMORY) as machine, domain(machine, linux, STREAM, image, ms=0) as other:
        if not machine.hypervisor.run_until(lambda: b"streaming" in other.console.output(), stock.PATIENCE_S):
            raise Failed(f"a domain did not begin to stream:\n{other.console.output()[-2000:]!r}")
        with domain(machine, linux, OTHER, None, **pace) as guest:
            machine.run(guest, timeout=stock.PATIENCE_S)
            return stock.figures(finished(machine, guest))


def figure(found: Mapping[str, float]) -> float:
    """The time of a system call. Raises Failed."""
    if "calls" not in found:
        raise Failed("a Linux did not report its system calls")
    return found["calls"]


# -- processor time ----------------------------------------------------------------------------------------------------
def cpu_rows(effort: Effort, linux: Linux, image: Path, qemu: Qemu) -> list[Row]:
    """Whose time a stream takes: of ours what the vCPU ran, and the rest; of QEMU's all."""
    ms = 3000 if effort.samples > 1 else 100
    progress("bench: disk: processor time of a stream ...")
    with Machine(stock.MEMORY) as machine, domain(machine, linux, STREAM, image, ms=ms) as guest:
        said = guest.console.output
        machine.hypervisor.run_until(lambda: b"streaming" in said() or guest.ended is not None, stock.PATIENCE_S)
        ran, cpu = guest.domain.vcpus[0].ran, time.process_time_ns()
        machine.hypervisor.run_until(lambda: b"stream=" in said() or guest.ended is not None, stock.PATIENCE_S)
        ran, cpu = guest.domain.vcpus[0].ran - ran, time.process_time_ns() - cpu
        machine.run(guest, timeout=stock.PATIENCE_S)
        mib = streamed(finished(machine, guest))
    found = [cpu_row(CPU[0], ran / mib), cpu_row(CPU[1], max(cpu - ran, 0) / mib)]
    # QEMU is a process of its own, whose time is known at its end: what a short stream takes less is the boot's.
    long, short = (qemu.run(STREAM, ms=wanted) for wanted in (ms, 1))
    mib = streamed(long.output) - streamed(short.output)
    if long.cpu is None or short.cpu is None or mib <= 0:
        return [*found, absent(CPU[2], "this system does not tell how much of a processor another process has had")]
    return [*found, cpu_row(CPU[2], max(long.cpu - short.cpu, 0) * 1e9 / mib)]


def streamed(output: str) -> int:
    """How many MiB a Linux read in its stream. Raises Failed."""
    for line in output.splitlines():
        if (found := stock.FIGURE.fullmatch(line.strip())) is not None and found[1] == "stream":
            return int(found[2 + 1])
    raise Failed(f"a Linux did not report its stream:\n{output[-2000:]}")


def cpu_row(name: str, ns: float) -> Row:
    """Processor time per MiB."""
    return Row(GROUP, name, TITLES[name], ns / 1e6, "ms", ns=ns)


# -- a Debian on its disk ----------------------------------------------------------------------------------------------
def login_row(directory: Path) -> Row:
    """Seconds from the start to the login. Each side has a copy of the disk. Raises Missing, Failed."""
    parts = [fetched.find(f"debian-disk{part}") for part in ("", "-vmlinuz", "-initramfs")]
    disk, kernel, ramdisk = parts
    if disk is None or kernel is None or ramdisk is None:
        raise Missing("there is no Debian on a disk: python3 tools/fetch_linux.py --disk 2G makes one")
    progress("bench: disk: Debian boots to its login ...")
    copies = []
    for name in ("ours", "qemu"):
        copies.append(directory / name)
        subprocess.run(["cp", "--sparse=always", disk, copies[-1]], check=True)
    linux = Linux(kernel, ramdisk)
    mine, theirs = our_login(linux, copies[0]), qemu_login(linux, copies[1])
    beside = f"QEMU {readable(theirs * 1e9)}"
    return Row(GROUP, LOGIN, TITLES[LOGIN], mine / theirs, "of QEMU's time", ns=mine * 1e9, beside=beside)


def our_login(linux: Linux, image: Path) -> float:
    """Seconds of a domain."""
    began = time.perf_counter()
    with Machine(2 * stock.MEMORY) as machine:
        guest = machine.create(
            linux.kernel, ramdisk=linux.ramdisk, memory=2 * stock.MEMORY, clock="wall",
            cmdline="console=hvc0 root=/dev/xvda ro", disks=[f"{image},raw,xvda,rw"],
        )  # fmt: skip
        said = guest.console.output
        machine.hypervisor.run_until(lambda: LOGIN_PROMPT in said() or guest.ended is not None, PATIENCE_S)
        took = time.perf_counter() - began
        if LOGIN_PROMPT not in said():
            raise Failed(f"Debian did not come to its login:\n{said()[-2000:]!r}")
    return took


def qemu_login(linux: Linux, image: Path) -> float:
    """Seconds of QEMU, which has the same disk as vda."""
    qemu = QemuWithDisk(linux, image)
    command = qemu.command("console=ttyS0 root=/dev/vda ro", 2 * stock.MEMORY)
    began, said = time.perf_counter(), b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            while LOGIN_PROMPT not in said and (piece := os.read(process.stdout.fileno(), 4096)):
                said += piece
            took = time.perf_counter() - began
        finally:
            process.kill()
    if LOGIN_PROMPT not in said:
        raise Failed(f"Debian did not come to its login in QEMU:\n{said[-2000:]!r}")
    return took
