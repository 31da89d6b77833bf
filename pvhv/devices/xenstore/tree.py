# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree, and what may be done with a node of it.

A node has a value, children in the order they came, permissions, and a generation that is new with every
change: by it a transaction knows whether what it saw still stands. Nodes are immutable; a change puts another
one in its place. If a path exists, so do all its parents.

`Layer` is what the operations work on: the tree itself (`Tree`), or a transaction's view of it
(pvhv.devices.xenstore.transactions). An error never tells more than the caller may know: where it may not
read the parent either, the answer is EACCES whether the node exists or not.

Read beside it: tools/xenstore/xenstored_core.c, do_read to do_set_perms.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pvhv.abi.io.xs_wire import XENSTORE_REL_PATH_MAX
from pvhv.devices.xenstore.permissions import (
    DOM0,
    MAX_PERMS,
    OWNER,
    READ,
    WRITE,
    Caller,
    Permission,
    Permissions,
    StoreError,
    access,
)

VALID = re.compile(r"/[A-Za-z0-9_@/-]*")
LOCAL = re.compile(r"/local/domain/\d{1,5}/")
MAX_NODES = 1000  # of one unprivileged domain
MAX_NODE_SIZE = 2048  # counted as xenstored counts, with its record's header
RECORD_HEADER, RECORD_PERMISSION = 24, 8

# What to tell watchers: (path, whether only watches on exactly it hear of it, permissions that let one know).
Changed = Callable[[str, bool, tuple[Permissions, ...]], None]


class Node(NamedTuple):
    value: bytes = b""
    children: tuple[str, ...] = ()
    permissions: Permissions = (Permission(0, 0),)
    generation: int = 0

    @property
    def owner(self) -> int:
        return self.permissions[0].domid

    def size(self) -> int:
        """What it weighs against MAX_NODE_SIZE."""
        names = sum(len(child) + 1 for child in self.children)
        return RECORD_HEADER + RECORD_PERMISSION * len(self.permissions) + len(self.value) + names


def valid(path: str) -> bool:
    """Whether `path` can be a node's."""
    if not VALID.fullmatch(path) or "//" in path or (path.endswith("/") and path != "/"):
        return False
    local = LOCAL.match(path)
    return len(path) <= XENSTORE_REL_PATH_MAX + (local.end() if local else 0)


def parent_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def leaf_of(path: str) -> str:
    return path.rpartition("/")[2]


def join(path: str, leaf: str) -> str:
    return f"/{leaf}" if path == "/" else f"{path}/{leaf}"


class Layer:
    """Nodes by path, how many each domain owns, and where changes are told."""

    def __init__(self) -> None:
        self.owned: Counter[int] = Counter()

    def get(self, path: str) -> Node | None:
        raise NotImplementedError

    def keep(self, path: str, node: Node | None) -> None:
        """Put a node in a path's place; None removes it."""
        raise NotImplementedError

    def changed(self, path: str, exact: bool, visible: tuple[Permissions, ...]) -> None:
        """A change was made that watchers may hear of."""
        raise NotImplementedError

    def put(self, path: str, node: Node | None) -> None:
        """`keep`, with the owners' accounts."""
        before = self.get(path)
        if before is not None:
            self.owned[before.owner] -= 1
        if node is not None:
            self.owned[node.owner] += 1
        self.keep(path, node)

    def nodes_of(self, domid: int) -> int:
        """How many nodes a domain owns, as far as this layer sees."""
        return self.owned[domid]


class Tree(Layer):
    """The tree itself."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, Node] = {}
        self.generation = 0
        self.on_change: Changed = lambda path, exact, visible: None
        for path in ("/", "/tool", "/tool/xenstored"):
            self.put(path, Node())
        self.put("/", Node(children=("tool",)))
        self.put("/tool", Node(children=("xenstored",)))

    def get(self, path: str) -> Node | None:
        return self.nodes.get(path)

    def keep(self, path: str, node: Node | None) -> None:
        if node is None:
            self.nodes.pop(path, None)
        else:
            self.generation += 1
            self.nodes[path] = node._replace(generation=self.generation)

    def changed(self, path: str, exact: bool, visible: tuple[Permissions, ...]) -> None:
        self.on_change(path, exact, visible)


def node_at(layer: Layer, caller: Caller, path: str, need: int) -> Node:
    """The node, if the caller has all of `need` on it. Raises StoreError. (get_node)"""
    if not valid(path):
        raise StoreError("EINVAL")
    node = layer.get(path)
    if node is not None and access(node.permissions, caller) & need == need:
        return node
    error = "ENOENT" if node is None else "EACCES"
    ancestor = path
    while ancestor != "/":
        ancestor = parent_of(ancestor)
        above = layer.get(ancestor)
        if above is not None:
            if access(above.permissions, caller) & need:
                raise StoreError(error)
            break
    raise StoreError("EACCES")


def read(layer: Layer, caller: Caller, path: str) -> bytes:
    """The node's value."""
    return node_at(layer, caller, path, READ).value


def directory(layer: Layer, caller: Caller, path: str) -> Node:
    """The node, for its children."""
    return node_at(layer, caller, path, READ)


def write(layer: Layer, caller: Caller, path: str, value: bytes) -> None:
    """Set the value; the node and its parents are made where they are missing."""
    try:
        node = node_at(layer, caller, path, WRITE)
    except StoreError as error:
        if error.name != "ENOENT":
            raise
        _create(layer, caller, path, value)
    else:
        _put_checked(layer, caller, path, node._replace(value=value))
    layer.changed(path, False, _visible(layer, path))


def mkdir(layer: Layer, caller: Caller, path: str) -> None:
    """Make the node where it is missing; an existing one stays as it is."""
    try:
        node_at(layer, caller, path, WRITE)
    except StoreError as error:
        if error.name != "ENOENT":
            raise
        _create(layer, caller, path, b"")
        layer.changed(path, False, _visible(layer, path))


def remove(layer: Layer, caller: Caller, path: str) -> None:
    """Remove the node and everything below it; no node there is no error as long as its parent exists."""
    try:
        node_at(layer, caller, path, WRITE)
    except StoreError as error:
        if error.name == "ENOENT" and layer.get(parent_of(path)) is not None:
            return
        raise
    if path == "/":
        raise StoreError("EINVAL")
    remove_subtree(layer, path)


def remove_subtree(layer: Layer, path: str) -> None:
    """Take a node out with all below it, whoever owns them; watchers of each hear, the deepest first."""
    told = [(below, below != path, _visible(layer, below)) for below in reversed(list(walk(layer, path)))]
    for below, _exact, _permissions in told:
        layer.put(below, None)
    above, leaf = parent_of(path), leaf_of(path)
    parent = layer.get(above)
    assert parent is not None, f"{path} has no parent"
    layer.put(above, parent._replace(children=tuple(child for child in parent.children if child != leaf)))
    for below, exact, permissions in told:
        layer.changed(below, exact, permissions)


def walk(layer: Layer, path: str) -> Iterator[str]:
    """`path` and everything below it, parents before children."""
    waiting = [path]
    while waiting:
        path = waiting.pop()
        node = layer.get(path)
        if node is not None:
            yield path
            waiting.extend(join(path, child) for child in reversed(node.children))


def get_permissions(layer: Layer, caller: Caller, path: str) -> Permissions:
    """The node's permissions."""
    return node_at(layer, caller, path, READ).permissions


def set_permissions(layer: Layer, caller: Caller, path: str, permissions: Permissions) -> None:
    """Replace the node's permissions; only its owner may, and only domain 0 may give it away."""
    if not caller.privileged and len(permissions) > MAX_PERMS:
        raise StoreError("ENOSPC")
    node = node_at(layer, caller, path, WRITE | OWNER)
    if not caller.privileged and permissions[0].domid != node.owner:
        raise StoreError("EPERM")
    before = _visible(layer, path)
    _put_checked(layer, caller, path, node._replace(permissions=permissions))
    layer.changed(path, False, (*before, permissions))


def _visible(layer: Layer, path: str) -> tuple[Permissions, ...]:
    """The permissions of a node and its parent: who may read either may know of it. (watch_permitted)"""
    nodes = (layer.get(path), layer.get(parent_of(path)))
    return tuple(node.permissions for node in nodes if node is not None)


def _put_checked(layer: Layer, caller: Caller, path: str, node: Node) -> None:
    if not caller.privileged and node.size() >= MAX_NODE_SIZE:
        raise StoreError("ENOSPC")
    layer.put(path, node)


def _create(layer: Layer, caller: Caller, path: str, value: bytes) -> None:
    """Make the node and missing parents; each inherits its parent's permissions. (construct_node)"""
    missing = [path]
    while (parent := layer.get(parent_of(missing[-1]))) is None:
        missing.append(parent_of(missing[-1]))
    if not caller.privileged and layer.nodes_of(caller.domid) + len(missing) > MAX_NODES:
        raise StoreError("ENOSPC")
    permissions = parent.permissions
    if not caller.privileged:
        permissions = (Permission(caller.domid, permissions[0].access), *permissions[1:])
    made = [Node(permissions=permissions, children=(leaf_of(below),)) for below in missing[:-1]]
    nodes = [Node(value, (), permissions), *made]
    grown = parent._replace(children=(*parent.children, leaf_of(missing[-1])))
    if not caller.privileged and any(node.size() >= MAX_NODE_SIZE for node in (grown, *nodes)):
        raise StoreError("ENOSPC")
    layer.put(parent_of(missing[-1]), grown)
    for where, node in zip(reversed(missing), reversed(nodes), strict=True):
        layer.put(where, node)


def make(layer: Layer, path: str, value: bytes, permissions: Permissions) -> None:
    """A node of domain 0's making, with these permissions. (libxl__xs_mknod)"""
    write(layer, DOM0, path, value)
    set_permissions(layer, DOM0, path, permissions)
