# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the host process and its clients meet: socket, token, lock, log and the list of running domains.

Each user has one directory, of mode 0700, which need not outlive a boot: `$PVHV_RUNTIME_DIR` if set, else
`$XDG_RUNTIME_DIR/pvhv`, else `pvhv-<uid>` in the system's directory for temporary files. HOME is not
used. A directory that belongs to another user is refused, and so is another user's link in its place: the socket in it
could be theirs.

A Unix socket's path has room for some hundred bytes only; where the directory's own path is longer, sockets (and
nothing else) lie in that last directory, under a short name made from a hash of the path.

This module opens nothing but directories.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import tempfile
from pathlib import Path

from pvhv.toolstack.errors import ToolstackError

LONGEST_SOCKET_PATH = 100


def unix_sockets() -> bool:
    """Whether to use Unix sockets. Not where there are none, or where PVHV_LOOPBACK is set."""
    return hasattr(socket, "AF_UNIX") and not os.environ.get("PVHV_LOOPBACK")


def user_tag() -> str:
    """A word that differs from user to user of one machine."""
    getuid = getattr(os, "getuid", None)
    return str(getuid()) if getuid else os.environ.get("USERNAME", "user")


def runtime_directory(create: bool = True) -> Path:
    """The directory of this user's host process."""
    chosen = os.environ.get("PVHV_RUNTIME_DIR")
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    if chosen:
        try:
            directory = Path(chosen).absolute()  # pvhvd has a working directory of its own
        except OSError:
            raise ToolstackError(
                f"PVHV_RUNTIME_DIR is {chosen}, relative to a working directory that does not exist any more",
                "change to a directory that exists, or set it to an absolute path",
            ) from None
    elif xdg and os.path.isabs(xdg) and os.access(xdg, os.W_OK):
        directory = Path(xdg, "pvhv")
    else:
        directory = temporary_directory()
    if create:
        make_private(directory, ours=not chosen)
    return directory


def temporary_directory() -> Path:
    """Our directory among temporary files: if there is no better place, and for sockets whose path would be too
    long."""
    return Path(tempfile.gettempdir(), f"pvhv-{user_tag()}")


def make_private(directory: Path, ours: bool = True) -> None:
    """Make the directory, and check that no other user owns it or may write to it. Unless it is `ours`, its mode is
    kept: the user chose it, and it may hold other things.

    Raises ToolstackError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
        if stat.S_ISLNK(found.st_mode) and (ours or not _is_ours(found)):
            raise ToolstackError(
                f"{directory} is a symbolic link, which anybody may have put there",
                "remove it, or set PVHV_RUNTIME_DIR to a directory of yours",
            )
        _check(directory, ours)
    except OSError as error:
        raise ToolstackError(
            f"cannot make {directory} for pvhvd's socket: {error.strerror}",
            "set PVHV_RUNTIME_DIR to a directory of yours",
        ) from None


def _check(directory: Path, ours: bool) -> None:
    if not hasattr(os, "getuid"):
        return
    # What is looked at and changed is one and the same, whatever its name leads to by then.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if ours else 0))
    try:
        found = os.fstat(descriptor)
        if not _is_ours(found):
            raise ToolstackError(
                f"{directory} belongs to another user", "set PVHV_RUNTIME_DIR to a directory of yours"
            )
        mode = stat.S_IMODE(found.st_mode)
        if ours and mode & 0o077:
            os.fchmod(descriptor, 0o700)
        elif mode & 0o022:
            raise ToolstackError(
                f"others may write to {directory}",
                "set PVHV_RUNTIME_DIR to a directory that only you may write to",
            )
    finally:
        os.close(descriptor)


def _is_ours(found: os.stat_result) -> bool:
    getuid = getattr(os, "getuid", None)
    return getuid is None or found.st_uid == getuid()


class Paths:
    """The paths of the files in the runtime directory."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or runtime_directory()
        self.lock = self.directory / "pvhvd.lock"  # held by the host process as long as it lives
        self.log = self.directory / "pvhvd.log"
        self.domains = self.directory / "domains.json"  # what runs; left behind only when pvhvd was killed
        self.told = self.directory / "older-code"  # of which host process it was said that it runs older code
        self.endpoint = self.directory / "endpoint"  # where there are no Unix sockets: port and token

    @property
    def socket(self) -> Path:
        """The Unix socket that clients connect to."""
        return self.socket_named("pvhvd.sock")

    def socket_named(self, name: str) -> Path:
        """The path of a Unix socket: in the directory, or, if that is too long, under a short name among
        temporary files. Raises ToolstackError if that is too long as well."""
        path = self.directory / name
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        short = temporary_directory() / f"{digest}.sock"
        if len(os.fsencode(short)) > LONGEST_SOCKET_PATH:
            raise ToolstackError(
                f"{path} and {short} are too long for a socket's name",
                "set PVHV_RUNTIME_DIR, or TMPDIR, to a shorter path",
            )
        make_private(short.parent)
        return short
