# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree, and what may be done with a node of it.

If a path exists, so do all its parents.

`Layer` is what the operations work on: the tree itself (`Tree`), or a transaction's view of it
(pvhv.devices.xenstore.transactions). An error does not tell more than the caller may know: if it may not
read the parent either, the answer is EACCES whether the node exists or not.

Read beside it: tools/xenstore/xenstored_core.c, do_read to do_set_perms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from pvhv.devices.xenstore.nodes import Node, join, leaf_of, parent_of, valid
from pvhv.devices.xenstore.permissions import (
    DOM0,
    OWNER,
    READ,
    WRITE,
    Caller,
    Permission,
    Permissions,
    StoreError,
    access,
)
from pvhv.devices.xenstore.quotas import Accounts, Quotas

# What to tell watchers: (path, whether only watches on exactly it hear of it, permissions that let one know).
Changed = Callable[[str, bool, tuple[Permissions, ...]], None]
PIECE = 128  # nodes that are taken out before others get a turn


class Layer:
    """What the operations work on: nodes by path, how many each domain owns, and where changes are told."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.owned: Counter[int] = Counter()

    def get(self, path: str) -> Node | None:
        raise NotImplementedError

    def keep(self, path: str, node: Node | None) -> None:
        """Put a node in a path's place; None removes it."""
        raise NotImplementedError

    def changed(self, path: str, exact: bool, visible: tuple[Permissions, ...]) -> None:
        """Note a change for the watchers. `exact`: only watches of this very path; `visible`: by whose read
        permission."""
        raise NotImplementedError

    def weigh(self, path: str, node: Node | None) -> tuple[int, int]:
        """(the domain whose memory a node takes, the number of bytes)."""
        raise NotImplementedError

    def has_room(self, domid: int, count: int) -> bool:
        """Whether a domain may own `count` more nodes."""
        raise NotImplementedError

    def created(self) -> None:
        """A node is about to be made."""

    def spoil(self) -> None:
        """An operation failed half-way, and cannot be undone: a transaction can no longer be committed."""

    def put(self, path: str, node: Node | None) -> None:
        """Put a node in a path's place, as `keep` does, and correct the owners' accounts."""
        before = self.get(path)
        if before is not None:
            self.owned[before.owner] -= 1
            domid, weight = self.weigh(path, before)
            self.accounts.charge(domid, -weight)
        if node is not None:
            self.owned[node.owner] += 1
            self.accounts.charge(*self.weigh(path, node))
        self.keep(path, node)


class Tree(Layer):
    """The tree itself."""

    def __init__(self, accounts: Accounts | None = None) -> None:
        super().__init__(accounts or Accounts(Quotas()))
        self.nodes: dict[str, Node] = {}
        self.mentions: dict[int, dict[str, None]] = {}  # by domid: the nodes whose permissions name it
        self.generation = 0
        self.on_change: Changed = lambda path, exact, visible: None
        for path, children in (("/", ("tool",)), ("/tool", ("xenstored",)), ("/tool/xenstored", ())):
            self.put(path, Node(children=children, names=sum(len(leaf) + 1 for leaf in children)))

    def get(self, path: str) -> Node | None:
        return self.nodes.get(path)

    def keep(self, path: str, node: Node | None) -> None:
        before = self.nodes.get(path)
        now = () if node is None else node.permissions
        if before is None or before.permissions is not now:
            self._mention(path, () if before is None else before.permissions, now)
        if node is None:
            self.nodes.pop(path, None)
        else:
            self.generation += 1
            self.nodes[path] = node._replace(generation=self.generation)

    def _mention(self, path: str, before: Permissions, now: Permissions) -> None:
        for permission in before:
            there = self.mentions.get(permission.domid)
            if there is not None:
                there.pop(path, None)
                if not there:
                    del self.mentions[permission.domid]
        for permission in now:
            if permission.domid:  # domain 0 goes nowhere
                self.mentions.setdefault(permission.domid, {})[path] = None

    def mentioning(self, domid: int) -> list[str]:
        """The nodes whose permissions name a domain, in the order of a walk: parents first."""
        places: dict[str, dict[str, int]] = {}

        def place(path: str) -> tuple[int, ...]:
            if path == "/":
                return ()
            above = parent_of(path)
            if above not in places:
                places[above] = {leaf: at for at, leaf in enumerate(self.nodes[above].children)}
            return (*place(above), places[above][leaf_of(path)])

        return sorted(self.mentions.get(domid, ()), key=place)

    def renew_permissions(self, path: str, permissions: Permissions) -> None:
        """Replace a node's permissions by others that grant the same to all domains that exist: neither watchers
        nor transactions see a change."""
        self.nodes[path] = self.nodes[path]._replace(permissions=permissions)

    def changed(self, path: str, exact: bool, visible: tuple[Permissions, ...]) -> None:
        self.on_change(path, exact, visible)

    def weigh(self, path: str, node: Node | None) -> tuple[int, int]:
        return (0, 0) if node is None else (node.owner, node.size + len(path))

    def has_room(self, domid: int, count: int) -> bool:
        return self.owned[domid] + count <= self.accounts.quotas.nodes


def node_at(layer: Layer, caller: Caller, path: str, need: int) -> Node:
    """The node, if the caller has all of `need` on it. Raises StoreError. (get_node)"""
    if not valid(path, layer.accounts.quotas.path_max):
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


def removing(layer: Layer, caller: Caller, path: str) -> Iterator[int]:
    """Remove the node and everything below it; no node there is no error as long as its parent exists.

    In pieces; each item is the number of nodes of a piece."""
    try:
        node_at(layer, caller, path, WRITE)
    except StoreError as error:
        if error.name == "ENOENT" and layer.get(parent_of(path)) is not None:
            return
        raise
    if path == "/":
        raise StoreError("EINVAL")
    yield from removing_subtree(layer, path)


def remove(layer: Layer, caller: Caller, path: str) -> None:
    """Remove the node and everything below it, in one go."""
    for _piece in removing(layer, caller, path):
        pass


def removing_subtree(layer: Layer, path: str) -> Iterator[int]:
    """Remove a node and all below it, whoever owns them. Watchers of each node are told, the deepest node first.

    Raises StoreError if a transaction saw parts of the tree at different times, and they do not fit together. At its
    end it is told to start over."""
    above, leaf = parent_of(path), leaf_of(path)
    parent = layer.get(above)
    if parent is None:
        raise StoreError("EINVAL")
    told: list[tuple[str, bool, tuple[Permissions, ...]]] = []
    for below in _with_all_below(layer, path):
        told.append((below, below != path, _visible(layer, below)))
        if not len(told) % PIECE:
            yield PIECE
    if leaf not in parent.children:
        raise StoreError("EIO")
    for count, (below, _exact, _permissions) in enumerate(reversed(told), 1):
        layer.put(below, None)
        if not count % PIECE:
            yield PIECE
    layer.put(above, parent.without_child(leaf))
    for count, (below, exact, permissions) in enumerate(reversed(told), 1):
        layer.changed(below, exact, permissions)
        if not count % PIECE:
            yield PIECE
    yield len(told) % PIECE


def walk(layer: Layer, path: str) -> Iterator[str]:
    """`path` and everything below it, parents before children."""
    waiting = [path]
    while waiting:
        path = waiting.pop()
        node = layer.get(path)
        if node is not None:
            yield path
            waiting.extend(join(path, child) for child in reversed(node.children))


def _with_all_below(layer: Layer, path: str) -> Iterator[str]:
    """`path` and everything below it; read backwards: children before parents, and siblings in their order."""
    waiting = [path]
    while waiting:
        at = waiting.pop()
        node = layer.get(at)
        if node is None:
            raise StoreError("EIO")
        yield at
        waiting.extend(join(at, child) for child in node.children)


def get_permissions(layer: Layer, caller: Caller, path: str) -> Permissions:
    """The node's permissions."""
    return node_at(layer, caller, path, READ).permissions


def set_permissions(layer: Layer, caller: Caller, path: str, permissions: Permissions) -> None:
    """Replace the node's permissions; only its owner may, and only domain 0 may give it away."""
    node = node_at(layer, caller, path, WRITE | OWNER)
    if not caller.privileged and permissions[0].domid != node.owner:
        raise StoreError("EPERM")
    before = node.permissions
    _put_checked(layer, caller, path, node._replace(permissions=permissions))
    layer.changed(path, False, (before, *_visible(layer, path)))


def _visible(layer: Layer, path: str) -> tuple[Permissions, ...]:
    """The permissions of a node and of its parent: a party that may read one of them may know of the node.
    (watch_permitted)"""
    if not isinstance(layer, Tree):
        return ()  # a transaction asks when the change becomes true
    return visible(layer, path)


def visible(tree: Tree, path: str) -> tuple[Permissions, ...]:
    """Likewise, in the tree itself; empty for a node that does not exist."""
    node, parent = tree.nodes.get(path), tree.nodes.get(parent_of(path))
    return () if node is None or parent is None else (node.permissions, parent.permissions)


def _put_checked(layer: Layer, caller: Caller, path: str, node: Node) -> None:
    _check(layer, caller, path, node)
    layer.put(path, node)


def _check(layer: Layer, caller: Caller, path: str, node: Node) -> None:
    """Raises StoreError if a node is too large for the caller's quota, or for its owner's memory. (write_node)"""
    if not caller.privileged and node.size >= layer.accounts.quotas.node_size:
        layer.spoil()
        raise StoreError("ENOSPC")
    domid, weight = layer.weigh(path, node)
    before_domid, before = layer.weigh(path, layer.get(path))
    if layer.accounts.refuses(domid, weight - (before if before_domid == domid else 0)):
        layer.spoil()
        raise StoreError("EIO")


def _create(layer: Layer, caller: Caller, path: str, value: bytes) -> None:
    """Make the node and missing parents; each inherits its parent's permissions. (create_node)"""
    missing = [path]
    while (parent := layer.get(parent_of(missing[-1]))) is None:
        missing.append(parent_of(missing[-1]))
    permissions = parent.permissions
    if not caller.privileged:
        permissions = (Permission(caller.domid, permissions[0].access), *permissions[1:])
    # From the node upwards, as they are written; the last one is there already and gets a child.
    nodes = [(path, Node(value, (), permissions))]
    for below, above in pairwise(missing):
        nodes.append((above, Node(permissions=permissions).with_child(leaf_of(below))))
    if not caller.privileged and not layer.has_room(caller.domid, len(nodes)):
        raise StoreError("ENOSPC")
    layer.created()
    nodes.append((parent_of(missing[-1]), parent.with_child(leaf_of(missing[-1]))))
    for where, node in nodes:
        _check(layer, caller, where, node)
    for where, node in reversed(nodes):
        layer.put(where, node)


def make(layer: Layer, path: str, value: bytes, permissions: Permissions) -> None:
    """Make a node for domain 0, with these permissions. (libxl__xs_mknod)"""
    write(layer, DOM0, path, value)
    set_permissions(layer, DOM0, path, permissions)
