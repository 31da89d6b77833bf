# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages from Debian's archive, by apt itself: which there are, and their files.

`apt-get download` needs no root and installs nothing; it checks what it fetches against the archive's signatures. This
module decides only which package holds the kernel (linux-image-amd64 depends on the newest, over one or two others).
Which lists apt uses, and what is done without apt, is in archive.py.

Not modelled: other architectures than amd64.

Read beside it: apt-get(8), apt.conf(5), apt's "indextargets" (acquire-additional-files in its documentation).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.linux.deb import BadPackage

HEARTBEAT_S = 2.0
PATIENCE_S = 20  # with a mirror that does not answer
KERNEL_NAME = re.compile(r"linux-(image|binary)-\d\S*")
RELEASE = "bookworm"  # of what is made here, where nobody says another
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian/"  # where apt knows no other

Say = Callable[[str], None]


class Package(NamedTuple):
    """A package file as the archive has it: `file` names package, version and architecture."""

    name: str
    file: str
    size: int


def is_here() -> bool:
    """Whether this system has apt."""
    return shutil.which("apt-get") is not None


class Apt:
    """apt, always called with these options."""

    def __init__(self, *options: str) -> None:
        self.options = options

    def find(self, name: str) -> Package:
        """The candidate version of a package; if `name` leads to a kernel's package, of that."""
        if name.startswith("linux-image"):
            name = self._kernel(name)
        return parse_uri(self.ask("apt-get", "download", "--print-uris", name), name)

    def _kernel(self, name: str) -> str:
        while (leads_to := kernel_of(self.ask("apt-cache", "show", "--no-all-versions", name), name)) != name:
            name = leads_to
        return name

    def download(self, package: Package, directory: Path, say: Say) -> Path:
        """Fetch a package into `directory`. Returns its path. Raises BadPackage, OSError."""
        command = ["apt-get", *self.options, *unsandboxed(), "-q=2", "download", package.name]
        need_room(package.name, package.size, directory)
        before = set(_files(directory))
        say(f"fetching {package.name} ({package.size / 1048576:.1f} MiB)")
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=subprocess.STDOUT, env=_environment())
            try:
                told = time.monotonic()
                while process.poll() is None:
                    time.sleep(0.05)
                    if time.monotonic() - told >= HEARTBEAT_S:
                        told = time.monotonic()
                        there = sum(path.stat().st_size for path in set(_files(directory)) - before)
                        say(f"fetching {package.name}: {there >> 20} of {package.size >> 20} MiB")
            finally:
                process.kill()
                process.wait()
            log.seek(0)
            said = log.read()
        made = [path for path in _files(directory) if path.suffix == ".deb" and path not in before]
        if process.returncode or not made:
            raise BadPackage(f"apt-get could not fetch {package.name}:\n{said.strip()}")
        return made[0]

    def update(self) -> None:
        """Have apt fetch its lists. Raises BadPackage if it cannot fetch all of them."""
        self.ask("apt-get", *unsandboxed(), "-q=2", "-o", "APT::Update::Error-Mode=any", "update")

    def ask(self, program: str, *words: str) -> str:
        """What a program of apt's prints, called with these options. Raises BadPackage."""
        command = [program, *self.options, *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
        except OSError as error:
            raise BadPackage(f"{program} does not run: {error.strerror}") from None
        if done.returncode:
            why = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
            raise BadPackage(f"{program} {' '.join(words)}: {why[0] if why else done.stderr.strip() or 'it failed'}")
        return done.stdout


class Release(NamedTuple):
    """A release of some archive that the system's apt goes by."""

    uri: str
    suite: str
    codename: str
    origin: str


def releases() -> list[Release]:
    """The releases that the system's apt has lists of."""
    wanted = "$(REPO_URI)|$(SUITE)|$(CODENAME)|$(ORIGIN)"
    try:
        said = Apt().ask("apt-get", "indextargets", "--format", wanted, "Created-By: Packages")
    except BadPackage:
        return []
    return [Release(*line.split("|")) for line in said.splitlines() if line.count("|") == 3]


def source_line(suite: str, known: Sequence[Release]) -> str:
    """A line of sources.list for a suite of Debian's: on the mirror the system uses, with Debian's own keys."""
    mirrors = [release.uri for release in known if release.origin == "Debian" and "security" not in release.uri]
    keys = f" signed-by={KEYRING}" if KEYRING.exists() else ""
    return f"deb [arch=amd64{keys}] {(mirrors or [MIRROR])[0]} {suite} main\n"


def kernel_of(shown: str, name: str) -> str:
    """The package that `name` leads to on the way to the kernel, by what `apt-cache show` says; `name` at the end."""
    found: list[str] = []
    for line in shown.splitlines():
        if line.startswith("Depends:"):
            words = (wanted.split() for wanted in re.split(r"[,|]", line.partition(":")[2]))
            found += [word[0] for word in words if word and KERNEL_NAME.fullmatch(word[0]) and word[0] != name]
    # linux-image-6.1.0-9-amd64 has the kernel itself; linux-image-7.2.11+deb13-amd64 has it in a linux-binary-...
    found.sort(key=lambda package: not package.startswith("linux-binary"))
    if found:
        return found[0]
    if KERNEL_NAME.fullmatch(name):
        return name
    raise BadPackage(f"{name} depends on no package with a kernel")


def parse_uri(said: str, name: str) -> Package:
    """'URI' FILE SIZE HASH, as apt prints it."""
    for package in parse_uris(said):
        return package._replace(name=name)
    raise BadPackage(f"apt does not say where {name} would come from")


def parse_uris(said: str) -> list[Package]:
    """A list of such lines; a package goes by the name in that of its file."""
    lines = (line.split() for line in said.splitlines())
    found = [words for words in lines if len(words) >= 3 and words[0].startswith("'") and words[2].isdigit()]
    return [Package(words[1].partition("_")[0], words[1], int(words[2])) for words in found]


def need_room(name: str, size: int, directory: Path) -> None:
    """Check that `size` bytes more can lie in a directory. Raises OSError."""
    if shutil.disk_usage(directory).free < size:
        what = f"no room for the {size >> 20} MiB of {name} (PVHV_CACHE_DIR may name another place)"
        raise OSError(errno.ENOSPC, what, str(directory.parent))


def _files(directory: Path) -> list[Path]:
    """The files under a directory, while another process may remove some."""
    return [path for path in directory.rglob("*") if path.is_file()]


def unsandboxed() -> list[str]:
    """The option that keeps root's apt from downloading as another user, who may not write into our directory."""
    getuid = getattr(os, "getuid", None)
    return ["-o", "APT::Sandbox::User=root"] if getuid and getuid() == 0 else []


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
