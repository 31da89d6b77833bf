# SPDX-License-Identifier: GPL-2.0-or-later
"""A transaction: a layer over the tree whose changes happen together, or not at all.

It remembers the generation of every node it looked at (and that a node was not there). At its end each of
them must stand as it was seen, else the answer is EAGAIN and the caller starts over; what it did not look at
may have changed meanwhile. A node is read from the tree when it is first looked at, not when the transaction
started. Watchers hear of changes when they become true.

Read beside it: tools/xenstore/xenstored_transaction.c.
"""

from __future__ import annotations

from pvhv.devices.xenstore.permissions import Permissions, StoreError
from pvhv.devices.xenstore.tree import MAX_NODES, Layer, Node, Tree

MAX_TRANSACTIONS = 10  # of one unprivileged connection, at a time
MAX_LOOKED_AT = 1024


class Transaction(Layer):
    """Copies of what was looked at, changes included, over `tree`."""

    def __init__(self, tree: Tree, limited: bool) -> None:
        super().__init__()
        self.tree = tree
        self.limited = limited
        self.seen: dict[str, int | None] = {}  # path -> generation in the tree when first looked at
        self.copies: dict[str, Node | None] = {}
        self.modified: dict[str, None] = {}  # in order
        self.events: dict[str, tuple[bool, tuple[Permissions, ...]]] = {}
        self.failed = False

    def get(self, path: str) -> Node | None:
        if path not in self.seen:
            if self.limited and len(self.seen) >= MAX_LOOKED_AT:
                self.failed = True
                raise StoreError("ENOSPC")
            node = self.tree.get(path)
            self.seen[path] = None if node is None else node.generation
            self.copies[path] = node
        return self.copies[path]

    def keep(self, path: str, node: Node | None) -> None:
        self.copies[path] = node
        self.modified[path] = None

    def changed(self, path: str, exact: bool, visible: tuple[Permissions, ...]) -> None:
        before = self.events.get(path)
        if before is not None:
            exact, visible = exact and before[0], (*before[1], *visible)
        self.events[path] = (exact, visible)

    def nodes_of(self, domid: int) -> int:
        return self.tree.nodes_of(domid) + self.owned[domid]

    def commit(self) -> None:
        """Make the changes true. Raises StoreError: EAGAIN when something it saw changed, ENOSPC, ENOMEM."""
        if self.failed:
            raise StoreError("ENOMEM")
        for path, generation in self.seen.items():
            node = self.tree.get(path)
            if (None if node is None else node.generation) != generation:
                raise StoreError("EAGAIN")
        if self.limited:
            for domid, more in self.owned.items():
                if domid and more > 0 and self.tree.nodes_of(domid) + more > MAX_NODES:
                    raise StoreError("ENOSPC")
        for path in self.modified:
            self.tree.put(path, self.copies[path])
        for path, (exact, visible) in self.events.items():
            self.tree.changed(path, exact, visible)
