# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernels there are to be run, and what each needs: by their sources in guest_kernel/tests.

A test kernel tells its needs in its opening comment; tests/guest goes by the same. One called hostile-… runs beside
the domain hostile-victim.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pvhv.toolstack.config import find_kernel
from tools.reference.jobs import Job

SOURCES = Path(__file__).parents[2] / "guest_kernel" / "tests"
HOSTILE, VICTIM = "hostile-", "hostile-victim"


def said(name: str, key: str) -> str:
    """What the opening comment of a test kernel says after `key:`."""
    text = (SOURCES / name / f"{name}.c").read_text().partition("*/")[0]
    found = re.search(rf"^ \* {key}: (.*)$", text, re.MULTILINE)
    return found.group(1) if found else ""


def vcpus(name: str) -> int:
    """How many a test kernel needs."""
    return int(dict(pair.split("=") for pair in said(name, "needs").split()).get("vcpus", "1"))


def built(name: str) -> Path:
    """The kernel of a directory under guest_kernel/tests. Raises ToolstackError."""
    return find_kernel(f"test-{name}", Path.cwd(), "xen_reference")


def job_for(
    kernel: str, wanted_vcpus: int | None, memory: int, cmdline: str, ramdisk: Path | None, seconds: int
) -> Job:
    """The job that a word on the command line stands for. Raises ToolstackError, ValueError, OSError."""
    name = kernel.removeprefix("test-")
    if (SOURCES / name).is_dir():
        beside = name.startswith(HOSTILE) and name != VICTIM
        count = wanted_vcpus or vcpus(name)
        return Job(name, built(name), count, memory, cmdline, ramdisk, beside=beside, seconds=seconds)
    path = Path(kernel)
    if path.suffix == ".cfg":
        return _of_a_domain_file(path, seconds)
    return Job(path.name, path, wanted_vcpus or 1, memory, cmdline, ramdisk, seconds=seconds)


def _of_a_domain_file(path: Path, seconds: int) -> Job:
    """The domain file as it is, but for where its kernel and ramdisk are."""
    text = path.read_text()

    def file(key: str) -> Path | None:
        found = value(r"""["'](.+?)["']""", key)
        return path.parent / found if found else None

    def value(pattern: str, key: str) -> str:
        found = re.search(rf"^\s*{key}\s*=\s*{pattern}", text, re.MULTILINE)
        return found.group(1) if found else ""

    if (kernel := file("kernel")) is None:
        raise ValueError(f"{path} names no kernel")
    count, memory = (int(value(r"(\d+)", key) or unsaid) for key, unsaid in (("vcpus", "1"), ("memory", "64")))
    extra = value(r"""["'](.*?)["']""", "(?:cmdline|extra)")
    return Job(path.stem, kernel, count, memory, extra, file("ramdisk"), keys=text, seconds=seconds)


def victim(wanted: Iterable[Job]) -> Path | None:
    """The kernel that the hostile ones are run beside, if there are any."""
    return built(VICTIM) if any(job.beside for job in wanted) else None
