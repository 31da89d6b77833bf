# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is at the other end of a Unix socket: the kernel knows, whatever the path says.

A path is somebody else's promise. Where it was longer than a socket's may be, where a directory was made before ours,
a stranger's process may listen; and one that we let connect could be anybody's. So both ends ask.

Of a loopback port nobody knows who is there. Both ends know a token, from a file of ours, and each proves that it does
without saying it: a port may be somebody else's by now.

Not modelled: hosts that do not tell (neither Linux nor with getpeereid): there the modes of directory and socket are
all there is.

Read beside it: unix(7) (SO_PEERCRED), getpeereid(3).
"""

from __future__ import annotations

import ctypes
import hmac
import os
import socket
import struct

CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
ROOT = 0


def proof(token: str, whose: str, nonce: str) -> str:
    """What only who knows the token can say: the "client" to a nonce of its own, and the "server" to the same."""
    return hmac.new(token.encode(), f"{whose} {nonce}".encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def uid_of(connection: socket.socket) -> int | None:
    """The user whose process is at the other end; None where the host does not tell, or nobody is there any more."""
    try:
        if hasattr(socket, "SO_PEERCRED"):  # Linux
            found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            return int(CREDENTIALS.unpack(found)[1])
        uid, gid = ctypes.c_uint32(), ctypes.c_uint32()
        if ctypes.CDLL(None).getpeereid(connection.fileno(), ctypes.byref(uid), ctypes.byref(gid)) == 0:
            return uid.value
    except (OSError, AttributeError, TypeError):
        pass
    return None


def is_mine(connection: socket.socket) -> bool:
    """Whether that is our own user, as far as one can tell."""
    getuid = getattr(os, "getuid", None)
    return getuid is None or uid_of(connection) in (None, getuid())


def may_ask(connection: socket.socket) -> bool:
    """Whether it may have us do something: our own user, and root, who may do anything."""
    return is_mine(connection) or uid_of(connection) == ROOT
