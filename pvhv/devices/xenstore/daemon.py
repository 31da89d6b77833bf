# SPDX-License-Identifier: GPL-2.0-or-later
"""The store as a whole: one tree, and the domains that come and go.

A change in the tree is told to watchers after the request that made it was answered, so that whoever wrote
and watches hears the answer first. When a domain goes, so do the nodes it owned.

Domain 0's own code (backends, toolstack) does not send messages: it calls `read`, `write` and the rest here,
and hears of changes by `watch`, whose function is called with the path on the hypervisor's thread.

Read beside it: tools/xenstore/xenstored_domain.c.
"""

from __future__ import annotations

from collections.abc import Callable

from pvhv.devices.xenstore import tree
from pvhv.devices.xenstore.connection import Connection
from pvhv.devices.xenstore.permissions import DOM0, READ, Caller, Permission, Permissions, access
from pvhv.devices.xenstore.tree import Tree
from pvhv.devices.xenstore.watches import Watch

Callback = Callable[[str], None]


class Xenstore:
    """The tree and its connections by domid."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.tree.on_change = self._changed
        self.connections: dict[int, Connection] = {}
        self.callbacks: dict[int, tuple[Watch, Callback]] = {}
        self.afterwards: list[Callable[[], None]] = []
        self._next_callback = 0

    # -- domains ---------------------------------------------------------------------------------------------
    def introduce(self, connection: Connection) -> None:
        """A domain is there and may ask."""
        self.connections[connection.caller.domid] = connection
        self._changed("@introduceDomain", True, ())
        self.settle()

    def shut_down(self) -> None:
        """Some domain shut down: whoever watches for that looks which."""
        self._changed("@releaseDomain", True, ())
        self.settle()

    def release(self, domid: int) -> None:
        """A domain is gone: its connection, and every node it owned, with what is below."""
        connection = self.connections.pop(domid, None)
        if connection is None:
            return
        connection.reset()
        orphans = [path for path, node in self.tree.nodes.items() if node.owner == domid]
        for path in sorted(orphans):
            if self.tree.get(path) is not None:  # it may have gone with one above it
                tree.remove_subtree(self.tree, path)
        self._changed("@releaseDomain", True, ())
        self.settle()

    # -- changes ---------------------------------------------------------------------------------------------
    def _changed(self, path: str, exact: bool, visible: tuple[Permissions, ...]) -> None:
        special = path.startswith("@")
        for connection in self.connections.values():
            caller = connection.caller
            known = caller.privileged or any(access(permissions, caller) & READ for permissions in visible)
            if not known:
                continue
            for watch in connection.watches.values():
                if watch.concerns(path, exact and not special):
                    self.afterwards.append(_telling(connection, watch, path))
        for watch, callback in self.callbacks.values():
            if watch.concerns(path, exact and not special):
                self.afterwards.append(_calling(callback, path))

    def settle(self) -> None:
        """Tell what is to be told now that an operation is done."""
        while self.afterwards:
            waiting, self.afterwards = self.afterwards, []
            for tell in waiting:
                tell()

    # -- domain 0's own code ---------------------------------------------------------------------------------
    def read(self, path: str) -> bytes | None:
        """A node's value, None where there is none."""
        node = self.tree.get(path)
        return None if node is None else node.value

    def children(self, path: str) -> tuple[str, ...]:
        """The names below a node."""
        node = self.tree.get(path)
        return () if node is None else node.children

    def write(self, path: str, value: str | bytes) -> None:
        """Set a node's value, making it where it is missing."""
        tree.write(self.tree, DOM0, path, value.encode() if isinstance(value, str) else value)
        self.settle()

    def make(self, path: str, value: str, *permissions: Permission) -> None:
        """A node with permissions of its own."""
        tree.make(self.tree, path, value.encode(), permissions)
        self.settle()

    def remove(self, path: str) -> None:
        """Remove a node and all below it, if it is there."""
        if self.tree.get(path) is not None:
            tree.remove(self.tree, DOM0, path)
            self.settle()

    def watch(self, path: str, callback: Callback) -> int:
        """Call `callback(path)` for every change below; the number is for `unwatch`."""
        self._next_callback += 1
        self.callbacks[self._next_callback] = (Watch(path, b""), callback)
        return self._next_callback

    def unwatch(self, number: int) -> None:
        """End a `watch`."""
        self.callbacks.pop(number, None)


def _telling(connection: Connection, watch: Watch, path: str) -> Callable[[], None]:
    return lambda: connection.event(watch, path)


def _calling(callback: Callback, path: str) -> Callable[[], None]:
    return lambda: callback(path)


def guest(domid: int) -> Caller:
    """An unprivileged domain as a caller."""
    return Caller(domid)
