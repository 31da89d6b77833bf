# SPDX-License-Identifier: GPL-2.0-or-later
"""Techniques and benchmarks by name, in the order in which they are shown everywhere.

The nanobenchmarks have the names that Adams and Agesen gave them ("A Comparison of Software and Hardware Techniques
for x86 Virtualization", ASPLOS 2006); the microbenchmarks follow lmbench, as the first paper on Xen used it. What a
benchmark does is in the guest that runs it; here are its name, its group and a line of explanation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pvhv.compare.errors import unknown
from pvhv.hvm import names as techniques
from pvhv.hvm.names import IDE, VIRTIO
from pvhv.toolstack import keys

# The techniques, by shorter names, and what a paravirtual domain's file calls it.
BARE, TRAP, TRANSLATION = techniques.BARE, techniques.TRAP_EMULATE, techniques.BINARY_TRANSLATION
SHADOW, NESTED, PV = techniques.HW_SHADOW, techniques.HW_NESTED, keys.PV

TECHNIQUES: dict[str, str] = {
    BARE: "no hypervisor: the baseline",
    TRAP: "deprivileged guest kernel, shadow paging; every privileged instruction traps and is emulated",
    TRANSLATION: "deprivileged guest kernel, shadow paging; sensitive instructions are rewritten as it runs",
    SHADOW: "hardware assistance of the first generation: shadow paging, exits",
    NESTED: "hardware assistance with nested paging",
    PV: "a paravirtual kernel on Xen's interface",
}
LINUX = "pv-linux"
# Columns that only stand where they are asked for.
OTHERS: dict[str, str] = {LINUX: "a stock Linux, a paravirtual kernel nobody here wrote, on the same interface"}
HARDWARE = frozenset({SHADOW, NESTED})  # the guest kernel runs at ring 0 of a guest mode; leaving it is a #VMEXIT
DEPRIVILEGED = frozenset({TRAP, TRANSLATION, PV, LINUX})  # the guest kernel runs above ring 0; leaving it is a trap

NANO, MICRO, LIFE, DISK_IO = "nano", "micro", "life", "disk"


@dataclass(frozen=True)
class Bench:
    """A benchmark: what one of its operations is, and whether the default comparison has it."""

    name: str
    group: str
    operation: str
    default: bool = False


BENCHES: dict[str, Bench] = {
    bench.name: bench
    for bench in (
        Bench("syscall", NANO, "a system call that does nothing, and its return", True),
        Bench("in", NANO, "the kernel reads an I/O port", True),
        Bench("cr8wr", NANO, "the kernel writes the task priority, CR8", True),
        Bench("callret", NANO, "a subroutine call and its return, in the kernel", True),
        Bench("pgfault", NANO, "a page fault, taken by the kernel's handler", True),
        Bench("divzero", NANO, "a division by zero, taken by the kernel's handler", True),
        Bench("ptemod", NANO, "the kernel changes a page-table entry", True),
        Bench("null-call", MICRO, "getpid()", True),
        Bench("fork", MICRO, "fork, exit, wait", True),
        Bench("exec", MICRO, "fork, exec, exit, wait", True),
        Bench("sh", MICRO, "a command through the shell"),
        Bench("ctx-2p-0k", MICRO, "a context switch between 2 processes", True),
        Bench("ctx-2p-16k", MICRO, "... each of which reads 16 KiB"),
        Bench("ctx-2p-64k", MICRO, "... 64 KiB"),
        Bench("ctx-8p-16k", MICRO, "a context switch among 8 processes that read 16 KiB each"),
        Bench("ctx-8p-64k", MICRO, "... 64 KiB"),
        Bench("ctx-16p-16k", MICRO, "a context switch among 16 processes that read 16 KiB each"),
        Bench("ctx-16p-64k", MICRO, "... 64 KiB"),
        Bench("mmap", MICRO, "a mapping is made, touched and removed"),
        Bench("prot-fault", MICRO, "a write to a page that may not be written, caught", True),
        Bench("page-fault", MICRO, "the first touch of a page", True),
        Bench("pipe", MICRO, "a byte through a pipe to another process and back"),
        Bench("file-create", MICRO, "a file is made in the file system in memory"),
        Bench("file-delete", MICRO, "... and removed"),
    )
}
# A guest's life, in three parts: of paravirtual kernels, where Linux is compared.
LIVES: dict[str, Bench] = {
    bench.name: bench
    for bench in (
        Bench("boot", LIFE, "from a kernel's first instruction to the first system call of a user program"),
        Bench("shell", LIFE, "... from there to the prompt of a shell that waits"),
        Bench("poweroff", LIFE, "... from what is typed there to the end"),
    )
}
# A disk, past the kernel's buffers (`pvhv compare --io disk`); the guest's driver sees one of several devices.
DISK_BENCHES: dict[str, Bench] = {
    bench.name: bench
    for bench in (
        Bench("read-4k", DISK_IO, "4 KiB are read, by one system call"),
        Bench("read-64k", DISK_IO, "64 KiB are read"),
        Bench("write-4k", DISK_IO, "4 KiB are written"),
        Bench("write-64k", DISK_IO, "64 KiB are written"),
        Bench("stream-1m", DISK_IO, "1 MiB is read, one piece behind the other"),
    )
}
SPLIT = "split"
MODELS: dict[str, str] = {
    IDE: "an IDE disk: registers at I/O ports, and the guest moves each word (native/ide.c)",
    VIRTIO: "a disk that was made for virtual machines: rings in the guest's memory (native/virtio_blk.c)",
    SPLIT: "a split driver: a ring that two domains share, and pages that are granted (drivers/blkfront.c)",
}
# The columns there: a technique, with a device model.
DISK_COLUMNS: dict[str, tuple[str, str]] = {
    f"{technique}/{model}": (technique, model)
    for model in MODELS
    for technique in TECHNIQUES
    if (model == SPLIT) == (technique == PV)
}
EVERY_BENCH: dict[str, Bench] = BENCHES | LIVES | DISK_BENCHES
EVERY_COLUMN: dict[str, str] = TECHNIQUES | OTHERS | {
    name: f"{technique}, with {MODELS[model]}" for name, (technique, model) in DISK_COLUMNS.items()
}
DEFAULT_BENCHES = tuple(name for name, bench in BENCHES.items() if bench.default)


def techniques_named(names: Iterable[str]) -> tuple[str, ...]:
    """Techniques by name, each once, in the order of the table. Raises UnknownName."""
    return _chosen("technique", names, TECHNIQUES)


def benches_named(names: Iterable[str]) -> tuple[str, ...]:
    """Benchmarks by name, each once, in the order of the table. Raises UnknownName."""
    return _chosen("benchmark", names, BENCHES)


def disk_columns_named(names: Iterable[str]) -> tuple[str, ...]:
    """Columns of the comparison of disks, each once, in the order of the table. A technique's name stands for all of
    its columns. Raises UnknownName."""
    wanted: list[str] = []
    for name in names:
        of_technique = [column for column, (technique, _) in DISK_COLUMNS.items() if technique == name]
        wanted += of_technique or _chosen("technique", [name], DISK_COLUMNS)
    return tuple(column for column in DISK_COLUMNS if column in wanted)


def disk_benches_named(names: Iterable[str]) -> tuple[str, ...]:
    """Benchmarks of a disk by name, each once, in the order of the table. Raises UnknownName."""
    return _chosen("benchmark of a disk", names, DISK_BENCHES)


def group_of(bench: str) -> str:
    """The group that a benchmark belongs to."""
    known = EVERY_BENCH.get(bench)
    return known.group if known is not None else ""


def _chosen(kind: str, names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    order = list(known)
    wanted = set()
    for name in names:
        if name not in order:
            raise unknown(kind, name, order)
        wanted.add(name)
    return tuple(name for name in order if name in wanted)
