# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the host process and its clients meet: socket, token, lock, log and the list of running domains.

One directory a user, mode 0700, short-lived by nature: `$PVHV_RUNTIME_DIR` if set, else
`$XDG_RUNTIME_DIR/pvhv`, else `pvhv-<uid>` in the system's directory for temporary files. HOME is never
asked. A directory that exists but belongs to somebody else is refused: what is in it could be anybody's
socket.

A Unix socket's path has room for some hundred bytes only; where the directory's own path is longer, the
socket (and nothing else) moves to a short name made from a hash of it.

This room opens nothing but directories.
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
    """Whether there are Unix sockets. PVHV_LOOPBACK says to do without, as where there are none."""
    return hasattr(socket, "AF_UNIX") and not os.environ.get("PVHV_LOOPBACK")


def user_tag() -> str:
    """Something that tells users of one machine apart."""
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
                f"PVHV_RUNTIME_DIR is {chosen}, relative to a working directory that is gone",
                "cd to one that is there, or set it to a whole path",
            ) from None
    elif xdg and os.path.isabs(xdg) and os.access(xdg, os.W_OK):
        directory = Path(xdg, "pvhv")
    else:
        directory = Path(tempfile.gettempdir(), f"pvhv-{user_tag()}")
    if create:
        _make_private(directory, ours=not chosen)
    return directory


def _make_private(directory: Path, ours: bool) -> None:
    """Make it, and see that it is no one else's. One that somebody chose keeps its mode: it may hold other things."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        raise ToolstackError(
            f"cannot make {directory} for pvhvd's socket: {error.strerror}",
            "set PVHV_RUNTIME_DIR to a directory of yours",
        ) from None
    getuid = getattr(os, "getuid", None)
    if getuid is None:
        return
    if found.st_uid != getuid():
        raise ToolstackError(
            f"{directory} belongs to another user", "set PVHV_RUNTIME_DIR to a directory of yours"
        )
    mode = stat.S_IMODE(found.st_mode)
    if ours and mode & 0o077:
        directory.chmod(0o700)
    elif mode & 0o022:
        raise ToolstackError(
            f"others may write to {directory}",
            "set PVHV_RUNTIME_DIR to a directory that only you may write to",
        )


class Paths:
    """The files in the runtime directory, by purpose."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or runtime_directory()
        self.lock = self.directory / "pvhvd.lock"  # held by the host process as long as it lives
        self.log = self.directory / "pvhvd.log"
        self.domains = self.directory / "domains.json"  # what runs; left behind only when pvhvd was killed
        self.told = self.directory / "older-code"  # of which host process it was said that it runs older code
        self.endpoint = self.directory / "endpoint"  # where there are no Unix sockets: port and token

    @property
    def socket(self) -> Path:
        """The Unix socket."""
        path = self.directory / "pvhvd.sock"
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir(), f"pvhv-{user_tag()}-{digest}.sock")
