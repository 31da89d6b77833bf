# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's archive, for one package at a time: by apt where there is one, else by our own code from a mirror.

Which lists are used:

- the system's own, if there is apt and they suffice;
- else (there are none, as in a fresh container; they are old, and their packages are gone; they do not have the suite)
  lists that apt fetches into a directory of ours, from the same mirror, checked with the same keys. That needs no root
  either, and changes nothing of the system's;
- without apt, or if a mirror was named, those of the mirror (plain.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

from tools.linux.deb import BadPackage
from tools.linux.debian import PATIENCE_S, RELEASE, Apt, Package, Say, releases, source_line
from tools.linux.plain import Plain

Lists: TypeAlias = Apt | Plain
Answer = TypeVar("Answer")


class Archive:
    """Debian's archive, by the system's lists or by our own. `place` is the directory of our own, and `mirror` an
    address to do without apt."""

    def __init__(self, place: Path, suite: str, say: Say, mirror: str = "") -> None:
        self.place, self.suite, self.say = place, suite, say
        self.lists: Lists | None = Plain(place, mirror, RELEASE, say, suite=suite) if mirror else None
        self.ours = bool(mirror)

    def find(self, name: str) -> Package:
        """A package, as the lists describe it. Raises BadPackage."""
        return self._asked(lambda lists: lists.find(name))

    def download(self, name: str, directory: Path) -> Path:
        """The file of a package; a newer one, if the version that was found is gone from the archive. It is fetched
        unless it is in `directory`."""

        def download(lists: Lists) -> Path:
            package = lists.find(name)
            there = directory / package.file
            return there if there.is_file() else lists.download(package, directory, self.say)

        return self._asked(download)

    def _asked(self, question: Callable[[Lists], Answer]) -> Answer:
        if self.lists is None:
            self.lists = self._systems()
        if self.lists is not None and not self.ours:
            try:
                return question(self.lists)
            except BadPackage as failure:
                self.say(f"{failure}\nasking the archive itself what it has")
        if not self.ours:
            self.lists, self.ours = self._own(), True
        assert self.lists is not None
        return question(self.lists)

    def _systems(self) -> Apt | None:
        """apt with the system's lists; None if they do not have the suite."""
        if not self.suite:
            return Apt()
        known = any(self.suite in (release.suite, release.codename) for release in releases())
        return Apt("-t", self.suite) if known else None

    def _own(self) -> Apt:
        """apt with lists of our own, which are fetched now."""
        self.place.mkdir(parents=True, exist_ok=True)
        for name in ("lists/partial", "cache/archives/partial"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        options = [
            f"Dir::State::lists={self.place / 'lists'}", f"Dir::Cache={self.place / 'cache'}",
            "Acquire::Languages=none", f"Acquire::http::Timeout={PATIENCE_S}", "Acquire::Retries=1",
        ]  # fmt: skip
        if self.suite:
            sources = self.place / f"{self.suite}.list"
            sources.write_text(source_line(self.suite, releases()))
            options += [f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=/dev/null"]
        apt = Apt(*(word for option in options for word in ("-o", option)))
        self.say(f"fetching the list of packages{' of ' + self.suite if self.suite else ''}")
        apt.update()
        return apt
