# SPDX-License-Identifier: GPL-2.0-or-later
"""A root file system of Debian packages, as dpkg has it when all are unpacked and none is configured: as one tar.

So a guest only has to unpack a tar and to call `dpkg --configure`, and nothing here needs root, dpkg, or a Debian. What
dpkg does while it unpacks is done here:

- its database has each package's control file, scripts and list of files; each is "install ok unpacked";
- a file of the administrator's (a conffile) has the name that it has until the package is configured: FILE.dpkg-new;
- the triggers that a package waits for are listed.

/bin, /sbin and /lib* lead to /usr, as in each Debian from bookworm on, and files in them are put where they lead.

Not modelled: scripts that run before a package is unpacked (the guest runs them afterwards); diversions.

Read beside it: dpkg(1), deb-triggers(5), lib/dpkg/dump.c and src/main/unpack.c of dpkg.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from tools.linux import deb
from tools.linux.deb import BadPackage

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
DPKG = "var/lib/dpkg"
UNPACKED = "Status: install ok unpacked"
NEW = ".dpkg-new"
INTEREST = {"interest": "", "interest-await": "", "interest-noawait": "/noawait"}


class Tree:
    """A tar that is being written."""

    def __init__(self, out: IO[bytes]) -> None:
        self.tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT)
        self.status: list[str] = []
        self.interests: list[str] = []  # in files
        self.named: dict[str, list[str]] = {}  # in triggers with a name
        self._directories: set[str] = set()
        for name in ("usr", *(f"usr/{name}" for name in MERGED if name.startswith(("bin", "sbin", "lib")))):
            self._directory(name)
        for name in MERGED:
            self._link(name, f"usr/{name}")

    def package(self, path: Path) -> None:
        """Add a package. Raises BadPackage."""
        control = _control(path)
        fields = _fields(control.get("control", b"").decode())
        try:
            name, architecture = fields["Package"], fields["Architecture"]
        except KeyError as missing:
            raise BadPackage(f"{path} is damaged: its control file has no {missing}") from None
        info = f"{DPKG}/info/{name}" + (f":{architecture}" if fields.get("Multi-Arch") == "same" else "")
        conffiles = control.get("conffiles", b"").decode().split()
        files = ["/."]
        with deb.opened(path) as tar:
            for member in tar:
                original = member.name.removeprefix("./").rstrip("/")
                if original and original != ".":
                    files.append(f"/{original}")
                    self._member(tar, member, original, f"/{original}" in conffiles)
        self.file(f"{info}.list", "".join(f"{file}\n" for file in files).encode())
        for kind, data in control.items():
            if kind != "control":
                executable = kind in ("preinst", "postinst", "prerm", "postrm", "config")
                self.file(f"{info}.{kind}", data, 0o755 if executable else 0o644)
        self._trigger(name, control.get("triggers", b"").decode())
        self.status.append(_stanza(control["control"].decode(), conffiles))

    def _member(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, is_conffile: bool) -> None:
        member.name = _merged(name) + (NEW if is_conffile else "")
        member.uname = member.gname = ""  # by number: who unpacks it has no users yet
        if member.islnk():
            member.linkname = _merged(member.linkname.removeprefix("./"))
        if member.isdir():
            if member.name in self._directories or name in MERGED:
                return
            self._directories.add(member.name)
        self.tar.addfile(member, tar.extractfile(member) if member.isreg() else None)

    def _trigger(self, package: str, text: str) -> None:
        for line in text.splitlines():
            words = line.partition("#")[0].split()
            if len(words) == 2 and words[0] in INTEREST:
                entry = f"{package}{INTEREST[words[0]]}"
                if words[1].startswith("/"):
                    self.interests.append(f"{words[1]} {entry}\n")
                else:
                    self.named.setdefault(words[1], []).append(f"{entry}\n")

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a plain file, and the directories to it."""
        parts = name.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            self._directory("/".join(parts[:count]))
        member = tarfile.TarInfo(name)
        member.mode, member.size = mode, len(data)
        self.tar.addfile(member, io.BytesIO(data))

    def _directory(self, name: str) -> None:
        if name not in self._directories:
            self._directories.add(name)
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            self.tar.addfile(member)

    def _link(self, name: str, target: str) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, target
        self.tar.addfile(member)

    def close(self) -> None:
        """Add dpkg's own lists, and the end."""
        self.file(f"{DPKG}/status", "\n".join(self.status).encode())
        self.file(f"{DPKG}/available", b"")
        self.file(f"{DPKG}/info/format", b"1\n")
        self.file(f"{DPKG}/triggers/File", "".join(self.interests).encode())
        for name, entries in self.named.items():
            self.file(f"{DPKG}/triggers/{name}", "".join(entries).encode())
        self._directory(f"{DPKG}/updates")
        self.tar.close()


def write(
    packages: Iterable[Path], files: Mapping[str, bytes], out: IO[bytes], progress: Callable[[Path], None]
) -> None:
    """Write the tar of packages, and of other files by their names. Raises BadPackage, OSError."""
    tree = Tree(out)
    for path in packages:
        progress(path)
        tree.package(path)
    for name, data in files.items():
        tree.file(name, data, 0o755 if data.startswith(b"#!") else 0o644)
    tree.close()


def _control(path: Path) -> dict[str, bytes]:
    found = {}
    with deb.opened(path, "control.tar") as tar:
        for member in tar:
            if member.isreg():
                file = tar.extractfile(member)
                assert file is not None
                found[member.name.removeprefix("./")] = file.read()
    return found


def _fields(control: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in control.splitlines() if line and not line[0].isspace())
    return {key: value.strip() for key, _, value in pairs}


def _stanza(control: str, conffiles: list[str]) -> str:
    """The package in dpkg's status file. A conffile that no version has installed has the hash `newconffile`."""
    first, _, rest = control.strip().partition("\n")
    lines = [first, UNPACKED, *rest.splitlines()]
    if conffiles:
        lines += ["Conffiles:", *(f" {name} newconffile" for name in conffiles)]
    return "\n".join(line for line in lines if line.strip()) + "\n"


def _merged(name: str) -> str:
    return f"usr/{name}" if name.partition("/")[0] in MERGED else name
