# SPDX-License-Identifier: GPL-2.0-or-later
"""A node of the store, and how nodes are called.

A node has a value, children in the order of their making, permissions, and a generation, which changes with every
change of the node. By the generation a transaction knows whether a node is as it saw it. Nodes are immutable; a change
puts another node in the place of the old one.

Read beside it: struct node in tools/xenstore/xenstored_core.h, is_valid_nodename in xenstored_core.c.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pvhv.devices.xenstore.permissions import Permission, Permissions

VALID = re.compile(r"/[A-Za-z0-9_@/-]*")
LOCAL = re.compile(r"/local/domain/\d{1,5}/")
RECORD_HEADER, RECORD_PERMISSION = 24, 8


class Node(NamedTuple):
    """`names` is the length of its children's names, each with its NUL."""

    value: bytes = b""
    children: tuple[str, ...] = ()
    permissions: Permissions = (Permission(0, 0),)
    generation: int = 0
    names: int = 0

    @property
    def owner(self) -> int:
        return self.permissions[0].domid

    @property
    def size(self) -> int:
        """The node's size in bytes, as xenstored counts it: with its record's header."""
        return RECORD_HEADER + RECORD_PERMISSION * len(self.permissions) + len(self.value) + self.names

    def with_child(self, leaf: str) -> Node:
        """The node with one more child, as the last."""
        return self._replace(children=(*self.children, leaf), names=self.names + len(leaf) + 1)

    def without_child(self, leaf: str) -> Node:
        """The node without one of its children."""
        at = self.children.index(leaf)
        return self._replace(
            children=self.children[:at] + self.children[at + 1 :], names=self.names - len(leaf) - 1
        )


def valid(path: str, longest: int) -> bool:
    """Whether `path` can be a node's path. It may have `longest` bytes, not counting the /local/domain/<n>/ it begins
    with."""
    if not VALID.fullmatch(path) or "//" in path or (path.endswith("/") and path != "/"):
        return False
    local = LOCAL.match(path)
    return len(path) <= longest + (local.end() if local else 0)


def parent_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def leaf_of(path: str) -> str:
    return path.rpartition("/")[2]


def join(path: str, leaf: str) -> str:
    return f"/{leaf}" if path == "/" else f"{path}/{leaf}"
