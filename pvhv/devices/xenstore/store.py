# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: one tree, who talks to it, and who hears of its changes.

Watchers are told of a change after the request that made it was answered, so that a party that writes and watches gets
the answer first. There may be many watchers: to tell them is done in pieces, between which guests run. When a domain
goes, the nodes it owned are removed, and what others granted it is not granted to the next domain with its number.

Domain 0's own code (backends, toolstack) does not send messages: it calls `read`, `write` and the rest here,
and hears of changes by `watch`, whose function is called with the path on the hypervisor's thread. Domain 0's
other processes do send messages: pvhv.devices.xenstore.sockets.

Read beside it: tools/xenstore/xenstored_domain.c, fire_watches in xenstored_watch.c.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from pvhv.devices.xenstore import tree
from pvhv.devices.xenstore.connection import Connection
from pvhv.devices.xenstore.domains import Known, WayIn
from pvhv.devices.xenstore.permissions import DOM0, READ, Caller, Permission, Permissions, StoreError, access, ignoring
from pvhv.devices.xenstore.quotas import Accounts, Quotas
from pvhv.devices.xenstore.tree import Tree
from pvhv.devices.xenstore.watches import Watch, Watches

Callback = Callable[[str], None]
Watcher = tuple[Connection | Callback, Watch]
Change = tuple[str, bool, tuple[Permissions, ...]]

LOOKED_AT_BY_UNIT, TOLD_AT_ONCE, TELLING_COST = 8, 64, 2  # in units of about a microsecond

INTRODUCE, RELEASE = "@introduceDomain", "@releaseDomain"


class Store:
    """The tree, and its connections. Here the caller makes the rings, and all work is done at once; the store of a
    whole machine is in pvhv.devices.xenstore.daemon."""

    def __init__(self, log: Callable[[str], None] = lambda line: None) -> None:
        self.log = log
        self.quotas = Quotas()
        self.accounts = Accounts(self.quotas)
        self.tree = Tree(self.accounts)
        self.tree.on_change = self._changed
        self.domains: dict[int, Known] = {}
        self.watches: Watches[Watcher] = Watches()
        self.special: dict[str, Permissions] = dict.fromkeys((INTRODUCE, RELEASE), (Permission(0, 0),))
        self.callbacks: dict[int, str] = {}
        self.afterwards: deque[Change | Callable[[], None]] = deque()  # what is to be told of what was done
        self.busy: tuple[Connection, Iterator[int]] | None = None  # a request that comes in pieces, and whose it is
        self._settling = False
        self.stalled: set[WayIn] = set()  # not listened to: their domains have too much of everything
        self.traces = False
        self._ranks = 0

    # -- domains ---------------------------------------------------------------------------------------------
    def exists(self, domid: int) -> bool:
        """Whether there is such a domain, introduced or not."""
        return True

    def introduced(self, domid: int) -> Known:
        """A domain that may ask. Raises StoreError(ENOENT)."""
        known = self.domains.get(domid)
        if known is None:
            raise StoreError("ENOENT")
        return known

    def introduce(self, domid: int, port: int) -> None:
        """Introduce a domain: it may ask, by the page it grants and its port `port`. May be called again with another
        port.

        Raises StoreError."""
        known = self.domains.get(domid)
        if known is None:
            raise StoreError("EINVAL")
        known.ring.reset()
        known.ring.reconnected()

    def arrived(self, ring: WayIn) -> None:
        """A ring was made: the domain may ask from now on."""
        self.domains[ring.domid] = Known(ring)
        self._special(INTRODUCE)

    def shut_down(self, domid: int) -> None:
        """A domain shut down: tell those who watch @releaseDomain."""
        known = self.domains.get(domid)
        if known is not None and not known.shut_down:
            known.shut_down = True
            self._special(RELEASE)

    def release(self, domid: int) -> None:
        """A domain is gone: drop its connection, and remove every node it owned, with all below it."""
        known = self.domains.pop(domid, None)
        if known is not None:
            known.ring.closed()
            self.stalled.discard(known.ring)
            self.disconnect(known.ring.connection)
            if known.link is not None:
                known.link.close()
        for path in self.tree.mentioning(domid):
            node = self.tree.get(path)  # it may have gone with one above it
            if node is not None and node.owner == domid and path != "/":
                for _piece in tree.removing_subtree(self.tree, path):
                    pass
            elif node is not None and node.owner == domid:  # the root stays, whoever it was given to
                tree.set_permissions(self.tree, DOM0, path, (Permission(0, 0), *node.permissions[1:]))
        for path in self.tree.mentioning(domid):
            node = self.tree.nodes[path]
            self.tree.renew_permissions(path, ignoring(node.permissions, domid))
        for name, permissions in self.special.items():
            owner = permissions[0]._replace(domid=0) if permissions[0].domid == domid else permissions[0]
            self.special[name] = (owner, *(each for each in permissions[1:] if each.domid != domid))
        for other in self.domains.values():
            if other.ring.connection.caller.target == domid:
                other.ring.connection.caller = other.ring.connection.caller._replace(target=None)
        if known is not None:
            self._special(RELEASE)
        self.settle()

    # -- connections -----------------------------------------------------------------------------------------
    def connect(self, caller: Caller, wake: Callable[[], None] = lambda: None) -> Connection:
        """Make a connection for a new party."""
        return Connection(caller, self.accounts, self._next_rank(), wake)

    def disconnect(self, connection: Connection) -> None:
        """A party is gone, or begins anew: drop its watches, transactions and mail. Its last request is still done, but
        not answered."""
        if self.busy is not None and self.busy[0] is connection and connection.domid:
            with suppress(StoreError):
                for _piece in self.busy[1]:
                    pass
        self.reset(connection)
        connection.drop_mail()

    def reset(self, connection: Connection) -> None:
        """Drop a connection's watches and transactions. (XS_RESET_WATCHES)"""
        for watch, _rank in list(connection.watches.values()):
            self.remove_watch(connection, watch.path, watch.token)
        for transaction in connection.transactions.values():
            transaction.close()
        connection.transactions.clear()

    def add_watch(self, connection: Connection, watch: Watch) -> None:
        """Add a watch of a connection. Raises StoreError(ENOMEM)."""
        if self.accounts.refuses(connection.domid, watch.weight):
            raise StoreError("ENOMEM")
        self.accounts.charge(connection.domid, watch.weight)
        rank = self._next_rank()
        connection.watches[watch.path, watch.token] = watch, rank
        self.watches.add(watch.path, (connection.rank, rank), (connection, watch))

    def remove_watch(self, connection: Connection, path: str, token: bytes) -> None:
        """Remove a watch of a connection. Raises StoreError(ENOENT)."""
        if (path, token) not in connection.watches:
            raise StoreError("ENOENT")
        watch, rank = connection.watches.pop((path, token))
        self.accounts.charge(connection.domid, -watch.weight)
        self.watches.remove(path, (connection.rank, rank))

    def _next_rank(self) -> int:
        self._ranks += 1
        return self._ranks

    # -- changes ---------------------------------------------------------------------------------------------
    def _special(self, name: str) -> None:
        self._changed(name, True, (self.special[name],))
        self.settle()

    def _changed(self, path: str, exact: bool, visible: tuple[Permissions, ...]) -> None:
        if path in self.watches.by_path or not exact:
            self.afterwards.append((path, exact, visible))

    def settling(self) -> Iterator[int]:
        """After an operation: tell watchers, and take requests of domains that have room again. In pieces. If this is
        under way already, nothing is done here."""
        if self._settling:
            return
        self._settling = True
        try:
            while self.afterwards:
                change = self.afterwards.popleft()
                yield from self._telling(change) if isinstance(change, tuple) else _calling(change)
        finally:
            self._settling = False
        for ring in [ring for ring in self.stalled if not self.accounts.stalled(ring.domid)]:
            self.stalled.discard(ring)
            ring.pump()

    def _telling(self, change: Change) -> Iterator[int]:
        path, exact, visible = change
        watching = self.watches.concerned(path, exact)
        yield len(watching) // LOOKED_AT_BY_UNIT
        sees: dict[Connection | Callback, bool] = {}
        for count, (who, watch) in enumerate(watching, 1):
            if who not in sees:
                caller = who.caller if isinstance(who, Connection) else DOM0
                sees[who] = any(access(permissions, caller) & READ for permissions in visible)
            if sees[who]:
                if isinstance(who, Connection):
                    who.event(watch, path)
                else:
                    who(path)
            if not count % TOLD_AT_ONCE:
                yield TOLD_AT_ONCE * TELLING_COST

    def settle(self) -> None:
        """Do the work of `settling`."""
        self.run(self.settling())

    def run(self, work: Iterator[int], domid: int | None = None) -> None:
        """Do work that comes in pieces; `domid` is the domain it is done for."""
        for _piece in work:
            pass

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
        """Make a node with these permissions. The value may be a file's name, with bytes that are no UTF-8."""
        tree.make(self.tree, path, value.encode(errors="surrogateescape"), permissions)
        self.settle()

    def remove(self, path: str) -> None:
        """Remove a node and all below it, if it is there."""
        if self.tree.get(path) is not None:
            tree.remove(self.tree, DOM0, path)
            self.settle()

    def watch(self, path: str, callback: Callback) -> int:
        """Call `callback(path)` for every change at or below `path`. Returns the number for `unwatch`."""
        number = self._next_rank()
        self.callbacks[number] = path
        self.watches.add(path, (0, number), (callback, Watch(path, b"")))
        return number

    def unwatch(self, number: int) -> None:
        """End a `watch`."""
        path = self.callbacks.pop(number, None)
        if path is not None:
            self.watches.remove(path, (0, number))


def _calling(function: Callable[[], None]) -> Iterator[int]:
    function()
    yield TELLING_COST
