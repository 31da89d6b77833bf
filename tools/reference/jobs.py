# SPDX-License-Identifier: GPL-2.0-or-later
"""What dom0 is to do: its `init` (dom0/init.sh), and a domain file and a kernel for each job, in an archive.

A job is one domain. It has a domain file for xl. Whatever that says, the name, the kernel, the sizes and what follows
its end are set by us, in its last lines. A kernel that several jobs run is in the archive once.

This module does not know how a job ends (machine.py), nor what its result should be (verdicts.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.linux.cpio import Archive

NAME = re.compile(r"[a-zA-Z0-9][\w.+~-]*", re.ASCII)
VICTIM = "victim"
INIT = Path(__file__).parent / "dom0" / "init.sh"
ENDS = "".join(f'on_{end}="preserve"\n' for end in ("poweroff", "reboot", "crash", "watchdog", "soft_reset"))


@dataclass(frozen=True)
class Job:
    """One domain to be run. With `beside`, a victim runs as well, and the facts it tells are added to the command
    line. With a `script`, dom0 runs that while the domain runs; its output is the job's, and its end ends the job."""

    name: str
    kernel: Path
    vcpus: int = 1
    memory: int = 16
    cmdline: str = ""
    ramdisk: Path | None = None
    keys: str = ""  # more lines of a domain file
    beside: bool = False
    script: Path | None = None
    seconds: int = 60

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or self.name == VICTIM:
            raise ValueError(f"{self.name!a} is no name for a job")
        if set(self.cmdline) & set("'\"\\\n"):
            raise ValueError(f"{self.name}: a command line with quotes in it cannot be handed to xl")


def archive(jobs: Sequence[Job], victim: Path | None) -> bytes:
    """The files of all jobs. Raises OSError."""
    if len({job.name for job in jobs}) != len(jobs):
        raise ValueError("two jobs have one name")
    made = Archive()
    made.file("init", INIT.read_bytes(), 0o755)
    places: dict[Path, str] = {}

    def kept(path: Path) -> str:
        if path not in places:
            places[path] = f"jobs/files/{len(places)}"
            made.file(places[path], path.read_bytes())
        return f"/{places[path]}"

    def domain_file(name: str, kernel: Path, keys: str) -> None:
        made.file(f"jobs/{name}.cfg", f'{keys}\nname="{name}"\ntype="pv"\nkernel="{kept(kernel)}"\n{ENDS}'.encode())

    if victim is not None:
        domain_file(VICTIM, victim, "memory=16")
    for job in jobs:
        keys = f"{job.keys}\nmemory={job.memory}\nvcpus={job.vcpus}"
        if job.cmdline and not job.beside:
            keys += f'\ncmdline="{job.cmdline}"'
        if job.ramdisk is not None:
            keys += f'\nramdisk="{kept(job.ramdisk)}"'
        domain_file(job.name, job.kernel, keys)
        made.file(f"jobs/{job.name}.extra", job.cmdline.encode())
        if job.script is not None:
            made.file(f"jobs/{job.name}.sh", job.script.read_bytes(), 0o755)
    lines = (f"{job.name} {_kind(job)} {job.seconds}\n" for job in jobs)
    made.file("jobs/list", "".join(lines).encode())
    return made.to_bytes()


def _kind(job: Job) -> str:
    return "asked" if job.script else "beside" if job.beside else "plain"
