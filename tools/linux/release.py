# SPDX-License-Identifier: GPL-2.0-or-later
"""A suite's Release file: who signed it, and the check sums of the suite's indexes.

Debian's signature is checked by gpgv with Debian's keys, where both are here. Where they are not, that is said, and the
connection to the mirror is what protects the fetched files: so it has to be TLS (or to this machine). What gpgv hands
out is what is read, never the file beside it: text around a signed message is not signed.

Read beside it: gpgv(1), doc/DETAILS of GnuPG for its status lines.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
import urllib.parse
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

from tools.linux import debian, mirror
from tools.linux.deb import BadPackage
from tools.linux.debian import Say
from tools.linux.resolver import parse

MOST = 4 << 20  # bytes of a Release file; Debian's have 150 thousand
BEGIN, SIGNATURE = "-----BEGIN PGP SIGNED MESSAGE-----", "-----BEGIN PGP SIGNATURE-----"
LOCAL = ("localhost", "127.0.0.1", "::1")


class Listed(NamedTuple):
    """A file as the suite's Release lists it. `name` is where it is found, below dists/SUITE."""

    name: str
    size: int
    sha256: str


class Release:
    """What a suite's Release says."""

    def __init__(self, suite: str, text: str) -> None:
        """Raises BadPackage if it is another suite's, or no Release file."""
        self.suite, self.fields = suite, parse(text)
        if suite not in (self.fields.get("Suite"), self.fields.get("Codename")):
            raise BadPackage(f"the Release file of {suite} is not of that suite")

    def listed(self, name: str) -> Listed:
        """A file by its name. Raises BadPackage."""
        for line in self.fields.get("SHA256", "").splitlines():
            words = line.split()
            if len(words) == 3 and words[2] == name and words[1].isdecimal() and len(words[0]) == 64:
                directory = name.rpartition("/")[0]
                by_hash = self.fields.get("Acquire-By-Hash") == "yes"  # an update of the mirror does not come between
                return Listed(f"{directory}/by-hash/SHA256/{words[0]}" if by_hash else name, int(words[1]), words[0])
        raise BadPackage(f"{self.suite} lists no {name}")

    def stale(self, now: float) -> str:
        """What to say if it should have been renewed by `now` (seconds of 1970's clock); else ''."""
        until = self.fields.get("Valid-Until", "")
        try:
            if not until or parsedate_to_datetime(until).timestamp() >= now:
                return ""
        except ValueError:
            return ""
        return f"{self.suite} was valid until {until}: the mirror has old packages (or this clock is wrong)"


def fetch(url: str, suite: str, say: Say) -> Release:
    """The Release file of a suite, and checked. Raises BadPackage."""
    place = f"{url}/dists/{suite}"
    try:
        data, came_from = mirror.read(f"{place}/InRelease", MOST)
        signature = None
    except mirror.NotThere:
        data, came_from = mirror.read(f"{place}/Release", MOST)
        try:
            signature = mirror.read(f"{place}/Release.gpg", MOST)[0]
        except mirror.NotThere:
            signature = b""
    lacking = [what for what, there in (("gpgv", shutil.which("gpgv")), (debian.KEYRING, debian.KEYRING.exists()))
               if not there]  # fmt: skip
    if not lacking:
        release = Release(suite, checked(data, signature, f"{place}/InRelease"))
    else:
        why = f"Debian's signature of {suite} is not checked, for there is no {lacking[0]}"
        parts = urllib.parse.urlsplit(came_from)
        if parts.scheme != "https" and parts.hostname not in LOCAL:
            raise BadPackage(f"{why}, and {came_from} is not protected by TLS: say an https mirror")
        say(f"{why}: only {'TLS protects' if parts.scheme == 'https' else 'this machine provides'} what is fetched")
        release = Release(suite, message(data) if signature is None else data.decode("utf-8", "replace"))
    if stale := release.stale(time.time()):
        say(stale)
    return release


def checked(data: bytes, signature: bytes | None, name: str) -> str:
    """The text that is signed: by a detached `signature`, else within itself. Raises BadPackage unless one of Debian's
    keys signed it, and no signature is wrong."""
    with tempfile.TemporaryDirectory(prefix="pvhv-release-") as directory:
        scratch = Path(directory)
        signed, plain, apart = scratch / "signed", scratch / "plain", scratch / "signature"
        signed.write_bytes(data)
        command = ["gpgv", "--homedir", directory, "--status-fd", "1", "--keyring", str(debian.KEYRING)]
        if signature is None:
            command += ["--output", str(plain), str(signed)]
        else:
            apart.write_bytes(signature)
            command += [str(apart), str(signed)]
        done = subprocess.run(command, capture_output=True, check=False)
        lines = (line.split() for line in done.stdout.decode("ascii", "replace").splitlines())
        said = {words[1] for words in lines if len(words) > 1}
        if "BADSIG" in said:
            raise BadPackage(f"{name} is not what Debian signed: its signature is wrong")
        if "GOODSIG" not in said or "VALIDSIG" not in said:
            raise BadPackage(f"{name} is signed by none of the keys in {debian.KEYRING} (or these are too old)")
        return (data if signature is not None else plain.read_bytes()).decode("utf-8", "replace")


def message(data: bytes) -> str:
    """The text of a clear-signed file whose signature nobody can check; a file without a signature is its text."""
    text = data.decode("utf-8", "replace")
    if not text.startswith(BEGIN):
        return text
    body = text.partition("\n\n")[2].partition(f"\n{SIGNATURE}")[0]
    return "".join(f"{line.removeprefix('- ')}\n" for line in body.split("\n"))
