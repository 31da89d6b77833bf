# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do what with a node.

A node carries a list of permissions. The first names its owner, who may do everything, and says what anybody
not in the list may do; each other one grants a domain reading, writing, both or nothing. Domain 0 may do
everything, and a device model's domain what its target may do.

A permission is for the domain that has the number now. A permission for a domain that does not exist, or that has gone,
stays in the list but is *ignored*: the next domain with that number does not inherit it.

Read beside it: perm_for_conn in tools/xenstore/xenstored_core.c, domain_adjust_node_perms in xenstored_domain.c,
docs/misc/xenstore.txt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pvhv.devices.xenstore.numbers import unsigned

READ, WRITE, OWNER = 1, 2, 4
ALL = READ | WRITE | OWNER
LETTERS = {"n": 0, "r": READ, "w": WRITE, "b": READ | WRITE}
NAMES = {access: letter for letter, access in LETTERS.items()}
NUMBER = re.compile(r"[ \t\n\v\f\r]*[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")  # as strtol takes it


class StoreError(Exception):
    """A request's answer is an error: `name` is one of xs_wire.XSD_ERRORS."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Permission(NamedTuple):
    """What domain `domid` may do."""

    domid: int
    access: int
    ignored: bool = False

    def __str__(self) -> str:
        return f"{NAMES[self.access]}{self.domid}"


Permissions = tuple[Permission, ...]


class Caller(NamedTuple):
    """The domain on whose behalf an operation is done. It may also do what `target` may."""

    domid: int
    privileged: bool = False
    target: int | None = None


DOM0 = Caller(0, privileged=True)


def access(permissions: Sequence[Permission], caller: Caller) -> int:
    """READ, WRITE and OWNER bits of what `caller` may do."""
    them = (caller.domid, caller.target)
    if caller.privileged or permissions[0].domid in them:
        return ALL
    for permission in permissions[1:]:
        if permission.domid in them and not permission.ignored:
            return permission.access
    return permissions[0].access


def parse(text: str) -> Permission:
    """The Permission that a text like `r5` stands for; the number may be hexadecimal or octal, as in C. Raises
    StoreError(EINVAL)."""
    letter, number = text[:1], NUMBER.fullmatch(text[1:])
    if letter not in LETTERS or number is None:
        raise StoreError("EINVAL")
    octal = number[1].startswith("0") and number[1][1:].isdigit()
    return Permission(unsigned(int(text[1:], 8 if octal else 0)), LETTERS[letter])


def ignoring(permissions: Permissions, domid: int) -> Permissions:
    """The permissions, with those of domain `domid` ignored, since it does not exist. (The owner's stays.)"""
    return (
        permissions[0],
        *(each._replace(ignored=True) if each.domid == domid else each for each in permissions[1:]),
    )
