# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do what with a node.

A node carries a list of permissions. The first names its owner, who may do everything, and says what anybody
not in the list may do; each other one grants a domain reading, writing, both or nothing. Domain 0 may do
everything.

Not modelled: SET_TARGET (a device model that shares its guest's rights).

Read beside it: perm_for_conn in tools/xenstore/xenstored_core.c, docs/misc/xenstore.txt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

READ, WRITE, OWNER = 1, 2, 4
ALL = READ | WRITE | OWNER
LETTERS = {"n": 0, "r": READ, "w": WRITE, "b": READ | WRITE}
NAMES = {access: letter for letter, access in LETTERS.items()}
MAX_PERMS = 5  # what an unprivileged domain may put on a node


class StoreError(Exception):
    """A request's answer is an error: `name` is one of xs_wire.XSD_ERRORS."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Permission(NamedTuple):
    """What domain `domid` may do."""

    domid: int
    access: int

    def __str__(self) -> str:
        return f"{NAMES[self.access]}{self.domid}"


Permissions = tuple[Permission, ...]


class Caller(NamedTuple):
    """On whose behalf an operation is done."""

    domid: int
    privileged: bool = False


DOM0 = Caller(0, privileged=True)


def access(permissions: Sequence[Permission], caller: Caller) -> int:
    """READ, WRITE and OWNER bits of what `caller` may do."""
    if caller.privileged or permissions[0].domid == caller.domid:
        return ALL
    for permission in permissions[1:]:
        if permission.domid == caller.domid:
            return permission.access
    return permissions[0].access


def parse(text: str) -> Permission:
    """`r5` as a Permission. Raises StoreError(EINVAL)."""
    if not re.fullmatch(r"[nrwb]\d{1,5}", text, re.ASCII):
        raise StoreError("EINVAL")
    return Permission(int(text[1:]), LETTERS[text[0]])
