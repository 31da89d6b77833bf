# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's packages without apt: on any host that has Python. It offers what Apt and Suites offer, which use apt.

Lists and packages come from a mirror (mirror.py) whose Release files are checked (release.py); what belongs together is
found by a resolver (resolver.py).
"""

from __future__ import annotations

import lzma
import time
from pathlib import Path

from tools.linux import debian, mirror, release
from tools.linux.deb import BadPackage
from tools.linux.debian import HEARTBEAT_S, Package, Say
from tools.linux.resolver import Entry, Index, resolve

PACKAGES = "main/binary-amd64/Packages"


class Plain:
    """The packages of a release and its security updates, or of one suite. All of it lies below `place`."""

    def __init__(self, place: Path, url: str, release: str, say: Say, *, suite: str = "") -> None:
        self.place, self.release, self.say = place, release, say
        self.archives = place / "archives"
        self.archives.mkdir(parents=True, exist_ok=True)
        self._from = [([url], suite)] if suite else [([url], release), (mirror.security_of(url), f"{release}-security")]
        self._index: Index | None = None
        self._failed: BadPackage | None = None  # a mirror that does not answer is asked once

    def update(self) -> None:
        """Fetch the lists. Raises BadPackage, OSError."""
        index = Index()
        for urls, suite in self._from:
            self.say(f"asking {urls[0]} for {suite}")
            found, url = self._release(urls, suite)
            listed = found.listed(f"{PACKAGES}.xz")
            there = self.place / f"{suite}-Packages.xz"
            name = f"the list of {suite}'s packages"
            mirror.save(f"{url}/dists/{suite}/{listed.name}", there, listed.size, listed.sha256, self.say, name)
            index.add(_unpack(there, found.listed(PACKAGES).size), url)
        self._index = index

    def find(self, name: str) -> Package:
        """The newest version of a package; if `name` leads to a kernel's package, of that. Raises BadPackage."""
        return _package(self._entry(name))

    def download(self, package: Package, directory: Path, say: Say) -> Path:
        """Fetch a package into `directory`. Returns its path. Raises BadPackage, OSError."""
        return self._fetch(self._entry(package.name), directory, say)

    def with_all_they_need(self, *names: str) -> list[Path]:
        """These packages and every one they depend on, fetched. Raises BadPackage, OSError."""
        try:
            wanted = resolve(self.index, names)
        except BadPackage as error:
            raise BadPackage(f"{self.release}: {error}") from None
        missing = [entry for entry in wanted if not (self.archives / _package(entry).file).is_file()]
        if missing:
            size = sum(_package(entry).size for entry in missing)
            self.say(f"fetching {len(missing)} packages ({size >> 20} MiB)")
        told = time.monotonic()
        paths = []
        for entry in wanted:
            paths.append(self._fetch(entry, self.archives, _quiet))
            if time.monotonic() - told >= HEARTBEAT_S:
                told = time.monotonic()
                self.say(f"fetching packages: {len(paths)} of {len(wanted)} are here")
        return paths

    @property
    def index(self) -> Index:
        """What the lists say; they are fetched for the first question. Raises BadPackage, OSError."""
        if self._failed is not None:
            raise self._failed
        if self._index is None:
            try:
                self.update()
            except BadPackage as failure:
                self._failed = failure
                raise
        assert self._index is not None
        return self._index

    def _entry(self, name: str) -> Entry:
        found = self.index.get(name)
        if found is None:
            raise BadPackage(f"there is no package {name} in {' or '.join(suite for _, suite in self._from)}")
        if name.startswith("linux-image"):
            leads_to = debian.kernel_of(f"Depends: {found.fields.get('Depends', '')}\n", name)
            return found if leads_to == name else self._entry(leads_to)
        return found

    def _fetch(self, entry: Entry, directory: Path, say: Say) -> Path:
        package, where = _package(entry), entry.fields.get("Filename", "")
        if not where or ".." in where.split("/"):
            raise BadPackage(f"the list does not say where {entry.name} is")
        sha256 = entry.fields.get("SHA256", "")
        return mirror.save(f"{entry.origin}/{where}", directory / package.file, package.size, sha256, say, entry.name)

    def _release(self, urls: list[str], suite: str) -> tuple[release.Release, str]:
        """The Release file of a suite, on the first mirror that has it, and that mirror."""
        for url in urls[:-1]:
            try:
                return release.fetch(url, suite, self.say), url
            except mirror.NotThere:
                self.say(f"{url} has no {suite}: {urls[-1]} has it")
        return release.fetch(urls[-1], suite, self.say), urls[-1]


def _package(entry: Entry) -> Package:
    """A package under the name that apt gives its file. Raises BadPackage."""
    size = entry.fields.get("Size", "")
    file = f"{entry.name}_{entry.version.replace(':', '%3a')}_{entry.fields['Architecture']}.deb"
    if not size.isdecimal() or "/" in file:
        raise BadPackage(f"the list does not say how large {entry.name} is")
    return Package(entry.name, file, int(size))


def _unpack(path: Path, size: int) -> str:
    """The text of a list that has `size` bytes. Raises BadPackage."""
    try:
        data = lzma.LZMADecompressor().decompress(path.read_bytes(), size + 1)
    except lzma.LZMAError as error:
        raise BadPackage(f"{path.name} is damaged: {error}") from None
    if len(data) != size:
        raise BadPackage(f"{path.name} is damaged: it has not the {size} bytes that were listed")
    return data.decode("utf-8", "replace")


def _quiet(_text: str) -> None:
    pass
