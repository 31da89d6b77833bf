# SPDX-License-Identifier: GPL-2.0-or-later
"""The group `linux`: what a stock Linux costs, beside the same Linux in QEMU's TCG and beside real Xen.

`boot` is the time from the command to its end, of a guest that reaches user space and powers off, as a ratio to
QEMU's time for the same; the two take turns, and the figure is the median of the pairs' ratios. *Cold* is the first
`create`: no pvhvd is up, and the kernel has never been unpacked.

The operations of guest/micro.c are shares of what they take under real Xen inside QEMU's TCG. Real Xen is not
measured here: published.toml has figures of another machine, which is faster or slower than this one. So the figures
are scaled by the time of the program's xorshift loop in QEMU here and in QEMU there: the same translator and the same
code, without anything of pvhv. (If the loop ran in our own guest, a slow engine would lengthen the times that it is
compared with.) One number then stands for a whole machine, and a loop in registers does not touch memory. So QEMU's
other operations are compared here and there as well, and `linux_scale_all` is the mean of all. If it is far from
`linux_scale`, then QEMU's release or the machine's caches matter as much as its speed, and the shares are only as exact
as the two numbers agree.

Compute-bound processes are compared with the bare engine as in the groups `wall` and `virtual`: the same loops, the
yardstick taken while the process waits, its time that of its own rdtsc less what other processes took from us. Since
the blocks of our engines are eased (bare.py), a process may be faster than on the bare engine; what the hypervisor
takes of it is seen by the bare engine eased as well, whose share stands beside.

A row without its Linux or its QEMU says what to install.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tools.benchmark import linux as stock
from tools.benchmark.cli import Pvhv
from tools.benchmark.guests import Ear, Failed, Sample
from tools.benchmark.linux import BOOT, LOOPS, OPERATIONS, Linux, Missing, Ours, Qemu
from tools.benchmark.report import progress
from tools.benchmark.rows import LONG_TRIES, Bench, Effort, Row, median_ns, readable
from tools.benchmark.rows import LOOPS as LOOP_NAMES

PUBLISHED = Path(__file__).with_name("published.toml")
GROUP = "linux"
FEW = 3  # of what takes long and varies little
SHARE = "of Xen's time"
TARGETS = {"linux_boot": 0.85, "linux_compute": 0.95}
TITLES = {
    "linux_boot": "create a stock Linux, to user space and power-off",
    "linux_boot_cold": "... pvhvd not up, the kernel never unpacked",
    "linux_boot_cpu": "... in processor time, as a busy host cannot spoil it",
    "linux_compute": "compute-bound process (geometric mean)",
    **{f"linux_compute_{name}": name for name in LOOP_NAMES},
    "linux_scale": "this machine against the published one's: QEMU's xorshift",
    "linux_scale_all": "... and all of QEMU's operations (geometric mean)",
}
OPERATION_ROWS: dict[str, tuple[str, float]] = {
    # the program's name for it: (what it is, target as a share of real Xen's time)
    "getppid": ("system call (getppid)", 0.5),
    "read_zero": ("read a byte of /dev/zero", 0.5),
    "signal": ("signal to oneself", 0.5),
    "fork": ("fork, exit, wait", 0.7),
    "exec": ("fork, exec, exit, wait", 0.7),
    "pipe": ("pipe, a byte there and back", 0.5),
    "mmap": ("mmap, touch 64 pages, munmap", 0.5),
    "page_fault": ("anonymous page fault", 0.5),
    "mprotect": ("mprotect of a page", 0.5),
    "sched_yield": ("sched_yield", 0.5),
}
ROWS = (*TITLES, *(f"linux_{name}" for name in OPERATION_ROWS))


def rows(bench: Bench, wanted: Callable[[str], bool] = lambda _name: True) -> list[Row]:
    """All rows, or those of its three parts that have a wanted row."""
    boot, compute = [[name for name in TITLES if name.startswith(f"linux_{part}")] for part in ("boot", "compute")]
    operations = [name for name in ROWS if name not in (*boot, *compute)]
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="pvhv-bench-") as directory, ExitStack() as stack:
        try:
            progress("bench: linux: the guest's program (the first time with its C library: half a minute) ...")
            linux = stock.prepare(Path(directory))
            if any(map(wanted, compute)):
                found += compute_rows(bench, linux)
            if any(map(wanted, boot + operations)):
                qemu = Qemu(linux)
                domain = stack.enter_context(ours(linux))
            if any(map(wanted, boot)):
                found += boot_rows(bench.effort, domain, qemu)
            if any(map(wanted, operations)):
                found += operation_rows(bench.effort, domain, qemu)
        except Missing as missing:
            have = {row.name for row in found}
            found += [absent(name, str(missing)) for name in ROWS if name not in have]
    return sorted(found, key=lambda row: ROWS.index(row.name))


def absent(name: str, why: str) -> Row:
    """A row that could not be measured."""
    title, target = OPERATION_ROWS.get(name.removeprefix("linux_"), (TITLES.get(name, ""), TARGETS.get(name)))
    return Row(GROUP, name, title, float("nan"), "", target, at_least=name == "linux_compute", missing=why)


@contextmanager
def ours(linux: Linux, cache: Path | None = None) -> Iterator[Ours]:
    """Linux as a domain, in a pvhvd that is not up yet; with `cache`, unpacked kernels are kept there."""
    pvhv = Pvhv({} if cache is None else {"PVHV_CACHE_DIR": os.fspath(cache)})
    try:
        yield Ours(linux, pvhv)
    finally:
        pvhv.close()


# -- booting -----------------------------------------------------------------------------------------------------------
def boot_rows(effort: Effort, domain: Ours, qemu: Qemu) -> list[Row]:
    """Boots of ours and of QEMU's in turn; before the first few pairs, one that does everything for the first time."""
    warm, cold, cpu = [], [], []
    for number in range(effort.samples):
        progress(f"bench: linux: boots, {number + 1} of {effort.samples} ...")
        first = first_boot(domain.linux) if number < FEW else None
        domain.start()
        mine, theirs = domain.run(BOOT), qemu.run(BOOT)
        warm.append((mine.seconds, theirs.seconds))
        if first is not None:
            cold.append((first, theirs.seconds))
        if mine.cpu and theirs.cpu:
            cpu.append((mine.cpu, theirs.cpu))
    rows = [boot_row("linux_boot", warm), boot_row("linux_boot_cold", cold)]
    untold = absent("linux_boot_cpu", "this system does not tell how much of a processor another process has had")
    return [*rows, boot_row("linux_boot_cpu", cpu) if cpu else untold]


def first_boot(linux: Linux) -> float:
    """Seconds of a boot with an empty cache and no pvhvd."""
    with tempfile.TemporaryDirectory(prefix="pvhv-bench-") as empty, ours(linux, Path(empty)) as domain:
        return domain.run(BOOT).seconds


def boot_row(name: str, pairs: list[tuple[float, float]]) -> Row:
    """Seconds of ours and of QEMU's, as a row: the median of the ratios."""
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    mine, theirs = (statistics.median(seconds) * 1e9 for seconds in zip(*pairs, strict=True))
    beside = f"QEMU {readable(theirs)}"
    return Row(GROUP, name, TITLES[name], ratio, "of QEMU's time", TARGETS.get(name), ns=mine, beside=beside)


# -- a process that only computes --------------------------------------------------------------------------------------
def compute_rows(bench: Bench, linux: Linux) -> list[Row]:
    """The share of the bare engine's speed that a process gets."""
    progress("bench: linux: computing ...")
    yardsticks = bench.yardsticks
    eased: dict[str, list[float]] = defaultdict(list)

    def yardstick(name: str) -> float:
        if name == LOOP_NAMES[0] and len(eased[name]) % LONG_TRIES == 0:
            yardsticks.renew()  # as the guest begins with another copy of the program
        eased[name].append(yardsticks.loop(name, eased=True))
        return yardsticks.loop(name)

    counts = " ".join(str(yardsticks.counts[name]) for name in LOOP_NAMES)
    guest = bench.machine.create(
        linux.kernel, name="linux", ramdisk=linux.ramdisk, memory=stock.MEMORY, clock="wall", paused=True,
        cmdline=stock.cmdline("hvc0", LOOPS, times=bench.effort.samples, counts=counts),
    )  # fmt: skip
    ear = Ear(guest, yardstick, yardsticks.tsc_khz, one_try=True, by_guest=True)
    guest.start()
    bench.machine.run(guest, timeout=stock.PATIENCE_S)
    result = bench.machine.result(guest)
    bench.machine.host.destroy(guest)
    if missing := [name for name in LOOP_NAMES if not ear.samples[name]]:
        raise Failed(f"Linux did not time {missing[0]}: {result.ending}\n{result.output[-2000:]}")
    found = {name: paired(ear.samples[name], eased[name]) for name in LOOP_NAMES}

    def row(name: str, share: float, of_eased: float, ns: float | None = None) -> Row:
        beside = f"{of_eased:.2f} of bare, eased"
        return Row(GROUP, name, TITLES[name], share, "of bare", TARGETS.get(name), at_least=True, ns=ns, beside=beside)

    means = [statistics.geometric_mean(column) for column in zip(*found.values(), strict=True)]
    each = [row(f"linux_compute_{name}", *found[name], ns=median_ns(ear.samples[name])) for name in LOOP_NAMES]
    return [row("linux_compute", *means), *each]


def paired(samples: list[Sample], eased: list[float]) -> tuple[float, float]:
    """The shares a loop has of the bare engine's speed and of the eased one's: each the median of the pairs' shares.

    (A ratio of each side's median would be wrong: on a busy host the two halves of a pair are alike, but pairs differ.)
    """
    of_bare = statistics.median(sample.yardstick_ns / sample.ns for sample in samples)
    return of_bare, statistics.median(ns / sample.ns for sample, ns in zip(samples, eased, strict=False))


# -- operations --------------------------------------------------------------------------------------------------------
def operation_rows(effort: Effort, domain: Ours, qemu: Qemu) -> list[Row]:
    """Everything of guest/micro.c, on either side in turn; the shortest of each counts."""
    domain.start()
    pace = {"ms": 20, "batches": 10} if effort.samples > 1 else {"ms": 2, "batches": 2}
    mine, theirs = [], []
    for number in range(times := min(effort.samples, FEW)):
        progress(f"bench: linux: operations, {number + 1} of {times} ...")
        mine.append(stock.figures(domain.run(OPERATIONS, **pace).output))
        theirs.append(stock.figures(qemu.run(OPERATIONS, **pace).output))
    return shares(shortest(mine), shortest(theirs), tomllib.loads(PUBLISHED.read_text()))


def shortest(runs: list[dict[str, float]]) -> dict[str, float]:
    """The shortest time of each operation in several runs. Raises Failed if an operation is missing."""
    wanted = ("xorshift", *OPERATION_ROWS)
    if missing := [name for run in runs for name in wanted if name not in run]:
        raise Failed(f"a Linux did not report {missing[0]}")
    return {name: min(run[name] for run in runs) for name in wanted}


def shares(
    mine: Mapping[str, float], native: Mapping[str, float], published: Mapping[str, Mapping[str, float]]
) -> list[Row]:
    """The operations' times in our guest and in QEMU, as shares of real Xen's on a machine as fast as this one."""
    scales = {name: native[name] / published["qemu"][name] for name in native}
    scale, mean = scales["xorshift"], statistics.geometric_mean(scales.values())
    found = [
        Row(GROUP, "linux_scale", TITLES["linux_scale"], scale, "of its time", ns=native["xorshift"]),
        Row(GROUP, "linux_scale_all", TITLES["linux_scale_all"], mean, "of its time"),
    ]
    for name, (title, target) in OPERATION_ROWS.items():
        share = mine[name] / (published["xen"][name] * scale)
        beside = f"QEMU {readable(native[name])}"
        found.append(Row(GROUP, f"linux_{name}", title, share, SHARE, target, ns=mine[name], beside=beside))
    return found
