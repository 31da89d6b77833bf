# SPDX-License-Identifier: GPL-2.0-or-later
"""A transaction: a layer over the tree whose changes happen together, or not at all.

It remembers the generation of every node it looked at (and that a node was not there). At its end each of
these nodes must be as it was seen, else the answer is EAGAIN and the caller starts over. Other nodes may have changed
meanwhile. A node is read from the tree when it is first looked at, not when the transaction
started. Watchers hear of changes when they become true, in the order in which the nodes were first looked at;
for a node that was made and removed again there is no event.

Its copies count as memory of the domain that began it, until it ends.

Read beside it: tools/xenstore/xenstored_transaction.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from pvhv.devices.xenstore.nodes import Node
from pvhv.devices.xenstore.permissions import Permissions, StoreError
from pvhv.devices.xenstore.tree import PIECE, Layer, Tree, visible


class Transaction(Layer):
    """Copies of what was looked at, changes included, over `tree`. `domid` began it."""

    def __init__(self, tree: Tree, domid: int, limited: bool) -> None:
        super().__init__(tree.accounts)
        self.tree = tree
        self.domid = domid
        self.limited = limited
        self.mark = len(str(tree.generation)) + 1  # what a copy's name is longer than the node's
        self.seen: dict[str, Node | None] = {}  # as they were in the tree when first looked at
        self.copies: dict[str, Node | None] = {}
        self.modified: set[str] = set()
        self.events: dict[str, bool] = {}  # path -> whether only watches on exactly it hear of it
        self.made_nodes = False
        self.failed = False

    def get(self, path: str) -> Node | None:
        if path not in self.seen:
            if self.limited and len(self.seen) >= self.accounts.quotas.transaction_nodes:
                self.failed = True
                raise StoreError("ENOSPC")
            node = self.tree.get(path)
            self.seen[path] = self.copies[path] = node
            self.accounts.charge(*self.weigh(path, node))
        return self.copies[path]

    def keep(self, path: str, node: Node | None) -> None:
        self.copies[path] = node
        self.modified.add(path)

    def changed(self, path: str, exact: bool, visible: tuple[Permissions, ...]) -> None:
        self.events[path] = exact and self.events.get(path, True)

    def weigh(self, path: str, node: Node | None) -> tuple[int, int]:
        return self.domid, 0 if node is None else node.size + len(path) + self.mark

    def has_room(self, domid: int, count: int) -> bool:
        # What it makes itself is counted at its end.
        return self.tree.owned[domid] < self.accounts.quotas.nodes

    def created(self) -> None:
        self.made_nodes = True

    def spoil(self) -> None:
        self.failed = True

    def committing(self) -> Iterator[int]:
        """Make the changes in the tree. Raises StoreError: EAGAIN when a node it saw has changed, ENOSPC, ENOMEM.

        In pieces; each item is the number of nodes of a piece."""
        if self.failed:
            raise StoreError("ENOMEM")
        if self.limited and self.made_nodes:
            for domid, more in self.owned.items():
                if domid and self.tree.owned[domid] + more >= self.accounts.quotas.nodes:
                    raise StoreError("ENOSPC")
        for count, (path, before) in enumerate(self.seen.items(), 1):
            now = self.tree.get(path)
            if (now and now.generation) != (before and before.generation):
                raise StoreError("EAGAIN")
            if not count % PIECE:
                yield PIECE
        for count, path in enumerate(self.seen, 1):
            if path in self.modified:
                self.tree.put(path, self.copies[path])
            if not count % PIECE:
                yield PIECE
        for count, (path, before) in enumerate(self.seen.items(), 1):
            if path in self.events:
                sights = () if before is None else (before.permissions,)
                self.tree.changed(path, self.events[path], (*sights, *visible(self.tree, path)))
            if not count % PIECE:
                yield PIECE
        yield len(self.seen) % PIECE

    def close(self) -> None:
        """The transaction has ended, in either way: drop its copies."""
        for path, copy in self.copies.items():
            domid, weight = self.weigh(path, copy)
            self.accounts.charge(domid, -weight)
        self.copies.clear()
