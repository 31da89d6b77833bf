# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands of the store have in common: a connection, error messages, and reading whole trees.

A tree is read one level at a time, with all requests of a level on their way together.

Read beside it: pvhv.toolstack.xenstore_client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pvhv.abi.io.xs_wire import XS_DIRECTORY, XS_GET_PERMS, XS_READ
from pvhv.cli.common import connect
from pvhv.cli.xenstore_text import Shown

if TYPE_CHECKING:
    from pvhv.toolstack.xenstore_client import Store, StoreFault


@contextmanager
def store() -> Iterator[Store]:
    """A connection to the store."""
    from pvhv.toolstack.xenstore_client import Store

    with connect() as client:
        yield Store(client)


@contextmanager
def trying(what: str) -> Iterator[None]:
    """In this context an error of the store becomes a message that says what was being done."""
    from pvhv.toolstack.xenstore_client import StoreFault

    try:
        yield
    except StoreFault as fault:
        raise StoreFault(fault.name, f"could not {what}") from None


def answered(answer: bytes | StoreFault, what: str) -> bytes:
    """One of many answers. Raises StoreFault, whose message says what was being done."""
    if isinstance(answer, bytes):
        return answer
    with trying(what):
        raise answer


def printable(path: str) -> str:
    """A path for a message; unprintable characters are escaped."""
    return path if path and path.isprintable() else ascii(path)


def at_once(held: Store, paths: Sequence[object], work: Callable[[], None]) -> None:
    """Do `work()`; if there are several paths, in a transaction."""
    if len(paths) > 1:
        held.together(work)
    else:
        work()


def below(held: Store, root: bytes, permissions: bool) -> list[Shown]:
    """Everything below a node: each node before its children. Raises StoreFault."""
    found: dict[bytes, Shown] = {}
    children: dict[bytes, list[bytes]] = {root: _children(root, held.directory(root))}
    level = children[root]
    asked = (XS_READ, XS_DIRECTORY, XS_GET_PERMS) if permissions else (XS_READ, XS_DIRECTORY)
    depth = 0
    while level:
        answers = iter(held.ask_all([(kind, path + b"\0") for path in level for kind in asked]))
        following = []
        for path in level:
            value, names, *perms = (next(answers) for _kind in asked)
            shown = perms[0].decode().split("\0")[:-1] if perms and isinstance(perms[0], bytes) else None
            found[path] = Shown(path, depth, value if isinstance(value, bytes) else None, shown)
            children[path] = _children(path, _names(held, path, names))
            following += children[path]
        level, depth = following, depth + 1
    ordered, waiting = [], children[root][::-1]
    while waiting:
        path = waiting.pop()
        ordered.append(found[path])
        waiting += children[path][::-1]
    return ordered


def _children(path: bytes, names: list[bytes]) -> list[bytes]:
    return [path + (b"" if path.endswith(b"/") else b"/") + name for name in names]


def _names(held: Store, path: bytes, answer: bytes | Exception) -> list[bytes]:
    """The names below a node; none if it went meanwhile."""
    from pvhv.toolstack.xenstore_client import StoreFault

    if isinstance(answer, bytes):
        return answer.split(b"\0")[:-1]
    try:
        return held.directory(path)  # in parts, or with the error it deserves
    except StoreFault as fault:
        if fault.name != "ENOENT":
            raise
        return []
