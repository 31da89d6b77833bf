# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages from Debian's archive, by apt itself: which there are, and the files of them.

`apt-get download` needs no root and installs nothing; it checks what it fetches against the archive's signatures. All
that is decided here is which package holds the kernel: linux-image-amd64 is a name for whichever is the newest, and
depends on it.

Not modelled: other architectures than amd64, archives apt does not know of.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tools.linux.deb import BadPackage

HEARTBEAT_S = 2.0
KERNEL_NAME = re.compile(r"linux-image-\d\S*")

Say = Callable[[str], None]


class Package(NamedTuple):
    """A package file as the archive has it: `file` names package, version and architecture."""

    name: str
    file: str
    size: int


def is_here() -> bool:
    """Whether this system has apt."""
    return shutil.which("apt-get") is not None


def kernel_package(meta: str, suite: str = "") -> str:
    """The package `meta` depends on that holds a kernel; any other name stays as it is."""
    if KERNEL_NAME.fullmatch(meta) or not meta.startswith("linux-image"):
        return meta
    shown = _ask(["apt-cache", *_suite(suite), "show", "--no-all-versions", f"{meta}{'/' + suite if suite else ''}"])
    return kernel_of(shown, meta)


def kernel_of(shown: str, meta: str) -> str:
    """Likewise, out of what `apt-cache show` says of it."""
    for line in shown.splitlines():
        if line.startswith("Depends:"):
            for wanted in re.split(r"[,|]", line.partition(":")[2]):
                name = wanted.split()[0] if wanted.split() else ""
                if KERNEL_NAME.fullmatch(name):
                    return name
    raise BadPackage(f"{meta} depends on no package with a kernel")


def look_up(name: str, suite: str = "") -> Package:
    """The candidate of a package."""
    said = _ask(["apt-get", *_suite(suite), "download", "--print-uris", name])
    return parse_uri(said, name)


def parse_uri(said: str, name: str) -> Package:
    """'URI' FILE SIZE HASH, as apt prints it."""
    for line in said.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0].startswith("'") and words[2].isdigit():
            return Package(name, words[1], int(words[2]))
    raise BadPackage(f"apt does not say where {name} would come from")


def download(package: Package, directory: Path, say: Say, suite: str = "") -> Path:
    """Fetch it into `directory`; where it is then."""
    command = ["apt-get", *_suite(suite), "-q=2", *_unsandboxed(), "download", package.name]
    before = set(directory.iterdir())
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    say(f"fetching {package.name} ({package.size / 1048576:.1f} MiB)")
    told = time.monotonic()
    while process.poll() is None:
        time.sleep(0.05)
        if time.monotonic() - told >= HEARTBEAT_S:
            told = time.monotonic()
            there = sum(path.stat().st_size for path in set(directory.iterdir()) - before if path.is_file())
            say(f"fetching {package.name}: {there >> 20} of {package.size >> 20} MiB")
    said = process.stdout.read() if process.stdout else ""
    made = [path for path in set(directory.iterdir()) - before if path.suffix == ".deb"]
    if process.returncode or not made:
        raise BadPackage(f"apt-get could not fetch {package.name}:\n{said.strip()}")
    return made[0]


def _suite(suite: str) -> list[str]:
    return ["-t", suite] if suite else []


def _unsandboxed() -> list[str]:
    """root's apt would hand the download to a user who may not write where we do, and complain about it."""
    getuid = getattr(os, "getuid", None)
    return ["-o", "APT::Sandbox::User=root"] if getuid and getuid() == 0 else []


def _ask(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        why = done.stderr.strip().splitlines()
        raise BadPackage(
            f"{' '.join(command)}: {why[-1] if why else 'it failed'}\n"
            "Does apt know the archive? `apt-get update` (as root) asks it anew."
        )
    return done.stdout
