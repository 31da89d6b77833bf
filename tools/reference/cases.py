# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernels are run, and what each needs, from their sources in guest_kernel/tests.

A test kernel's opening comment has its needs in lines "key: value", which tests/guest reads as well:

    needs: vcpus=2         and an engine, for pvhv
    ends: crash            how its domain ends, if not by powering off
    because: ...           what pvhv's report says then
    varies: ticks|cycles   lines with one of these words have numbers that differ from run to run

One called hostile-… runs beside the domain hostile-victim.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pvhv.toolstack.kernel_files import find_kernel
from tools.reference.jobs import Job

SOURCES = Path(__file__).parents[2] / "guest_kernel" / "tests"
HOSTILE, VICTIM = "hostile-", "hostile-victim"
# Dice that are thrown more than once: requests by chance, the same everywhere (guest_kernel/tests/lib/dice.c).
SEEDS = {
    "hostile-dice": range(2, 9),
    "hostile-grants-dice": range(2, 7),
    "hostile-grants-v2-dice": range(2, 7),
    "hostile-fifo-dice": range(2, 7),
}


def names() -> list[str]:
    """Every test kernel but the victim, which has no verdict of its own."""
    return sorted(path.parent.name for path in SOURCES.glob("*/*.c") if path.parent.name not in ("lib", VICTIM))


def said(name: str, key: str) -> str:
    """What the opening comment of a test kernel says after `key:`."""
    text = (SOURCES / name / f"{name}.c").read_text().partition("*/")[0]
    found = re.search(rf"^ \* {key}: (.*)$", text, re.MULTILINE)
    return found.group(1) if found else ""


def needs(name: str) -> dict[str, str]:
    """The needs of a test kernel, by name."""
    return dict(pair.split("=") for pair in said(name, "needs").split())


def is_hostile(name: str) -> bool:
    """Whether a test kernel is run beside the victim."""
    return name.startswith(HOSTILE) and name != VICTIM


def job(name: str, *, seed: int = 0, seconds: int = 60) -> Job:
    """The job that gives a test kernel's verdict. Raises ToolstackError."""
    beside = is_hostile(name)
    return Job(
        f"{name}-{seed}" if seed else name,
        built(name),
        vcpus=int(needs(name).get("vcpus", "1")),
        memory=16 if beside else 64,
        cmdline=f"seed={seed:x}" if seed else "",
        beside=beside,
        seconds=seconds,
    )


def jobs(wanted: Iterable[str]) -> list[Job]:
    """The jobs of these kernels: one for each, and for the dice one for each seed."""
    return [job(name, seed=seed) for name in wanted for seed in (0, *SEEDS.get(name, ()))]


def built(name: str) -> Path:
    """The kernel of a directory under guest_kernel/tests. Raises ToolstackError."""
    return find_kernel(f"test-{name}", Path.cwd(), "xen_reference")


def victim(wanted: Iterable[Job]) -> Path | None:
    """The kernel that the hostile ones are run beside, if there are any."""
    return built(VICTIM) if any(job.beside for job in wanted) else None
