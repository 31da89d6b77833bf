# SPDX-License-Identifier: GPL-2.0-or-later
"""What words on the command line stand for: test kernels, files that are kernels, domain files for xl."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from tools.reference import cases
from tools.reference.jobs import Job

FILES_MEMORY = 16  # MiB, of a kernel that is a file; a domain file that names none gets what xl would give it
DOMAIN_FILES_MEMORY = 32


@dataclass(frozen=True)
class Wishes:
    """The options for every kernel on the command line; None or empty: the kernel's own."""

    vcpus: int | None = None
    memory: int | None = None
    cmdline: str = ""
    ramdisk: Path | None = None
    seconds: int = 60


def job_for(word: str, wishes: Wishes) -> Job:
    """The job that a word on the command line stands for. Raises ToolstackError, ValueError, OSError."""
    name = word.removeprefix("test-")
    path = Path(word)
    if (cases.SOURCES / name).is_dir() and name != "lib":
        job = cases.job(name)
    elif not path.is_file():
        raise ValueError(f"{word!a} is no file, and there is no guest_kernel/tests/{name}")
    else:
        job = of_a_domain_file(path) if path.suffix == ".cfg" else Job(path.name, path, memory=FILES_MEMORY)
    return replace(
        job,
        vcpus=wishes.vcpus or job.vcpus,
        memory=wishes.memory or job.memory,
        cmdline=wishes.cmdline or job.cmdline,
        ramdisk=wishes.ramdisk or job.ramdisk,
        seconds=wishes.seconds,
    )


def of_a_domain_file(path: Path) -> Job:
    """The job of a domain file, with kernel and ramdisk taken from where it says. Raises ValueError, OSError."""
    text = path.read_text()

    def value(key: str, pattern: str) -> str:
        found = re.search(rf"^\s*{key}\s*=\s*{pattern}", text, re.MULTILINE)
        return found.group(1) if found else ""

    def string(key: str) -> str:
        return value(key, r"""["'](.*?)["']""")

    if not (kernel := string("kernel")):
        raise ValueError(f"{path} names no kernel")
    ramdisk = string("ramdisk")
    return Job(
        path.stem,
        path.parent / kernel,
        vcpus=int(value("vcpus", r"(\d+)") or 1),
        memory=int(value("memory", r"(\d+)") or DOMAIN_FILES_MEMORY),
        cmdline=string("(?:cmdline|extra)"),
        ramdisk=path.parent / ramdisk if ramdisk else None,
        keys=text,
    )
