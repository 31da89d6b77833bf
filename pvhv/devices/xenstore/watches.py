# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches: a path, a token, and the words in which a change below that path is told.

A watch hears of a change at its path or below it, and when a parent of its path is removed. A watch set with
a relative path hears relative ones. `@introduceDomain` and `@releaseDomain` are no nodes but things that
happen.

Read beside it: tools/xenstore/xenstored_watch.c.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_WATCHES = 128  # of one unprivileged domain


class Watch(NamedTuple):
    """`prefix` is the part of the path a relative watch does not want to hear."""

    path: str
    token: bytes
    prefix: str = ""

    def concerns(self, path: str, exact: bool) -> bool:
        """Whether a change at `path` is told to this watch; an `exact` one only if it is the very path."""
        if exact or self.path.startswith("@"):
            return path == self.path
        if self.path == "/":
            return not path.startswith("@")
        return path == self.path or path.startswith(self.path + "/")

    def told(self, path: str) -> str:
        """`path` as this watch wants to hear it."""
        return path[len(self.prefix) :].lstrip("/") if self.prefix else path
