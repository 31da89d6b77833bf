# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks on images, as QEMU takes them: two programs never write to one image, nor does one write what another reads.

A lock is on single bytes of the file, beyond what anybody reads. Byte 100 + N says "I use permission N", byte 200 + N
says "nobody else may use it". All of them are read locks, so that several holders can be at one byte. Whoever opens an
image locks its bytes first, and then looks whether anybody has the byte that contradicts one of them:

                     uses                                lets nobody else
    a writer         consistent-read, write, resize      write, resize
    a reader         consistent-read                     write, resize

So a running QEMU (or qemu-img, or another pvhvd) that has an image keeps us from it, and we keep it from ours.

These are locks of an open file description (F_OFD_SETLK). Within this process they would also refuse the next life of a
domain while the last one is not quite closed. So a file has one holder in a process, for all who use it here; what
these may do together, pvhv.toolstack.disks decides.

Not modelled: hosts without such locks (macOS, Windows), and file systems that know no locks. There nothing is locked,
and only this process keeps domains from each other.

Read beside it: raw_apply_lock_bytes and raw_check_lock_bytes in QEMU's block/file-posix.c.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pvhv.images.image import Identity, InUse

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

USED, UNSHARED = 100, 200
READ, WRITE, RESIZE = 0, 1, 3  # QEMU's BLK_PERM_CONSISTENT_READ, _WRITE and _RESIZE, as numbers of bits
READER = frozenset({USED + READ, UNSHARED + WRITE, UNSHARED + RESIZE})
WRITER = READER | {USED + WRITE, USED + RESIZE}
FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux
HAVE = fcntl is not None and hasattr(fcntl, "F_OFD_SETLK") and struct.calcsize("P") == 8
CANNOT_LOCK = (errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)

_holders: dict[Identity, _Holder] = {}
_mutex = threading.RLock()  # a finalizer may run while it is held


class _Holder:
    """All locks that this process has on one file."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = os.dup(descriptor)  # of the same description: who closes the file first does not matter
        self.wanted: list[frozenset[int]] = []  # of each user
        self.held: frozenset[int] = frozenset()

    def settle(self) -> None:
        """Hold what the users want together, no more. Raises OSError, BlockingIOError."""
        wanted = frozenset[int]().union(*self.wanted)
        for byte in sorted(wanted - self.held):
            _set(self.descriptor, byte, fcntl.F_RDLCK)
            self.held |= {byte}
        for byte in sorted(self.held - wanted):
            _set(self.descriptor, byte, fcntl.F_UNLCK)
            self.held -= {byte}

    def contradicted(self) -> str:
        """What somebody else has that contradicts ours; empty if nothing does."""
        for byte in sorted(self.held):
            against = byte + UNSHARED - USED if byte < UNSHARED else byte - UNSHARED + USED
            if _is_locked(self.descriptor, against):
                return "writes to it" if _is_locked(self.descriptor, USED + WRITE) else "reads it"
        return ""


class Lock:
    """What one user of a file holds of it, until `release`."""

    def __init__(self, descriptor: int, identity: Identity, writes: bool, name: str) -> None:
        """Raises InUse if another program has what we need; `name` is the file's, for the message."""
        mine = WRITER if writes else READER
        self._release: Callable[[], object] = lambda: None
        if not HAVE:
            return
        with _mutex:
            holder = _holders.get(identity)
            if holder is None:
                holder = _holders[identity] = _Holder(descriptor)
            holder.wanted.append(mine)
            try:
                holder.settle()
                why = holder.contradicted()
            except BlockingIOError:
                why = "has it to itself"
            except OSError as error:
                if error.errno not in CANNOT_LOCK:
                    _let_go(identity, mine)
                    raise
                why = ""
            if why:
                _let_go(identity, mine)
                raise InUse(
                    f"{name} is in use: another program {why}",
                    "end that program first (a domain that has it, a QEMU, a qemu-img), or make a copy of the image",
                )

        self._release = weakref.finalize(self, _release, identity, mine)  # also if nobody closes the file

    def release(self) -> None:
        """Let go. May be called again."""
        self._release()


def _release(identity: Identity, mine: frozenset[int]) -> None:
    with _mutex:
        _let_go(identity, mine)


def _let_go(identity: Identity, mine: frozenset[int]) -> None:
    holder = _holders.get(identity)
    if holder is None:
        return
    holder.wanted.remove(mine)
    with suppress(OSError):
        holder.settle()
    if not holder.wanted:
        os.close(holder.descriptor)
        del _holders[identity]


if hasattr(os, "register_at_fork"):  # the locks of a process that forks are its own, not its child's
    os.register_at_fork(after_in_child=_holders.clear)


def _set(descriptor: int, byte: int, kind: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))


def _is_locked(descriptor: int, byte: int) -> bool:
    """Whether another description has a lock at this byte."""
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    found: Any = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    return bool(FLOCK.unpack(found)[0] != fcntl.F_UNLCK)
