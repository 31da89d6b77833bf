# SPDX-License-Identifier: GPL-2.0-or-later
"""A mirror of Debian's archive, read without apt: files by their names, and each one checked.

    InRelease        signed by Debian: the check sums of a suite's indexes (release.py)
    Packages.xz      the check sums of the packages
    pool/….deb       the packages

So what is fetched is what Debian published, whoever it came from. A file appears by a rename, whole and checked.

Read beside it: the Debian wiki's DebianRepository/Format.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tools.linux.deb import BadPackage
from tools.linux.debian import HEARTBEAT_S, PATIENCE_S, Say, need_room

DEFAULT = "https://deb.debian.org/debian"
SECURITY = "https://deb.debian.org/debian-security"
VARIABLE = "PVHV_MIRROR"
TRIES, PAUSE_S = 3, 1.0
PIECE = 1 << 18


class NotThere(BadPackage):
    """The mirror answers, and has no such file."""


def parse_url(text: str) -> str:
    """A mirror's address, without a slash at its end. Raises ValueError."""
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isascii() or not text.isprintable():
        raise ValueError(text)
    return text.rstrip("/")


def chosen(given: str, apt: bool) -> str:
    """The mirror to fetch from: the one that was given, else the environment's, else where there is no `apt` the
    default; '' says that apt is to be asked. Raises BadPackage."""
    if not (text := given or os.environ.get(VARIABLE, "")):
        return "" if apt else DEFAULT
    try:
        return parse_url(text)
    except ValueError:
        raise BadPackage(f"{text!a} is no mirror's address: say one such as {DEFAULT}") from None


def security_of(url: str) -> list[str]:
    """Where the security updates are: beside a mirror by the usual name if it has them, else where Debian has them."""
    parts = url.split("/")
    if "debian" not in parts[3:]:
        return [SECURITY]
    at = len(parts) - 1 - parts[::-1].index("debian")
    beside = "/".join([*parts[:at], "debian-security", *parts[at + 1 :]])
    return [beside] if beside == SECURITY else [beside, SECURITY]


def read(url: str, most: int) -> tuple[bytes, str]:
    """A small file of at most so many bytes, and the address that it came from in the end. Raises BadPackage."""
    with _opened(url) as answer:
        data = answer.read(most + 1)
        if len(data) > most:
            raise BadPackage(f"{url} is larger than such a file can be")
        return data, str(answer.geturl())


def save(url: str, target: Path, size: int, sha256: str, say: Say, name: str) -> Path:
    """Fetch a file into `target`, unless it is there. Returns its path. Raises BadPackage, also if it is not the file
    of this size and check sum, and OSError."""
    if target.is_file() and target.stat().st_size == size and _digest(target) == sha256:
        return target
    need_room(name, size, target.parent)
    say(f"fetching {name} ({size / 1048576:.1f} MiB)")
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with _opened(url) as answer, part.open("wb") as file:
            got, digest, told = 0, hashlib.sha256(), time.monotonic()
            while got <= size and (piece := answer.read(PIECE)):
                file.write(piece)
                digest.update(piece)
                got += len(piece)
                if time.monotonic() - told >= HEARTBEAT_S:
                    told = time.monotonic()
                    say(f"fetching {name}: {got >> 20} of {size >> 20} MiB")
        if got != size or digest.hexdigest() != sha256:
            what = f"it has {'more than ' if got > size else ''}{min(got, size)} bytes of {size}"
            raise BadPackage(f"{url} is not what was listed: {what if got != size else 'its check sum is another'}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


@contextmanager
def _opened(url: str) -> Iterator[IO[bytes]]:
    """The answer to a request. One that may be answered later is made again. Raises BadPackage."""
    asked = urllib.request.Request(url, headers={"User-Agent": "pvhv-fetch-linux"})
    for left in reversed(range(TRIES)):
        try:
            answer = urllib.request.urlopen(asked, timeout=PATIENCE_S)
            break
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                raise NotThere(f"{url} is not there") from None
            if error.code < 500 or not left:
                raise BadPackage(f"{url} cannot be had: {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            if not left or isinstance(getattr(error, "reason", error), ConnectionRefusedError):
                raise BadPackage(f"{url} cannot be had: {_why(error)}") from None
        time.sleep(PAUSE_S)
    try:
        with answer:
            yield answer
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise BadPackage(f"{url} broke off: {_why(error)}") from None


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
