# SPDX-License-Identifier: GPL-2.0-or-later
"""What an unprivileged domain may have of the store, and what it has.

Nodes are counted where they are (tree), watches and replies with their connection; memory is counted here, over
all of them: each node it owns with its name, each watch, each copy a transaction made for it, each message on its
way to it. Domain 0 is counted, but never refused.

Which error is whose: nodes, size, permissions and transactions ENOSPC; watches E2BIG; memory ENOMEM, and EIO where
a node would be written. A domain over its memory is not listened to until others read or remove what is its.

Not modelled: the limit on the rate of writes, and that an event keeps the request which caused it outstanding until it
is read or twenty seconds old. Both go by real time, of which a guest on a virtual clock may notice nothing.

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
    """Bytes by domid."""

    def __init__(self, quotas: Quotas) -> None:
        self.quotas = quotas
        self.memory: Counter[int] = Counter()

    def charge(self, domid: int, count: int) -> None:
        """Count bytes (or, less than nought, count them no longer), whatever the quota says."""
        self.memory[domid] += count

    def refuses(self, domid: int, more: int) -> bool:
        """Whether so many more bytes are too many."""
        return domid != 0 and self.memory[domid] + more >= self.quotas.memory

    def stalled(self, domid: int) -> bool:
        """Whether the domain has so much that it is not listened to."""
        return self.refuses(domid, 0)
