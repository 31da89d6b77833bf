# SPDX-License-Identifier: GPL-2.0-or-later
"""A release of Debian's as apt sees it if nothing is installed: packages, with all that they need.

apt chooses and fetches, against the archive's signatures, by lists and into directories of ours. So it needs no root,
leaves the system as it is, and brings every library along.

Invariant: all of it lies under one directory, and a package is fetched once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.linux.debian import KEYRING, MIRROR, Apt, Package, parse_uris, releases, unsandboxed

Say = Callable[[str], None]


class Suites:
    """One release of Debian's, seen by an apt that believes that nothing is installed."""

    def __init__(self, place: Path, release: str, say: Say) -> None:
        self.place, self.release, self.say = place / release, release, say
        self.archives = self.place / "archives"
        for name in ("state/lists/partial", "archives/partial", "empty/partial"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        nothing = self.place / "nothing-installed"
        nothing.write_bytes(b"")
        sources = self.place / "sources.list"
        sources.write_text("".join(_sources(release)))
        options = (
            f"Dir::State={self.place / 'state'}", f"Dir::State::status={nothing}", f"Dir::Cache={self.place}",
            f"Dir::Cache::archives={self.archives}", f"Dir::Etc::sourcelist={sources}",
            "Dir::Etc::sourceparts=/dev/null", "Dir::Etc::preferencesparts=/dev/null", "Acquire::Languages=none",
            "APT::Architecture=amd64", "APT::Install-Recommends=false", "Acquire::Retries=2",
        )  # fmt: skip
        self.apt = Apt(*(word for option in options for word in ("-o", option)))

    def update(self) -> None:
        """Fetch the lists. Raises BadPackage."""
        self.say(f"fetching the list of {self.release}'s packages")
        self.apt.update()

    def with_all_they_need(self, *names: str) -> list[Path]:
        """These packages and every one they depend on, fetched. Raises BadPackage."""
        words = ("install", "--yes", "-q=2", *unsandboxed())
        empty = ("-o", f"Dir::Cache::archives={self.place / 'empty'}")  # apt does not list what it has fetched already
        wanted = parse_uris(self.apt.ask("apt-get", *empty, *words, "--print-uris", *names))
        missing = [package for package in wanted if not (self.archives / package.file).is_file()]
        if missing:
            self.say(f"fetching {len(missing)} packages ({sum(package.size for package in missing) >> 20} MiB)")
            self.apt.ask("apt-get", *words, "--download-only", *names)
        return [self.archives / package.file for package in wanted]

    def alone(self, name: str) -> Path:
        """One package, without what it depends on; for a kernel's name, the one with the kernel. Raises BadPackage."""
        package: Package = self.apt.find(name)
        there = self.archives / package.file
        return there if there.is_file() else self.apt.download(package, self.archives, self.say)

    def forget_others(self, kept: set[Path]) -> None:
        """Remove packages of earlier versions."""
        for path in self.archives.glob("*.deb"):
            if path not in kept:
                path.unlink()


def _sources(release: str) -> list[str]:
    """Lines of a sources.list: the release and its security updates, on the mirrors that the system uses."""
    keys = f" signed-by={KEYRING}" if KEYRING.exists() else ""
    known = releases()
    of_debian = [found.uri for found in known if found.origin == "Debian" and "security" not in found.uri]
    of_security = [found.uri for found in known if found.origin == "Debian" and "security" in found.uri]
    return [
        f"deb [arch=amd64{keys}] {(of_debian or [MIRROR])[0]} {release} main\n",
        f"deb [arch=amd64{keys}] {(of_security or [MIRROR.replace('/debian/', '/debian-security/')])[0]}"
        f" {release}-security main\n",
    ]
