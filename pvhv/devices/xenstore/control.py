# SPDX-License-Identifier: GPL-2.0-or-later
"""XS_CONTROL: commands to the store itself, for domain 0's tools.

    check                       whether the tree is whole
    log on|off                  write each request into the host process's log, or no longer
    memreport                   write into that log what the store holds
    print <string>              write that into it
    quota [set <name> <val>|<domid>]    the limits; change one; what a domain has
    quota-soft [set <name> <val>]
    help

Not modelled: live-update and logfile. The store is not a process of its own; it is like a daemon built without them.

Read beside it: tools/xenstore/xenstored_control.c, docs/misc/xenstore.txt (XS_CONTROL).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from pvhv.devices.xenstore import quotas, tree
from pvhv.devices.xenstore.connection import Connection
from pvhv.devices.xenstore.nodes import join
from pvhv.devices.xenstore.numbers import number_of
from pvhv.devices.xenstore.permissions import StoreError
from pvhv.devices.xenstore.store import Store

OK = b"OK\0"
Rows = tuple[tuple[str, str, str], ...]


def performing(store: Store, payload: bytes) -> Generator[int, None, bytes]:
    """Do a command, given with its words; in pieces. Returns the answer. Raises StoreError(EINVAL)."""
    command, *words = payload.split(b"\0")[:-1] or [b""]
    handler = COMMANDS.get(command.decode("latin-1"))
    if handler is None:
        raise StoreError("EINVAL")
    if command == b"check":
        yield from checking(store, words)
    return handler[0](store, words)


def traced(connection: Connection, kind: int, payload: bytes) -> str:
    """A request as a line of the log."""
    text = payload.replace(b"\0", b" ").decode("ascii", "backslashreplace")
    return f"xenstored: domain {connection.domid} asks {kind} ({text})"


def checking(store: Store, words: list[bytes]) -> Iterator[int]:
    """Check the tree, in pieces, since it takes long. What is wrong goes to the log, not into the answer."""
    if words:
        raise StoreError("EINVAL")
    for count, line in enumerate(looked_through(store), 1):
        if line:
            store.log(f"xenstored: {line}")
        if not count % tree.PIECE:
            yield tree.PIECE


def do_check(store: Store, words: list[bytes]) -> bytes:
    return OK


def inconsistencies(store: Store) -> list[str]:
    """Everything that is wrong with the tree."""
    return [line for line in looked_through(store) if line]


def looked_through(store: Store) -> Iterator[str]:
    """For each node, what is wrong with it (which is a bug of ours), or an empty text. (check_store)"""
    nodes = store.tree.nodes
    reached = set()
    for path in tree.walk(store.tree, "/"):
        reached.add(path)
        children = nodes[path].children
        missing = [leaf for leaf in children if join(path, leaf) not in nodes]
        if missing:
            yield f"{path} has no child {missing[0]}"
        elif len(set(children)) != len(children):
            yield f"{path} has a child twice"
        else:
            weight = sum(len(leaf) + 1 for leaf in children)
            yield f"{path} weighs wrong" if nodes[path].names != weight else ""
    for path in list(nodes):
        yield f"{path} is in no directory" if path not in reached else ""


def do_log(store: Store, words: list[bytes]) -> bytes:
    if words not in ([b"on"], [b"off"]):
        raise StoreError("EINVAL")
    store.traces = words == [b"on"]
    return OK


def do_memreport(store: Store, words: list[bytes]) -> bytes:
    if words:
        raise StoreError("EINVAL")
    watches = sum(map(len, store.watches.by_path.values()))
    store.log(f"xenstored: {len(store.tree.nodes)} nodes, {watches} watches")
    for domid, count in sorted(store.accounts.memory.items()):
        store.log(f"xenstored: domain {domid}: {count} bytes")
    return OK


def do_print(store: Store, words: list[bytes]) -> bytes:
    if len(words) != 1:
        raise StoreError("EINVAL")
    store.log(f"xenstored: {words[0].decode('ascii', 'backslashreplace')}")
    return OK


def do_quota(store: Store, words: list[bytes]) -> bytes:
    if words and words[0] != b"set":
        return _of_domain(store, words)
    return _limits(store, words, quotas.HARD)


def do_quota_soft(store: Store, words: list[bytes]) -> bytes:
    if words and words[0] != b"set":
        raise StoreError("EINVAL")
    return _limits(store, words, quotas.SOFT)


def _limits(store: Store, words: list[bytes], rows: Rows) -> bytes:
    if not words:
        lines = [f"{name:<17}: {getattr(store.quotas, field):8} {what}\n" for name, field, what in rows]
        return "".join(["Quota settings:\n", *lines]).encode() + b"\0"
    fields = {name.encode(): field for name, field, _what in rows}
    if len(words) != 3 or words[1] not in fields or not 1 <= number_of(words[2]) < 1 << 31:
        raise StoreError("EINVAL")
    setattr(store.quotas, fields[words[1]], number_of(words[2]))
    return OK


def _of_domain(store: Store, words: list[bytes]) -> bytes:
    if len(words) != 1:
        raise StoreError("EINVAL")
    domid = number_of(words[0])
    known = store.domains.get(domid)
    if known is None and domid:
        raise StoreError("ENOENT")
    connection = None if known is None else known.ring.connection
    rows = {
        "nodes": store.tree.owned[domid],
        "watches": len(connection.watches) if connection else 0,
        "transactions": len(connection.transactions) if connection else 0,
        "outstanding": connection.replies_waiting if connection else 0,
        "memory": store.accounts.memory[domid],
    }
    lines = [f"{name:<16}: {count:8}\n" for name, count in rows.items()]
    return "".join([f"Domain {domid}:\n", *lines]).encode() + b"\0"


def do_help(store: Store, words: list[bytes]) -> bytes:
    if words:
        raise StoreError("EINVAL")
    return "".join(f"{name}\t{words}\n" for name, (_handler, words) in COMMANDS.items()).encode() + b"\0"


COMMANDS: dict[str, tuple[Callable[[Store, list[bytes]], bytes], str]] = {
    "check": (do_check, ""),
    "log": (do_log, "on|off"),
    "memreport": (do_memreport, ""),
    "print": (do_print, "<string>"),
    "quota": (do_quota, "[set <name> <val>|<domid>]"),
    "quota-soft": (do_quota_soft, "[set <name> <val>]"),
    "help": (do_help, ""),
}
