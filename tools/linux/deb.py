# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading files from a Debian package, without root and without dpkg, on any system.

A .deb is an `ar` archive whose member data.tar.* holds the files. Only the files that are asked for are read;
nothing is written to disk. xz and gzip are Python's own; a package packed otherwise (Ubuntu's zstd) goes through
`dpkg-deb` where there is one.

Read beside it: deb(5).
"""

from __future__ import annotations

import fnmatch
import io
import lzma
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

AR_MAGIC = b"!<arch>\n"
AR_HEADER = 60
PIECE = 1 << 20


class BadPackage(Exception):
    """The file is not a package, or lacks what is needed. The text is one sentence for the user."""


class Member(NamedTuple):
    """A file of a package, or a symbolic link to where `link` says."""

    name: str
    mode: int
    data: bytes = b""
    link: str = ""


def is_deb(path: Path) -> bool:
    """Whether a file is a package, not a file from one."""
    with path.open("rb") as file:
        return file.read(len(AR_MAGIC)) == AR_MAGIC


def extract(path: Path, *patterns: str, whole: bool = False) -> tuple[str, bytes]:
    """(path, bytes) of the first file whose path (without a leading "./") matches a pattern. Raises BadPackage.

    With `whole` the package is read to its end, where the check sums of its packing are, and not only to that file's
    end: for a package that apt has not checked."""
    try:
        with tarfile.open(fileobj=_data(path), mode="r:*") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.isfile() and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                    file = tar.extractfile(member)
                    assert file is not None
                    data = file.read()
                    while whole and tar.fileobj is not None and tar.fileobj.read(PIECE):
                        pass
                    return name, data
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise BadPackage(f"{path} is damaged: {error}") from None
    raise BadPackage(f"{path} has no {' or '.join(patterns)} in it")


def members(path: Path, wanted: Callable[[str], bool]) -> Iterator[Member]:
    """All files and symbolic links whose path (without a leading "./") is wanted."""
    try:
        with tarfile.open(fileobj=_data(path), mode="r:*") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.issym() and wanted(name):
                    yield Member(name, member.mode, link=member.linkname)
                elif (member.isfile() or member.islnk()) and wanted(name):  # a second name is read as the first
                    file = tar.extractfile(member)
                    assert file is not None
                    yield Member(name, member.mode, file.read())
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise BadPackage(f"{path} is damaged: {error}") from None


@contextmanager
def opened(path: Path, part: str = "data.tar") -> Iterator[tarfile.TarFile]:
    """The tar with the package's files, or with what dpkg has to know (`control.tar`). Raises BadPackage, also for what
    is found to be damaged while it is read."""
    try:
        with tarfile.open(fileobj=_data(path, part), mode="r|*") as tar:
            yield tar
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise BadPackage(f"{path} is damaged: {error}") from None


def _data(path: Path, part: str = "data.tar") -> io.BytesIO:
    """One tar of the package, still packed."""
    data = path.read_bytes()
    if data[: len(AR_MAGIC)] != AR_MAGIC:
        raise BadPackage(f"{path} is not a Debian package")
    at = len(AR_MAGIC)
    while at + AR_HEADER <= len(data):
        name = data[at : at + 16].decode("ascii", "replace").rstrip(" /")
        digits = data[at + 48 : at + 58].strip()
        if not digits.isdigit() or at + AR_HEADER + int(digits) > len(data):
            break
        size = int(digits)
        at += AR_HEADER
        if name.startswith(part):
            if name.endswith((".xz", ".gz", ".tar", ".bz2")):
                return io.BytesIO(data[at : at + size])
            return _by_dpkg(path, name)
        at += size + size % 2
    raise BadPackage(f"{path} is damaged, or cut short: it has no {part}")


def _by_dpkg(path: Path, member: str) -> io.BytesIO:
    dpkg = shutil.which("dpkg-deb")
    if dpkg is None:
        raise BadPackage(f"{path} is packed as {member}, which takes dpkg-deb to open")
    what = "--ctrl-tarfile" if member.startswith("control") else "--fsys-tarfile"
    done = subprocess.run([dpkg, what, str(path)], capture_output=True, check=False)
    if done.returncode:
        raise BadPackage(f"dpkg-deb cannot open {path}: {done.stderr.decode(errors='replace').strip()}")
    return io.BytesIO(done.stdout)
