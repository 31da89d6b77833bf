# SPDX-License-Identifier: GPL-2.0-or-later
"""What an unprivileged domain may have of the store, and what it has.

Nodes are counted by the tree, watches and replies by the connection. Memory is counted here: each node that the domain
owns, with its name, each watch, each copy that a transaction made for it, each message on its way to it. Domain 0 is
counted, but never refused.

The errors: nodes, size, permissions and transactions ENOSPC; watches E2BIG; memory ENOMEM, and EIO where
a node would be written. Requests of a domain over its memory quota wait until it has less.

Not modelled: the limit on the rate of writes, and that an event keeps the request which caused it outstanding until it
is read or twenty seconds old. Both depend on real time, which a guest on a virtual clock may not notice.

Read beside it: hard_quotas in tools/xenstore/xenstored_control.c, domain_chk_quota in xenstored_domain.c.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pvhv.abi.io.xs_wire import XENSTORE_REL_PATH_MAX


@dataclass
class Quotas:
    """The limits; `XS_CONTROL quota set` changes them."""

    nodes: int = 1000
    watches: int = 128
    transactions: int = 10
    outstanding: int = 20
    transaction_nodes: int = 1024
    memory: int = (2 << 20) + (512 << 10)
    node_size: int = 2048
    path_max: int = XENSTORE_REL_PATH_MAX
    permissions: int = 5
    soft_memory: int = 2 << 20


# (its name for people, the field, what it is)
HARD = (
    ("nodes", "nodes", "Nodes per domain"),
    ("watches", "watches", "Watches per domain"),
    ("transactions", "transactions", "Transactions per domain"),
    ("outstanding", "outstanding", "Outstanding requests per domain"),
    ("transaction-nodes", "transaction_nodes", "Max. number of accessed nodes per transaction"),
    ("memory", "memory", "Total Xenstore memory per domain (error level)"),
    ("node-size", "node_size", "Max. size of a node"),
    ("path-max", "path_max", "Max. length of a node path"),
    ("permissions", "permissions", "Max. number of permissions per node"),
)
SOFT = (("memory", "soft_memory", "Total Xenstore memory per domain (warning level)"),)


class Accounts:
    """The memory that each domain takes in the store: bytes by domid."""

    def __init__(self, quotas: Quotas) -> None:
        self.quotas = quotas
        self.memory: Counter[int] = Counter()

    def charge(self, domid: int, count: int) -> None:
        """Add `count` bytes to a domain's account (or take them off, if negative), whatever the quota says."""
        self.memory[domid] += count

    def refuses(self, domid: int, more: int) -> bool:
        """Whether `more` bytes would exceed the domain's quota."""
        return domid != 0 and self.memory[domid] + more >= self.quotas.memory

    def stalled(self, domid: int) -> bool:
        """Whether the domain has used up its quota, so that its requests have to wait."""
        return self.refuses(domid, 0)
