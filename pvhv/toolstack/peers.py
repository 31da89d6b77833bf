# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is at the other end of a connection between a client and the host process.

Of a Unix socket the kernel knows the peer's user. The path proves nothing: another user's process may listen there (in
a directory that was made before ours), and any process may connect that the modes let. So both ends ask the kernel.

Of a loopback port the kernel does not tell. Both ends know a token, from a file that only the user can read, and each
proves that it knows the token without sending it: by now the port may belong to another process.

Not modelled: hosts that do not tell a peer's user (neither Linux nor with getpeereid). There the modes of directory and
socket are the only protection.

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
    """The proof that one end knows the token: a digest of token, `whose` ("client" or "server") and the client's
    nonce."""
    return hmac.new(token.encode(), f"{whose} {nonce}".encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def uid_of(connection: socket.socket) -> int | None:
    """The user whose process is at the other end; None where the host does not tell, or the process is gone."""
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
    """Whether the process at the other end is our own user's, as far as the host tells."""
    getuid = getattr(os, "getuid", None)
    return getuid is None or uid_of(connection) in (None, getuid())


def may_ask(connection: socket.socket) -> bool:
    """Whether the process at the other end may ask us for something: one of our own user's, or of root's."""
    return is_mine(connection) or uid_of(connection) == ROOT
